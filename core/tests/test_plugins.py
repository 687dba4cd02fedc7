"""Config selects, hooks provide: discovery isolates, and a run hears only the plugins that it chose."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fascicle import PluginError, PluginInfo, hookimpl
from fascicle import plugins as plugins_module
from fascicle.plugins import Manager, PluginRecord, _inspect, suggest


def record(name: str, plugin: object, **rest: Any) -> PluginRecord:
    made = PluginRecord(
        name=name, dist=f"fascicle-{name}", version="1.2", value=f"{name}_module", plugin=plugin, **rest
    )
    _inspect(made)
    return made


def info_hook(name: str, **rest: Any) -> Any:
    @hookimpl
    def fascicle_plugin_info() -> PluginInfo:
        return PluginInfo(name=name, title=name, **rest)

    return fascicle_plugin_info


def plugin(name: str, info: dict[str, Any] | None = None, **hooks: Any) -> ModuleType:
    module = ModuleType(f"{name}_module")
    vars(module).update(hooks, fascicle_plugin_info=info_hook(name, **(info or {})))
    return module


def answering(text: str) -> Any:
    @hookimpl
    def fascicle_load_model(cfg: Any, run: Any) -> str:
        return text

    return fascicle_load_model


@hookimpl(wrapper=True, specname="fascicle_load_model")
def shout(cfg: Any, run: Any) -> Any:
    answer = yield
    return answer.upper()


def test_only_the_provider_answers_even_when_others_are_active() -> None:
    manager = Manager([record(n, plugin(n, fascicle_load_model=answering(n))) for n in ("one", "two", "zed")])
    verbs = manager.verbs({"model": "one", "data": "two"}, also=["zed"])
    assert verbs.load_model(None, None) == "one"  # type: ignore[comparison-overlap,arg-type]


def test_wrappers_run_for_active_plugins_only() -> None:
    wrapping = plugin("wrap", shout=shout)
    manager = Manager([record("one", plugin("one", fascicle_load_model=answering("one"))), record("wrap", wrapping)])
    assert manager.verbs({"model": "one"}).load_model(None, None) == "one"  # type: ignore[comparison-overlap,arg-type]
    active = manager.verbs({"model": "one"}, also=["wrap"])
    assert active.load_model(None, None) == "ONE"  # type: ignore[comparison-overlap,arg-type]


def test_a_plugin_may_answer_a_verb_and_wrap_it_for_others() -> None:
    both = plugin("both", fascicle_load_model=answering("both"), shout=shout)
    manager = Manager([record("one", plugin("one", fascicle_load_model=answering("one"))), record("both", both)])
    assert manager.verbs({"model": "one"}, also=["both"]).load_model(None, None) == "ONE"  # type: ignore[comparison-overlap,arg-type]
    assert manager.verbs({"model": "both"}).load_model(None, None) == "BOTH"  # type: ignore[comparison-overlap,arg-type]


def test_notices_reach_active_plugins_only() -> None:
    heard: list[str] = []

    def hearing(name: str) -> Any:
        @hookimpl
        def fascicle_run_started(config: Any, run: Any) -> None:
            heard.append(name)

        return fascicle_run_started

    manager = Manager([record(n, plugin(n, fascicle_run_started=hearing(n))) for n in ("one", "two")])
    manager.verbs({"model": "one"}).started({}, None)  # type: ignore[arg-type]
    assert heard == ["one"]


def test_a_provider_without_the_verb_or_with_no_answer_is_named() -> None:
    silent = plugin("silent", fascicle_load_model=answering(None))  # type: ignore[arg-type]
    manager = Manager([record("empty", plugin("empty")), record("silent", silent)])
    with pytest.raises(
        PluginError, match="'empty' provides options of 'model' but does not implement fascicle_load_model"
    ):
        manager.verbs({"model": "empty"}).load_model(None, None)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="'silent' answered None"):
        manager.verbs({"model": "silent"}).load_model(None, None)  # type: ignore[arg-type]


def test_misspelt_and_undecorated_hooks_are_noted() -> None:
    @hookimpl
    def fascicle_lode_model(cfg: Any, run: Any) -> None: ...

    def fascicle_train(cfg: Any) -> None: ...

    made = record("odd", plugin("odd", fascicle_lode_model=fascicle_lode_model, fascicle_train=fascicle_train))
    assert any("fascicle_lode_model" in p and "Did you mean 'fascicle_load_model'" in p for p in made.problems)
    assert any("'fascicle_train' has the name of a hook but lacks @hookimpl" in p for p in made.problems)


def test_another_hook_version_is_incompatible_and_says_so() -> None:
    made = record("old", plugin("old", info={"hook_api": 0}))
    assert made.status == "incompatible"
    with pytest.raises(PluginError, match="hook version 0"):
        Manager([made]).usable("old")


def test_two_plugins_with_one_command_are_both_named() -> None:
    @hookimpl
    def fascicle_commands() -> dict[str, str]:
        return {"show": "x:y"}

    manager = Manager([record(n, plugin(n, fascicle_commands=fascicle_commands)) for n in ("one", "two")])
    with pytest.raises(PluginError, match="'show' is claimed by two plugins: one and two"):
        manager.commands()


class FakeEntry:
    """An entry point that loads what the test says."""

    def __init__(self, name: str, load: Any) -> None:
        self.name, self.value, self.load = name, f"{name}_module", load
        self.dist = SimpleNamespace(name=f"fascicle-{name}", version="9.9")


def broken() -> object:
    raise RuntimeError("no such library")


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = [FakeEntry("bad", broken), FakeEntry("good", lambda: plugin("good"))]
    monkeypatch.setattr(plugins_module, "entry_points", lambda **_: found)
    for variable in ("FASCICLE_PLUGINS", "FASCICLE_DISABLE_PLUGINS", "FASCICLE_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    return found


@pytest.mark.usefixtures("entries")
def test_a_broken_plugin_leaves_the_others_alone_and_raises_its_own_error_when_chosen() -> None:
    manager = Manager.discover()
    assert {r.name: r.status for r in manager.plugins} == {"hf": "ok", "good": "ok", "bad": "broken"}
    with pytest.raises(
        PluginError, match=r"'bad' \(fascicle-bad 9\.9\) is installed but broken.*no such library"
    ) as raised:
        manager.usable("bad")
    assert isinstance(raised.value.__cause__, RuntimeError)


@pytest.mark.usefixtures("entries")
@pytest.mark.parametrize(
    ("variable", "value", "statuses"),
    [
        ("FASCICLE_PLUGINS", "good", {"good": "ok", "bad": "blocked"}),
        ("FASCICLE_PLUGINS", "", {"good": "blocked", "bad": "blocked"}),
        ("FASCICLE_DISABLE_PLUGINS", " bad , other", {"good": "ok", "bad": "blocked"}),
    ],
)
def test_plugins_are_allowed_and_blocked_by_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, statuses: dict[str, str]
) -> None:
    monkeypatch.setenv(variable, value)
    manager = Manager.discover()
    assert {r.name: r.status for r in manager.plugins if r.name != "hf"} == statuses


@pytest.mark.usefixtures("entries")
def test_strict_mode_raises_at_the_first_broken_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASCICLE_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="bad"):
        Manager.discover()


@pytest.mark.parametrize("hook", ["fascicle_config_packages", "fascicle_commands"])
def test_a_plugin_whose_discovery_hook_raises_is_broken_alone(entries: list[Any], hook: str) -> None:
    def raising() -> None:
        raise RuntimeError("not today")

    entries.append(FakeEntry("late", lambda: plugin("late", **{hook: hookimpl(specname=hook)(raising)})))
    statuses = {r.name: r.status for r in Manager.discover().plugins}
    assert statuses == {"hf": "ok", "good": "ok", "bad": "broken", "late": "broken"}


def test_a_plugin_that_names_a_package_that_is_not_there_is_broken_alone(entries: list[Any]) -> None:
    @hookimpl
    def fascicle_config_packages() -> list[str]:
        return ["no_such_package.conf"]

    entries.append(FakeEntry("late", lambda: plugin("late", fascicle_config_packages=fascicle_config_packages)))
    late = Manager.discover().get("late")
    assert late is not None
    assert late.status == "broken"
    assert "no_such_package" in late.error


def test_one_name_claimed_by_two_distributions_is_noted(entries: list[Any]) -> None:
    twin = FakeEntry("good", lambda: plugin("good"))
    twin.value = "zz_other"
    entries.append(twin)
    good = Manager.discover().get("good")
    assert good is not None
    assert any("claimed by 'zz_other'" in p for p in good.problems)


def test_an_option_offered_twice_names_both_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager([record("one", plugin("one")), record("two", plugin("two"))])
    claims = {("training", "x"): [("one", "one.conf"), ("two", "two.conf")]}
    monkeypatch.setattr(manager, "option_owners", lambda: claims)
    manager.refuse_clashes({"training": "y"})
    with pytest.raises(
        PluginError, match=r"training=x is offered by two plugins: one \(one\.conf\) and two \(two\.conf\)"
    ):
        manager.refuse_clashes({"training": "x"})


def test_suggestions_are_near_or_absent() -> None:
    assert suggest("zzz", ["training"]) == ""
    assert "training" in suggest("trainng", ["training", "model"])


def test_an_entry_point_resolves_as_an_attribute_of_fascicle() -> None:
    import fascicle

    assert isinstance(EntryPoint("a", "b", "c"), EntryPoint)
    with pytest.raises(AttributeError, match="pip install fascicle-nowhere"):
        fascicle.nowhere  # noqa: B018
