"""The core's own provider passes the suite that it asks of every plugin, and the suite catches what it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from fascicle.testing import PluginConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CORE = Path(__file__).parents[1]


class TestCore(PluginConformance):
    plugin = "hf"
    project = CORE
    required: ClassVar[Mapping[str, Sequence[str]]] = {
        "model=hf_causal_lm": ["model.sources=[folder:here]"],
        "model=hf_classifier": ["model.sources=[folder:here]"],
        "model=hf_seq2seq": ["model.sources=[folder:here]"],
        "data=hf_text": ["data.sources=[here]"],
        "data=hf_classification": ["data.sources=[here]"],
        "data=hf_prompts": ["data.sources=[here]"],
        "data=hf_summarization": ["data.sources=[here]"],
        "decoding=assisted": ["decoding.draft=[folder:here]"],
    }


SCHEMA = '''
from dataclasses import dataclass

@dataclass(kw_only=True)
class Toy:
    """A toy."""
    depth: int = 1
    {doc}
'''
GOOD = {
    "options": {"training/toy": "Toy"},
    "schemas": SCHEMA.format(doc='"""How deep."""'),
    "conf": {"training/toy.yaml": "# A toy.\nprovider: toy\nkind: toy\ndepth: 3\n"},
}


def suite(**attributes: object) -> PluginConformance:
    cls = type("TestToy", (PluginConformance,), {"plugin": "toy", **attributes})
    return cls()


def only_option(kit: PluginConformance) -> object:
    from fascicle.optionfiles import option_files

    (file,) = (file for file in option_files() if file.plugin == kit.plugin)
    return file


def test_a_sound_plugin_passes(fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", **GOOD)
    kit = suite()
    option = only_option(kit)
    kit.test_it_loads_without_a_complaint()
    kit.test_names_agree()
    kit.test_it_is_typed()
    kit.test_config_packages_hold_group_folders_only()
    kit.test_hook_module_and_schemas_import_nothing_heavy()
    for test in (
        "option_name",
        "option_file_is_data_and_says_what_it_is",
        "composes_and_checks",
        "every_key_is_documented",
    ):
        getattr(kit, f"test_{test}")(option)
    kit.test_survives_a_yaml_round_trip(option)


WRONG: dict[str, tuple[dict[str, object], str, bool, str]] = {
    "a forgotten decorator": (
        {"more": "\ndef fascicle_train(cfg):\n    return 1\n"},
        "it_loads_without_a_complaint",
        False,
        "lacks @hookimpl",
    ),
    "torch at hook level": (
        {"more": "\nimport torch\n"},
        "hook_module_and_schemas_import_nothing_heavy",
        False,
        "torch",
    ),
    "torch at schema level": (
        {"schemas": "import torch\n" + SCHEMA.format(doc='""')},
        "hook_module_and_schemas_import_nothing_heavy",
        False,
        "torch",
    ),
    "a name without the prefix": (
        {"conf": {"training/other.yaml": "# A toy.\nprovider: toy\nkind: toy\ndepth: 3\n"}},
        "option_name",
        True,
        "must be 'toy' or begin with 'toy_'",
    ),
    "an option without a comment": (
        {"conf": {"training/toy.yaml": "provider: toy\nkind: toy\ndepth: 3\n"}},
        "option_file_is_data_and_says_what_it_is",
        True,
        "must begin with a comment",
    ),
    "python named in yaml": (
        {"conf": {"training/toy.yaml": "# A toy.\nprovider: toy\nkind: toy\n_target_: os.system\n"}},
        "option_file_is_data_and_says_what_it_is",
        True,
        "never names Python",
    ),
    "a value out of type": (
        {"conf": {"training/toy.yaml": "# A toy.\nprovider: toy\nkind: toy\ndepth: deep\n"}},
        "composes_and_checks",
        True,
        "training.depth",
    ),
    "a key without a docstring": (
        {"schemas": SCHEMA.format(doc="")},
        "every_key_is_documented",
        True,
        "under depth of Toy",
    ),
    "an experiment without its package line": (
        {"conf": {"experiment/toy.yaml": "# A toy.\nseed: 1\n"}},
        "option_file_is_data_and_says_what_it_is",
        True,
        "@package _global_",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_the_suite_catches(case: str, fake_plugin: Callable[..., Path]) -> None:
    change, test, needs_option, message = WRONG[case]
    fake_plugin("toy", **{**GOOD, **change})
    kit = suite()
    with pytest.raises(Exception, match=message) as caught:
        getattr(kit, f"test_{test}")(*([only_option(kit)] if needs_option else []))
    assert message in str(caught.value)


def test_a_test_of_the_suite_cannot_be_overridden() -> None:
    with pytest.raises(TypeError, match="test_names_agree; name them in xfails"):
        suite(test_names_agree=lambda self: None)


def test_the_base_class_itself_is_not_collected() -> None:
    assert not PluginConformance.__test__
    assert TestCore.__test__
