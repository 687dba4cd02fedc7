"""Discovery, isolation and activation of plugins, and the typed fronts of the hook calls.

Each plugin is loaded in its own try: a broken one is recorded with its version and error, and the rest works. A run gets its own
small hook manager (`Manager.verbs`), in which a verb is answered by the provider of the chosen option alone, while wrappers and
notices of every plugin that the run selects take part. With a plugin installed and unused, no code of its hooks runs.
"""

from __future__ import annotations

import functools
import inspect
import os
import traceback as tb
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

import pluggy

from . import hookspecs
from .errors import PluginError
from .hookspecs import PROJECT, VERBS
from .info import HOOK_API, PluginInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .context import RunContext
    from .objects import Data, Decoder, LoadedModel, Metrics, Objective, TrainResult
    from .results import Result

__all__ = ["CORE_PROVIDER", "ENTRY_POINTS", "Manager", "PluginRecord", "Verbs", "manager", "suggest"]

CORE_PROVIDER = "hf"
ENTRY_POINTS = "fascicle.plugins"
HOOK_NAMES = tuple(name for name in dir(hookspecs) if name.startswith("fascicle_"))
GROUPS = (*VERBS, "experiment")


def suggest(word: str, known: Iterable[str], *, lead: str = " Did you mean") -> str:
    """` Did you mean 'a'?`, or nothing where no known word is near.

    >>> suggest("trainin", ["training", "data"])
    " Did you mean 'training'?"
    """
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"{lead} {' or '.join(map(repr, near))}?" if near else ""


