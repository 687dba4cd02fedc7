"""Every mistake in a configuration is named with its key, what came, and what was expected; before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Interval

from fascicle import ConfigError, PluginError
from fascicle.config import check, check_option, schema_fields
from fascicle.info import HOOK_API, PluginInfo
from fascicle.plugins import Manager, PluginRecord


@dataclass(kw_only=True)
class Inner:
    rank: Annotated[int, Ge(1)] = 8
    """Rank."""
    names: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Toy:
    path: str
    """A file."""
    rate: Annotated[float, Interval(gt=0, le=1)] = 0.5
    """Between 0 and 1."""
    steps: Annotated[int, Ge(1)] | None = None
    mode: Literal["fast", "exact"] = "fast"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.mode == "exact" and self.steps is None:
            raise ValueError("mode=exact needs steps")


def toy_manager() -> Manager:
    info = PluginInfo(name="toy", title="t", options={"training/toy": f"{__name__}:Toy"}, hook_api=HOOK_API)
    return Manager([PluginRecord(name="toy", dist="fascicle-toy", version="1", value="x", info=info, plugin=object())])


def checked(**keys: object) -> Toy:
    # the schema is handed over by the manager, as it would be for an installed plugin
    manager = toy_manager()
    manager.schema = lambda group, kind, provider: Toy  # type: ignore[method-assign]
    node = {"provider": "toy", "kind": "toy", **keys}
    return check_option("training", node, "toy", manager).value


def test_a_good_option_becomes_an_instance_of_its_dataclass() -> None:
    value = checked(path="a", rate=1, inner={"rank": 2, "names": ["q"]})
    assert value == Toy(path="a", rate=1.0, inner=Inner(rank=2, names=["q"]))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"path": "a", "rte": 0.1}, ["training.rte", "no such key", "Did you mean 'rate'"]),
        ({"path": "a", "inner": {"rnk": 1}}, ["training.inner.rnk", "Did you mean 'rank'"]),
        ({"path": "a", "rate": 1.5}, ["training.rate", "less than or equal to 1", "1.5"]),
        ({"path": "a", "rate": "much"}, ["training.rate", "number", "'much'", "str"]),
        ({"path": "a", "steps": 0}, ["training.steps", "greater than or equal to 1", "got 0"]),
        ({"path": "a", "steps": True}, ["training.steps", "integer", "True"]),
        ({"path": "a", "mode": "slow"}, ["training.mode", "'fast' or 'exact'", "'slow'"]),
        ({"path": "a", "inner": {"rank": "8"}}, ["training.inner.rank", "integer", "'8'"]),
        ({"path": "a", "inner": {"names": ["q", 3]}}, ["training.inner.names.1", "string", "3"]),
        ({}, ["training.path", "a value is required"]),
        ({"path": "a", "mode": "exact"}, ["training", "mode=exact needs steps"]),
    ],
)
def test_a_bad_option_is_named(keys: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        checked(**keys)
    for word in words:
        assert word in str(raised.value)


def test_all_mistakes_of_an_option_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        checked(path="a", rate=2, mode="slow")
    assert "training.rate" in str(raised.value)
    assert "training.mode" in str(raised.value)


@pytest.mark.parametrize("missing", ["provider", "kind"])
def test_an_option_names_its_provider_and_kind(missing: str) -> None:
    node = {"provider": "hf", "kind": "hf_lora"}
    del node[missing]
    with pytest.raises(ConfigError, match=rf"training\.{missing}"):
        check_option("training", node, "x")


def test_an_option_must_be_chosen() -> None:
    with pytest.raises(ConfigError, match="an option must be chosen"):
        check_option("training", None, None)


def test_a_missing_plugin_says_what_to_install() -> None:
    with pytest.raises(PluginError, match="pip install fascicle-nowhere"):
        check_option("training", {"provider": "nowhere", "kind": "x"}, "x")


def test_an_unknown_kind_is_met_with_a_suggestion() -> None:
    with pytest.raises(PluginError, match="Did you mean 'hf_lora'"):
        check_option("training", {"provider": "hf", "kind": "hf_lorra"}, "x")


def test_unknown_top_level_keys_and_bad_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sede: no such key\. Did you mean 'seed'"):
        check({"sede": 1})
    with pytest.raises(ConfigError, match="seed"):
        check({"seed": -1})
    with pytest.raises(ConfigError, match=r"run\.resume"):
        check({"run": {"resume": "maybe"}})


def test_fields_carry_the_docstring_under_them() -> None:
    told = {f.name: f for f in schema_fields(Toy)}
    assert told["rate"].doc == "Between 0 and 1."
    assert told["rate"].default == 0.5
    assert told["path"].required
    assert not told["rate"].required


def test_a_key_of_an_option_that_has_none_says_to_choose_another_option() -> None:
    node = {"provider": "hf", "kind": "none", "epochs": 3}
    with pytest.raises(
        ConfigError, match=r"training\.epochs: the chosen option of training has no keys; choose another"
    ):
        check_option("training", node, "none")
