"""Option files of plugins and of users reach every Hydra application, and nobody shadows silently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fascicle import ConfigError, PluginError
from fascicle.config import check, compose
from fascicle.testing import run_fascicle, run_python
from fascicle.userfolders import require_user_folders, shadowed

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = '''
from dataclasses import dataclass

@dataclass(kw_only=True)
class Toy:
    """A toy."""
    depth: int = 1
    """How deep."""
'''
TOY = {"options": {"training/toy": "Toy"}, "schemas": SCHEMA}
TOY_YAML = "# A toy.\nprovider: toy\nkind: toy\ndepth: 3\n"

THIRD_PARTY_APP = """
import hydra
from omegaconf import OmegaConf

@hydra.main(config_path="own", config_name="app", version_base="1.3")
def app(cfg):
    print(OmegaConf.to_yaml(cfg))

app()
"""


def local(folder: Path, path: str, text: str) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Path:
    local(tmp_path / "app", "own/app.yaml", "defaults:\n  - training: none\n  - _self_\nmine: 1\n")
    script = tmp_path / "app" / "app.py"
    script.write_text(THIRD_PARTY_APP, encoding="utf-8")
    return script


def run_app(script: Path, *args: str, **env: str) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, str(script), *args, "hydra.run.dir=."],
        cwd=script.parent,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, told.stdout + told.stderr


def test_a_third_party_application_sees_the_groups(app: Path, fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", **TOY, conf={"training/toy.yaml": TOY_YAML})
    status, told = run_app(app, "training=toy", "training.depth=5")
    assert status == 0, told
    assert "depth: 5" in told
    assert "mine: 1" in told


def test_an_application_may_keep_the_groups_out(app: Path) -> None:
    status, told = run_app(app, FASCICLE_HYDRA="0")
    assert status != 0
    assert "Could not find 'training/none'" in told


def test_a_broken_plugin_does_not_reach_a_third_party_application(app: Path, fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", code="raise RuntimeError('at import')")
    status, told = run_app(app)
    assert status == 0, told


def test_a_plugins_option_composes_and_checks(fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", **TOY, conf={"training/toy.yaml": TOY_YAML})
    assert check(compose(["training=toy"])).options["training"].value.depth == 3


def test_two_plugins_with_one_option_are_both_named(fake_plugin: Callable[..., Path]) -> None:
    for name in ("toy", "toz"):
        fake_plugin(name, **TOY, conf={"training/toy.yaml": TOY_YAML})
    with pytest.raises(PluginError, match=r"toy \(fascicle_toy\.conf\) and toz \(fascicle_toz\.conf\)"):
        check(compose(["training=toy"]))


def test_two_plugins_with_one_option_do_not_stop_a_run_that_uses_neither(fake_plugin: Callable[..., Path]) -> None:
    for name in ("toy", "toz"):
        fake_plugin(name, **TOY, conf={"training/toy.yaml": TOY_YAML})
    check(compose([]))


def test_a_users_folder_adds_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local(tmp_path / "mine", "training/quick.yaml", "defaults:\n  - hf_trainer\n  - _self_\nepochs: 1\n")
    monkeypatch.setenv("FASCICLE_CONFIG_PATH", str(folder))
    config = compose(["training=quick"])
    assert config["training"]["kind"] == "hf_trainer"
    assert config["training"]["epochs"] == 1


def test_a_users_folder_may_shadow_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local(tmp_path / "mine", "objective/model_loss.yaml", "# Mine.\nprovider: hf\nkind: model_loss\n")
    monkeypatch.setenv("FASCICLE_CONFIG_PATH", str(folder))
    (note,) = shadowed(compose([])["_choices"])
    assert "objective=model_loss is read from" in note
    assert "not from the plugin 'hf'" in note


def test_the_first_of_two_folders_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "defaults:\n  - hf_trainer\n  - _self_\nepochs: {}\n"
    folders = [local(tmp_path / str(n), "training/quick.yaml", text.format(n)) for n in (1, 2)]
    monkeypatch.setenv("FASCICLE_CONFIG_PATH", os.pathsep.join(map(str, folders)))
    assert compose(["training=quick"])["training"]["epochs"] == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASCICLE_CONFIG_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"FASCICLE_CONFIG_PATH: .*nowhere is not a folder"):
        require_user_folders()
    done = run_fascicle("run", "--cfg", "job")
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_the_hydra_plugin_is_one_import_line_without_an_init_beside_it() -> None:
    import fascicle

    folder = Path(fascicle.__file__).parents[1] / "hydra_plugins"
    (line,) = (folder / "fascicle_searchpath.py").read_text(encoding="utf-8").splitlines()
    assert line.startswith("from fascicle.searchpath import FascicleSearchPath")
    assert not (folder / "__init__.py").exists()


def test_composing_imports_neither_torch_nor_any_plugin_code_beyond_hooks() -> None:
    code = (
        "import sys; from fascicle.config import check, compose; check(compose(['experiment=smoke']));"
        "print([m for m in ('torch', 'transformers', 'peft', 'datasets', 'accelerate', 'fascicle.hf.models') if m in sys.modules])"
    )
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
