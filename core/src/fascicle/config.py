"""Typed, checked options: every error of a configuration is found here, before anything heavy is imported.

A configuration is six choices (one option per group), a seed, a name, and how to run it. Each option names its `provider` (the
plugin that answers) and its `kind` (the provider's dataclass that types it). YAML never names Python to import.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Lt

from .errors import ConfigError
from .hookspecs import VERBS
from .plugins import manager, suggest

if TYPE_CHECKING:
    from .plugins import Manager

__all__ = [
    "Checked",
    "Field",
    "Option",
    "ReportOptions",
    "RunOptions",
    "check",
    "check_option",
    "compose",
    "field_types",
    "schema_fields",
]

GROUPS = tuple(VERBS)


@dataclass(kw_only=True)
class RunOptions:
    """How to run, as opposed to what: none of these changes a result, so none is part of a run's identity."""

    root: str = "outputs"
    """Folder under which runs choose their own, `<root>/<name>/<label>-<hash>`."""
    dir: str | None = None
    """This run's folder, when you want to choose it."""
    label: str | None = None
    """Readable part of the folder's name; the overrides by default."""
    resume: bool = False
    """Continue the run of this configuration where it stopped; a finished one is returned as it is."""
    overwrite: bool = False
    """Delete what this run left earlier and start again."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; `auto` is float32. Mixed precision of training is `training.precision`."""
    threads: Annotated[int, Ge(1)] | None = None
    """CPU threads of torch; None leaves torch's choice."""
    plugins: list[str] = field(default_factory=list)
    """Plugins whose wrappers and notices take part although no chosen option is theirs."""


@dataclass(kw_only=True)
class ReportOptions:
    """What a report of this experiment should compare; no part of a run's identity."""

    baseline: str | None = None
    """The arm that the others are compared with, as `key=value`, e.g. `training=hf_lora`."""
    split_by: list[str] = field(default_factory=list)
    """Keys of which each value gets a table of its own, e.g. `data.task`."""


@dataclass(kw_only=True)
class _Top:
    seed: Annotated[int, Ge(0), Lt(2**32)] = 1
    name: str = "run"
    description: str = ""
    run: RunOptions = field(default_factory=RunOptions)
    report: ReportOptions = field(default_factory=ReportOptions)
    vars: dict[str, Any] = field(default_factory=dict)
    """Values that several options of an experiment share by interpolation (`${vars.budget}`); no keys of their own."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One chosen option, checked."""

    group: str
    name: str
    """The option file: `smollm2_135m`."""
    provider: str
    kind: str
    value: Any
    """Instance of the kind's dataclass."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A configuration in which every key is known, typed and in range."""

    options: Mapping[str, Option]
    seed: int
    name: str
    run: RunOptions
    raw: dict[str, Any]
    """What decides the result: the composed options and the seed."""
    config: dict[str, Any]
    """All of it, as a result keeps it."""
    choices: Mapping[str, str]
    identity: str
    """sha256 of `raw`: equal for two runs that must give the same result."""

    @property
    def providers(self) -> dict[str, str]:
        return {group: option.provider for group, option in self.options.items()}


@dataclass(frozen=True)
class Field:
    """One field of an option, for people: `fascicle list training/loradrop`."""

    name: str
    type: str
    default: Any
    doc: str
    required: bool


# ---- composing -----------------------------------------------------------------------------------------------------------


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose a configuration as `fascicle run OVERRIDES` would; plain dict, the options' names under `_choices`.

    Raises:
        ConfigError: an override that names no key or no option.
        PluginError: an option of a plugin that is missing or broken.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from .overrides import explain, open_keys
    from .searchpath import FascicleSearchPath

    Plugins.instance().register(FascicleSearchPath)
    try:
        with initialize_config_module("fascicle.conf", **hydra_version_base()):
            cfg = hydra_compose("config", overrides=open_keys(overrides), return_hydra_config=True)
            return plain(cfg, cfg.hydra.runtime.choices)
    except (HydraException, OmegaConfBaseException) as error:
        told = explain(error)
        raise told from (told.__cause__ or error)


