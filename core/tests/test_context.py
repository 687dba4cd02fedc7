"""A run finds its own folder again, refuses anyone else's, and leaves nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from fascicle import ConfigError, OutputFolderError
from fascicle.config import Checked, RunOptions
from fascicle.context import RunContext, open_run, run_label


def configuration(root: Path, identity: str = "a" * 64, **run: Any) -> Checked:
    return Checked(
        options=MappingProxyType({}),
        seed=3,
        name="demo",
        run=RunOptions(root=str(root), device="cpu", **run),
        raw={"seed": 3, "training": {"rate": 0.1 if identity[0] == "a" else 0.2}},
        config={},
        choices={},
        identity=identity,
    )


def test_the_folder_is_named_after_overrides_and_configuration(tmp_path: Path) -> None:
    with open_run(configuration(tmp_path), ["seed=3", "experiment=x", "run.resume=true"]) as run:
        assert run.folder == tmp_path / "demo" / "seed=3-aaaaaaaa"
        assert (run.folder / "run.json").exists()
        assert run.seed == 3


def test_a_second_start_gets_a_folder_of_its_own_and_a_resumed_one_the_last(tmp_path: Path) -> None:
    folders = []
    for options in ({}, {}, {"resume": True}, {"overwrite": True}):
        with open_run(configuration(tmp_path, **options)) as run:
            folders.append(run.folder.name)
            assert not (run.folder / "mark").exists() or options == {"resume": True}
            run.path("mark").touch()
    assert folders == ["default-aaaaaaaa", "default-aaaaaaaa-2", "default-aaaaaaaa-2", "default-aaaaaaaa-2"]


def test_a_folder_of_another_run_is_refused_and_the_difference_told(tmp_path: Path) -> None:
    with open_run(configuration(tmp_path, dir=str(tmp_path / "mine"))):
        pass
    with (
        pytest.raises(OutputFolderError, match=r"holds another run.*training\.rate: 0\.1 there, 0\.2 here"),
        open_run(configuration(tmp_path, identity="b" * 64, dir=str(tmp_path / "mine"), resume=True)),
    ):
        pass


def test_a_folder_that_holds_this_run_wants_a_decision(tmp_path: Path) -> None:
    with open_run(configuration(tmp_path, dir=str(tmp_path / "mine"))):
        pass
    with (
        pytest.raises(OutputFolderError, match=r"run\.resume=true"),
        open_run(configuration(tmp_path, dir=str(tmp_path / "mine"))),
    ):
        pass


def test_a_folder_with_other_things_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with (
        pytest.raises(OutputFolderError, match="holds no run"),
        open_run(configuration(tmp_path, dir=str(tmp_path), overwrite=True)),
    ):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_living_run_locks_its_folder_and_a_dead_one_does_not(tmp_path: Path) -> None:
    with open_run(configuration(tmp_path)) as run:
        script = (
            "import sys; from filelock import FileLock, Timeout\n"
            "try:\n    FileLock(sys.argv[1], timeout=0).acquire()\nexcept Timeout:\n    sys.exit(7)\n"
        )
        held = subprocess.run([sys.executable, "-c", script, str(run.folder / ".lock")], check=False)
        assert held.returncode == 7
        folder = run.folder
    assert subprocess.run([sys.executable, "-c", script, str(folder / ".lock")], check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputFolderError, match="cannot be written"), open_run(configuration(tmp_path)):
        pass


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(OutputFolderError, match="cannot be written"), open_run(configuration(tmp_path)):
        pass


def test_a_device_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    checked = replace(configuration(tmp_path), run=RunOptions(root=str(tmp_path), device="nonsense"))
    with pytest.raises(ConfigError, match=r"run\.device.*no device 'nonsense'"), open_run(checked):
        pass


def test_paths_stay_inside_the_folder(tmp_path: Path) -> None:
    run = RunContext(folder=tmp_path)
    assert run.path("a", "b.json").parent.is_dir()
    with pytest.raises(ValueError, match="leads out"):
        run.path("..", "b.json")


def test_seeding_makes_draws_repeat(tmp_path: Path) -> None:
    import torch

    run = RunContext(folder=tmp_path, seed=5)
    run.seed_everything()
    first = torch.rand(3)
    run.seed_everything()
    assert torch.equal(first, torch.rand(3))
    run.seed_everything(1)
    assert not torch.equal(first, torch.rand(3))


def test_labels_are_safe_as_folder_names() -> None:
    label = run_label(["+data.path=/a/../b", "training=x", "name=z", "vars.budget=0.5"])
    assert "/" not in label
    assert label == "data.path=_a_.._b,training=x"