@dataclass(kw_only=True)
class PluginRecord:
    """One discovered plugin, loaded or not, and what is wrong with it."""

    name: str
    dist: str
    version: str
    value: str
    """The entry point: a module, or `module:object`."""
    status: Literal["ok", "broken", "blocked", "incompatible"] = "ok"
    error: str = ""
    traceback: str = ""
    exception: BaseException | None = None
    info: PluginInfo | None = None
    plugin: object | None = None
    hooks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Loaded, but not as its author meant: a misspelt or undecorated hook, a name that does not fit."""


def _words(variable: str) -> list[str] | None:
    value = os.environ.get(variable)
    return None if value is None else [word.strip() for word in value.split(",") if word.strip()]


def _folder(package: str) -> Path:
    """Where a package lies; as importlib.resources would say, which is slow to import."""
    return Path(next(iter(import_module(package).__path__)))


def _new_manager() -> pluggy.PluginManager:
    pm = pluggy.PluginManager(PROJECT)
    pm.add_hookspecs(hookspecs)
    return pm


def _load(entry: EntryPoint, pm: pluggy.PluginManager) -> PluginRecord:
    dist = entry.dist
    record = PluginRecord(
        name=entry.name,
        dist=dist.name if dist is not None else "?",
        version=dist.version if dist is not None else "?",
        value=entry.value,
    )
    allowed, blocked = _words("FASCICLE_PLUGINS"), _words("FASCICLE_DISABLE_PLUGINS") or []
    if (allowed is not None and entry.name not in allowed) or entry.name in blocked:
        record.status, record.error = "blocked", "blocked by FASCICLE_PLUGINS or FASCICLE_DISABLE_PLUGINS"
        return record
    try:
        record.plugin = entry.load()
        _inspect(record, pm)
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises must not take the others down
        record.status, record.exception = "broken", error
        record.error, record.traceback = f"{type(error).__name__}: {error}", tb.format_exc()
        record.plugin = None
    return record


def _inspect(record: PluginRecord, pm: pluggy.PluginManager | None = None) -> None:
    """Check hooks and information of a loaded plugin; raise what makes it unusable, note what only looks wrong.

    `pm` is an empty manager, and is left empty: reading the hooks takes longer than looking at a plugin.
    """
    pm = pm or _new_manager()
    pm.register(record.plugin, record.name)
    try:
        _judge(record, pm)
    finally:
        pm.unregister(record.plugin)


def _judge(record: PluginRecord, pm: pluggy.PluginManager) -> None:
    callers = {caller.name: caller for caller in pm.get_hookcallers(record.plugin) or []}
    record.hooks = sorted(name for name, caller in callers.items() if caller.has_spec())
    record.problems += [
        f"hook {name!r} is not one of fascicle's.{suggest(name, HOOK_NAMES)}"
        for name, caller in callers.items()
        if not caller.has_spec()
    ]
    record.problems += [
        f"{name!r} has the name of a hook but lacks @hookimpl"
        for name in HOOK_NAMES
        if name not in callers and inspect.isroutine(getattr(record.plugin, name, None))
    ]
    if "fascicle_plugin_info" not in record.hooks:
        raise PluginError(f"plugin {record.name!r} has no hook fascicle_plugin_info; it must return a PluginInfo")
    answers = pm.hook.fascicle_plugin_info()
    if len(answers) != 1 or not isinstance(answers[0], PluginInfo):
        raise PluginError(f"fascicle_plugin_info of {record.name!r} must return a PluginInfo, got {answers!r}")
    info = record.info = answers[0]
    if info.name != record.name:
        record.problems.append(f"PluginInfo.name is {info.name!r}, the entry point is named {record.name!r}")
    for name in ("fascicle_config_packages", "fascicle_commands"):
        getattr(pm.hook, name)()  # what raises here makes this plugin broken, not every command
    for packages in pm.hook.fascicle_config_packages():
        for package in packages:
            _folder(package)
    if info.hook_api != HOOK_API:
        record.status = "incompatible"
        record.error = f"written for hook version {info.hook_api}, this core has {HOOK_API}; upgrade one of them"


class Manager:
    """Every plugin of the environment. Use `manager()`; a test may build one from records of its own."""

    def __init__(self, records: Iterable[PluginRecord]) -> None:
        self.plugins = sorted(records, key=lambda record: record.name)
        self._usable = {record.name: record for record in self.plugins if record.status == "ok"}
        self._pm = _new_manager()
        for name, record in self._usable.items():
            self._pm.register(record.plugin, name)

    @classmethod
    def discover(cls) -> Manager:
        """Load the core's provider and every plugin that the environment offers, each in isolation.

        Raises:
            PluginError: with `FASCICLE_STRICT_PLUGINS=1`, at the first plugin that is broken or looks wrong.
        """
        core = PluginRecord(name=CORE_PROVIDER, dist="fascicle", version=_core_version(), value="fascicle.hf.plugin")
        core.plugin, pm = import_module(core.value), _new_manager()
        _inspect(core, pm)
        records: dict[str, PluginRecord] = {core.name: core}
        for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: (e.name, e.value)):
            if (other := records.get(entry.name)) is not None:
                if other.value != entry.value:
                    other.problems.append(f"the name is claimed by {entry.value!r} too, which is not loaded")
                continue
            records[entry.name] = _load(entry, pm)
        if os.environ.get("FASCICLE_STRICT_PLUGINS") == "1":
            for record in records.values():
                if record.status in ("broken", "incompatible") or record.problems:
                    reason = record.error or "; ".join(record.problems)
                    raise PluginError(f"plugin {record.name!r} {record.version}: {reason}") from record.exception
        return cls(records.values())

    # ---- typed fronts of the discovery hooks ----

    def get(self, name: str) -> PluginRecord | None:
        """The record of a plugin, whatever its status."""
        return next((record for record in self.plugins if record.name == name), None)

    def usable(self, name: str) -> PluginRecord:
        """The record of a plugin that works.

        Raises:
            PluginError: it is not installed (says what to install), blocked, incompatible, or broken (raised from its own error).
        """
        if (record := self._usable.get(name)) is not None:
            return record
        if (record := self.get(name)) is None:
            near = suggest(name, self._usable)
            raise PluginError(
                f"plugin {name!r} is not installed.{near} Install it with: pip install fascicle-{name}"
                f" (installed: {', '.join(self._usable)})"
            )
        if record.status == "broken":
            raise PluginError(
                f"plugin {name!r} ({record.dist} {record.version}) is installed but broken: {record.error}"
            ) from record.exception
        raise PluginError(f"plugin {name!r} ({record.dist} {record.version}) cannot be used: {record.error}")

    def infos(self) -> dict[str, PluginInfo]:
        """Plugin name to what it says of itself; usable plugins only."""
        return {name: cast("PluginInfo", record.info) for name, record in self._usable.items()}

    def config_packages(self) -> dict[str, list[str]]:
        """Plugin name to the packages that hold its option files, sorted by plugin name, the core's own first."""
        packages: dict[str, list[str]] = {CORE_PROVIDER: ["fascicle.conf"]}
        for name in sorted(self._usable):
            if name != CORE_PROVIDER and (answer := self._ask(name, "fascicle_config_packages")):
                packages[name] = list(answer)
        return packages

    def commands(self) -> dict[str, tuple[str, str]]:
        """Command to (plugin, `module:function`).

        Raises:
            PluginError: two plugins claim one command; names both.
        """
        found: dict[str, tuple[str, str]] = {}
        for name in sorted(self._usable):
            for command, target in (self._ask(name, "fascicle_commands") or {}).items():
                if command in found:
                    raise PluginError(
                        f"the command {command!r} is claimed by two plugins: {found[command][0]} and {name}"
                    )
                found[command] = (name, target)
        return found

    def option_owners(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """(group, option) to every (plugin, package) that ships a file for it."""
        owners: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for plugin, packages in self.config_packages().items():
            for package in packages:
                root = _folder(package)
                for group in GROUPS:
                    folder = root / group
                    if folder.is_dir():
                        for file in sorted(folder.iterdir(), key=lambda f: f.name):
                            if file.name.endswith(".yaml"):
                                owners.setdefault((group, file.name[: -len(".yaml")]), []).append((plugin, package))
        return owners

    def refuse_clashes(self, chosen: Mapping[str, str]) -> None:
        """Raise for a chosen option that two plugins offer (Hydra itself shadows silently).

        Raises:
            PluginError: names the option and both plugins.
        """
        owners = self.option_owners()
        for group, option in chosen.items():
            claims = owners.get((group, option), [])
            if len(claims) > 1:
                names = " and ".join(f"{plugin} ({package})" for plugin, package in claims)
                raise PluginError(
                    f"{group}={option} is offered by two plugins: {names}. Block one with FASCICLE_DISABLE_PLUGINS=..."
                )

    def schema(self, group: str, kind: str, provider: str) -> type:
        """The dataclass that types an option.

        Raises:
            PluginError: no such provider, or the provider has no such kind.
        """
        record = self.usable(provider)
        options = cast("PluginInfo", record.info).options
        if (target := options.get(f"{group}/{kind}")) is None:
            kinds = [key.split("/", 1)[1] for key in options if key.startswith(f"{group}/")]
            raise PluginError(
                f"{group}.kind={kind!r}: plugin {provider!r} has no such kind of {group}.{suggest(kind, kinds)}"
                f" It has: {', '.join(kinds) or 'none'}"
            )
        module, _, name = target.partition(":")
        try:
            return cast("type", getattr(import_module(module), name))
        except Exception as error:
            raise PluginError(f"plugin {provider!r}: its schema {target!r} cannot be imported: {error}") from error

    def verbs(self, providers: Mapping[str, str], also: Iterable[str] = ()) -> Verbs:
        """The hooks of one run: `providers` maps group to plugin, `also` names further active plugins."""
        return Verbs(self, dict(providers), {*providers.values(), *also})

    def _ask(self, name: str, hook: str) -> Any:
        others = [record.plugin for other, record in self._usable.items() if other != name]
        answers = self._pm.subset_hook_caller(hook, others)()
        return answers[0] if answers else None


class Verbs:
    """The hook calls of one run, typed. See the module's docstring for who answers."""

    def __init__(self, manager: Manager, providers: dict[str, str], active: set[str]) -> None:
        self.providers = providers
        self.active = sorted(active)
        self._pm = _new_manager()
        if os.environ.get("FASCICLE_TRACE_PLUGINS") == "1":
            self._pm.add_hookcall_monitoring(self._trace, lambda *_: None)
        mine = {verb: providers.get(group) for group, verb in VERBS.items()}
        for name in self.active:
            self._pm.register(_active_part(manager.usable(name).plugin, name, mine), name)

    @staticmethod
    def _trace(hook_name: str, hook_impls: Any, kwargs: Any) -> None:
        import logging

        logging.getLogger("fascicle.plugins").warning(
            "hook %s answered by %s", hook_name, [impl.plugin_name for impl in hook_impls]
        )

    def _verb(self, group: str, **arguments: Any) -> Any:
        name, provider = VERBS[group], self.providers[group]
        caller = getattr(self._pm.hook, name)
        if not any(i.plugin_name == provider and not (i.wrapper or i.hookwrapper) for i in caller.get_hookimpls()):
            raise PluginError(f"plugin {provider!r} provides options of {group!r} but does not implement {name}")
        if (answer := caller(**arguments)) is None:
            raise PluginError(f"plugin {provider!r} answered None to {name}; a provider must answer")
        return answer

    def load_model(self, cfg: Any, run: RunContext) -> LoadedModel:
        return cast("LoadedModel", self._verb("model", cfg=cfg, run=run))

    def load_data(self, cfg: Any, run: RunContext) -> Data:
        return cast("Data", self._verb("data", cfg=cfg, run=run))

    def objective(self, cfg: Any, run: RunContext) -> Objective:
        return cast("Objective", self._verb("objective", cfg=cfg, run=run))

    def train(self, cfg: Any, model: LoadedModel, data: Data, objective: Objective, run: RunContext) -> TrainResult:
        answer = self._verb("training", cfg=cfg, model=model, data=data, objective=objective, run=run)
        return cast("TrainResult", answer)

    def decoder(self, cfg: Any, run: RunContext) -> Decoder:
        return cast("Decoder", self._verb("decoding", cfg=cfg, run=run))

    def evaluate(self, cfg: Any, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
        answer = self._verb("evaluation", cfg=cfg, model=model, data=data, decoder=decoder, run=run)
        return cast("Metrics", answer)

    def started(self, config: dict[str, Any], run: RunContext) -> None:
        self._pm.hook.fascicle_run_started(config=config, run=run)

    def finished(self, config: dict[str, Any], run: RunContext, result: Result) -> None:
        self._pm.hook.fascicle_run_finished(config=config, run=run, result=result)

    def failed(self, config: dict[str, Any], run: RunContext, error: BaseException) -> None:
        self._pm.hook.fascicle_run_failed(config=config, run=run, error=error)


def _active_part(plugin: object, name: str, providers: Mapping[str, str | None]) -> SimpleNamespace:
    """The hooks of `plugin` that take part in a run: all but the plain verbs of which it is not the chosen provider."""
    part = SimpleNamespace()
    for attribute in dir(plugin):
        method = getattr(plugin, attribute, None)
        opts = getattr(method, f"{PROJECT}_impl", None) if inspect.isroutine(method) else None
        if isinstance(opts, dict):
            verb = opts.get("specname") or attribute
            wraps = opts.get("wrapper") or opts.get("hookwrapper")
            if wraps or providers.get(verb, name) == name:
                setattr(part, attribute, method)
    return part


def _core_version() -> str:
    from . import __version__

    return __version__


@functools.cache
def manager() -> Manager:
    """The plugins of this environment, discovered once per process; `manager.cache_clear()` looks again."""
    return Manager.discover()