def hydra_version_base() -> dict[str, Any]:
    """`version_base` is wanted by Hydra 1.3 and deprecated in 1.4."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def plain(cfg: Any, choices: Mapping[str, Any]) -> dict[str, Any]:
    """A composed DictConfig as a plain dict, interpolations resolved, Hydra's own node dropped, choices added.

    Raises:
        ConfigError: a mandatory value (`???`) that nothing has set, an interpolation that leads nowhere.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    ours = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    try:
        config = typing.cast("dict[str, Any]", OmegaConf.to_container(ours, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        key = error.full_key or "a key"
        raise ConfigError(f"{key}: a value is required; set it with {key}=...") from error
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    config["_choices"] = {group: str(option) for group, option in choices.items() if not str(group).startswith("hydra")}
    return config


# ---- checking ------------------------------------------------------------------------------------------------------------


def check(config: Mapping[str, Any]) -> Checked:
    """Check a composed configuration whole: providers, kinds, keys, types and ranges.

    Raises:
        ConfigError: names the key, what came, and what was expected; all errors of an option at once.
        PluginError: a provider that is missing or broken, an option that two plugins offer.
    """
    plugins = manager()
    config = dict(config)
    choices: dict[str, str] = dict(config.pop("_choices", {}))
    experiment = config.pop("experiment", None)
    known = {*GROUPS, *(f.name for f in dataclasses.fields(_Top))}
    for key in config:
        if key not in known:
            raise ConfigError(f"{key}: no such key.{suggest(key, known)} Known keys: {', '.join(sorted(known))}")
    top = _validate(_Top, {key: value for key, value in config.items() if key not in GROUPS}, "")
    plugins.refuse_clashes(choices)
    options = {group: check_option(group, config.get(group), choices.get(group), plugins) for group in GROUPS}
    for name in top.run.plugins:
        plugins.usable(name)
    for group, option in options.items():  # defaults too: a key that is set to its default makes no other run
        config[group] = {"provider": option.provider, "kind": option.kind, **dataclasses.asdict(option.value)}
    raw = {key: value for key, value in config.items() if key not in ("run", "report", "description", "name", "vars")}
    if experiment is not None:
        raw["experiment"] = experiment
    return Checked(
        options=options,
        seed=top.seed,
        name=top.name,
        run=top.run,
        raw=raw,
        config=config,
        choices=choices,
        identity=hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest(),
    )


def check_option(group: str, node: Any, chosen: str | None, plugins: Manager | None = None) -> Option:
    """Check one option: `provider` and `kind` exist, and every other key fits the kind's dataclass.

    Raises:
        ConfigError: no provider or kind, an unknown key, a wrong type, a value out of range.
        PluginError: the provider is missing or broken, or has no such kind.
    """
    plugins = plugins or manager()
    if not isinstance(node, Mapping):
        raise ConfigError(f"{group}: an option must be chosen ({group}=...), got {node!r}; see: fascicle list {group}")
    node = dict(node)
    names = {}
    for key in ("provider", "kind"):
        value = node.pop(key, None)
        if not isinstance(value, str):
            raise ConfigError(f"{group}.{key}: every option names its {key} (a string), got {value!r}")
        names[key] = value
    schema = plugins.schema(group, names["kind"], names["provider"])
    value = _validate(schema, node, group)
    return Option(group=group, name=chosen or names["kind"], value=value, **names)


@cache
def _adapter(schema: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def _validate(schema: type, node: Mapping[str, Any], path: str) -> Any:
    """An instance of the dataclass `schema` from plain data; unknown keys, types and ranges checked."""
    from pydantic import ValidationError

    _refuse_unknown(schema, node, path)
    try:
        # strict as JSON: a mapping may become a dataclass, a 1 a float, and nothing else is converted
        return _adapter(schema).validate_json(json.dumps(node), strict=True)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, node, path))) from error


def _refuse_unknown(schema: type, node: Mapping[str, Any], path: str) -> None:
    hints = typing.get_type_hints(schema)
    for key, value in node.items():
        if key not in hints:
            where = f"{path}.{key}" if path else key
            known = [f.name for f in dataclasses.fields(schema)]
            if not known:
                raise ConfigError(
                    f"{where}: the chosen option of {path} has no keys; choose another ({path}=..., see: fascicle list {path})"
                )
            raise ConfigError(f"{where}: no such key.{suggest(key, known)} Known keys: {', '.join(known)}")
        inner = next((t for t in _members(hints[key]) if dataclasses.is_dataclass(t)), None)
        if inner is not None and isinstance(value, Mapping):
            _refuse_unknown(typing.cast("type", inner), value, f"{path}.{key}" if path else key)


def _members(hint: Any) -> list[Any]:
    """The classes that an annotation allows: `X | None` gives X and None."""
    arguments = typing.get_args(hint)
    return [hint] if not arguments else [m for argument in arguments for m in _members(argument)]


def _explain(error: Any, node: Any, path: str) -> list[str]:
    """One line per wrong key: where, what came, what was expected."""
    wanted: dict[str, tuple[Any, list[str]]] = {}
    for problem in error.errors(include_url=False):
        keys, value = [], node
        for key in problem["loc"]:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                if problem["type"] == "missing":
                    keys.append(str(key))
                break
            keys.append(str(key))
        where = ".".join([*([path] if path else []), *keys])
        if problem["type"] == "missing":
            wanted[where] = (None, ["a value is required"])
            continue
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        wanted.setdefault(where, (problem["input"], []))[1].append(message)
    lines = []
    for where, (came, messages) in wanted.items():
        got = "" if messages == ["a value is required"] else f", got {came!r} ({type(came).__name__})"
        if where == path or not where:
            got = ""  # a rule over several keys names them itself
        lines.append(f"{where or 'config'}: {' or '.join(dict.fromkeys(messages))}{got}")
    return lines


# ---- telling people what an option has -------------------------------------------------------------------------------------


def schema_fields(schema: type) -> list[Field]:
    """The fields of an option's dataclass with the docstring under each.

    >>> [f.name for f in schema_fields(ReportOptions)]
    ['baseline', 'split_by']
    """
    docs = _field_docs(schema)
    rows = []
    for f in dataclasses.fields(schema):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        rows.append(Field(f.name, _type_name(f.type), None if required else default, docs.get(f.name, ""), required))
    return rows


def field_types(schema: type) -> dict[str, list[Any]]:
    """Field to the members of its annotation, the values of a `Literal` among them.

    >>> field_types(RunOptions)["dir"] == [str, type(None)]
    True
    """
    hints = typing.get_type_hints(schema)
    return {f.name: _members(hints[f.name]) for f in dataclasses.fields(schema)}


def _type_name(hint: Any) -> str:
    text = hint if isinstance(hint, str) else str(hint)
    return text.replace("typing.", "")


def _field_docs(schema: type) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    docs: dict[str, str] = {}
    for cls in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        statements = typing.cast("ast.ClassDef", body).body
        for one, two in pairwise(statements):
            if (
                isinstance(one, ast.AnnAssign)
                and isinstance(one.target, ast.Name)
                and isinstance(two, ast.Expr)
                and isinstance(two.value, ast.Constant)
            ):
                docs[one.target.id] = inspect.cleandoc(str(two.value.value))
    return docs
