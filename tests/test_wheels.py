"""What is built is what was written: every option file, index and page template is inside, byte for byte."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT / "core", *sorted(ROOT.glob("plugin-*"))]
DATA = {".yaml", ".json", ".html", ".css", ".j2", ".jinja", ".typed", ".js"}

pytest.importorskip("hatchling", reason="the build backend is not installed")


def build(project: Path, out: Path) -> zipfile.ZipFile:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(project),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.mark.parametrize("project", PROJECTS, ids=[project.name for project in PROJECTS])
def test_the_wheel_holds_every_file_of_the_source(project: Path, tmp_path: Path) -> None:
    source = project / "src"
    written = {
        file.relative_to(source).as_posix(): file.read_bytes()
        for file in source.rglob("*")
        if file.is_file() and (file.suffix in DATA or file.suffix == ".py") and "__pycache__" not in file.parts
    }
    with build(project, tmp_path) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
        (licence,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
        assert wheel.read(licence) == (project / "LICENSE").read_bytes()
    assert packed == written


def test_no_wheel_takes_the_hydra_namespace_for_itself(tmp_path: Path) -> None:
    for project in PROJECTS:
        with build(project, tmp_path / project.name) as wheel:
            assert "hydra_plugins/__init__.py" not in wheel.namelist()


def test_the_metapackage_requires_every_plugin_and_holds_no_code(tmp_path: Path) -> None:
    with build(ROOT / "plugins", tmp_path) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        required = wheel.read(metadata).decode()
        assert all(".dist-info/" in name for name in wheel.namelist())
    for project in ROOT.glob("plugin-*"):
        assert f"Requires-Dist: fascicle-{project.name.removeprefix('plugin-')}" in required
