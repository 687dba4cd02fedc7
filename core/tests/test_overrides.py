"""What people type, and what they are told when it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fascicle import ConfigError, PluginError
from fascicle.config import check, compose
from fascicle.overrides import close_keys, explain, known_plugins, missing_option, open_keys
from fascicle.plugins import manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if nothing but the core were installed."""
    monkeypatch.setattr("fascicle.plugins.entry_points", lambda **_: [])
    manager.cache_clear()
    yield
    manager.cache_clear()


def test_only_dotted_keys_of_ours_are_opened() -> None:
    typed = [
        "training.a=1",
        "run.dir=x",
        "training=none",
        "+data.x=1",
        "~run.label",
        "hydra.verbose=true",
        "-m",
        "other.x=1",
    ]
    assert open_keys(typed) == ["++training.a=1", "++run.dir=x", *typed[2:]]


def test_closing_gives_back_what_was_typed() -> None:
    typed = ["training.a=[1,2]", "seed=1", "+data.x=1", "++hydra.verbose=true"]
    assert close_keys(open_keys(typed)) == typed


def test_a_key_that_no_schema_has_is_named_with_its_nearest() -> None:
    with pytest.raises(ConfigError, match=r"training\.learning_rat: no such key\. Did you mean 'learning_rate'"):
        check(compose(["training=hf_trainer", "training.learning_rat=1"]))


def test_an_unknown_top_level_key_is_named_with_its_nearest() -> None:
    with pytest.raises(ConfigError, match=r"sead: no such key\. Did you mean 'seed'"):
        compose(["sead=2"])


def test_an_unknown_group_is_named_with_its_nearest() -> None:
    with pytest.raises(ConfigError, match=r"trainin: no such key\. Did you mean 'training'"):
        compose(["trainin=hf_lora"])


def test_a_misspelt_option_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"training=hf_loar: no such option\. Did you mean 'hf_lora'.*none") as caught:
        compose(["training=hf_loar"])
    assert "hf_trainer" in str(caught.value)


@pytest.mark.usefixtures("without_plugins")
@pytest.mark.parametrize("option", ["loradrop", "loradrop_sweep", "lora_drop", "LoRA-drop"])
def test_an_option_of_a_plugin_that_is_not_installed_names_the_package(option: str) -> None:
    error = missing_option("training", option, ["hf_lora"])
    assert isinstance(error, PluginError)
    assert "pip install fascicle-loradrop" in str(error)


@pytest.mark.usefixtures("without_plugins")
def test_composing_says_so_too() -> None:
    with pytest.raises(PluginError, match="pip install fascicle-loradrop"):
        compose(["training=lora_drop"])


def test_an_option_of_a_broken_plugin_raises_the_plugins_own_error(fake_plugin: Callable[..., object]) -> None:
    fake_plugin("toy", code="import no_such_library")
    with pytest.raises(PluginError, match="broken: ModuleNotFoundError: No module named 'no_such_library'") as caught:
        compose(["training=toy"])
    assert isinstance(caught.value.__cause__, PluginError | ModuleNotFoundError)


def test_an_option_of_a_blocked_plugin_says_by_what(
    fake_plugin: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_plugin("toy", conf={"training/toy.yaml": "# Toy.\nprovider: toy\nkind: toy\n"})
    monkeypatch.setenv("FASCICLE_DISABLE_PLUGINS", "toy")
    manager.cache_clear()
    with pytest.raises(PluginError, match="FASCICLE_DISABLE_PLUGINS"):
        compose(["training=toy"])


def test_a_malformed_override_says_how_one_looks() -> None:
    with pytest.raises(ConfigError, match="An override is key=value"):
        compose(["training.learning_rate=[1,"])


def test_explain_keeps_the_cause_of_an_error_it_does_not_know() -> None:
    error = ValueError("")
    error.__cause__ = KeyError("deep")
    assert "deep" in str(explain(error))


def test_every_known_plugin_names_its_distribution() -> None:
    assert all(entry["dist"].startswith("fascicle-") and entry["title"] for entry in known_plugins().values())


def test_a_key_set_to_its_default_makes_no_other_run() -> None:
    plain, said = (check(compose(["training=hf_trainer", *more])) for more in ([], ["training.schedule=linear"]))
    assert plain.identity == said.identity
    assert plain.config["training"]["schedule"] == "linear"
