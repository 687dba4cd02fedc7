"""Each package stands on what it declares: plugin to core, never core to plugin, never plugin to plugin."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT / "core", *sorted(ROOT.glob("plugin-*"))]
IDS = [project.name for project in PROJECTS]
OPTIONAL = {"pytest", "hatchling", "jaxtyping", "submitit", "tensorboard"}
"""Imported where the user asked for it, behind an extra or in a test kit."""
WHOLLY = {"fascicle_faithsum/evaluate_metrics.py": "evaluate"}
"""Modules that are nothing without an extra, which they may import at the top."""


def imports(file: Path, *, inside: bool | None = None) -> set[str]:
    """Top-level modules that a file imports: all, those inside functions, or those outside of them (type checking counts not)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    checked = {
        id(node) for guard in ast.walk(tree) if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.dump(guard.test)
        for node in ast.walk(guard)
    }  # fmt: skip
    found = set()
    for node in ast.walk(tree):
        if inside is not None and ((id(node) in late) != inside or id(node) in checked):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@cache
def dist_of() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("inside", [False, True], ids=["module", "function"])
@pytest.mark.parametrize("project", PROJECTS, ids=IDS)
def test_every_import_is_declared(project: Path, *, inside: bool) -> None:
    """What an extra installs may be imported inside functions only."""
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in declared.get("optional-dependencies", {}).values() for line in lines]
    lines = [*declared["dependencies"], *(extras if inside else [])]
    names = {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}  # type: ignore[index]
    used = set().union(
        *(
            imports(file, inside=inside) - {WHOLLY.get("/".join(file.parts[-2:]), "")}
            for file in (project / "src").rglob("*.py")
        )
    )
    own = {path.name for path in (project / "src").iterdir()}
    assert "fascicle" in names | {declared["name"]}
    undeclared = {
        module
        for module in used - set(sys.stdlib_module_names) - OPTIONAL - own - {""}
        if module != "fascicle"
        and not {normal(dist) for dist in dist_of().get(module, [])} & (names | {normal(declared["name"])})
    }
    assert undeclared == set()


@pytest.mark.parametrize("project", PROJECTS, ids=IDS)
def test_dependencies_point_to_the_core_only(project: Path) -> None:
    own = {path.name for path in (project / "src").iterdir()}
    used = set().union(*(imports(file) for file in (project / "src").rglob("*.py")))
    foreign = {module for module in used if re.match(r"fascicle_\w+$", module)} - own
    assert foreign == set()


@pytest.mark.parametrize("project", PROJECTS, ids=IDS)
def test_no_public_name_is_a_modules_name(project: Path) -> None:
    """Importing the module would put it in the name's place."""
    (package,) = (path for path in (project / "src").iterdir() if (path / "py.typed").is_file())
    modules = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert modules & set(importlib.import_module(package.name).__all__) == set()


@pytest.mark.parametrize("project", PROJECTS[1:], ids=IDS[1:])
def test_one_name_in_four_places(project: Path) -> None:
    name = project.name.removeprefix("plugin-")
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert declared["name"] == f"fascicle-{name}"
    assert (project / "src" / f"fascicle_{name}").is_dir()
    assert declared["entry-points"]["fascicle.plugins"] == {name: f"fascicle_{name}.plugin"}


@pytest.mark.parametrize("project", [*PROJECTS, ROOT / "plugins"], ids=[*IDS, "plugins"])
def test_every_package_has_a_readme_and_says_what_changed(project: Path) -> None:
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project / "README.md").read_text(encoding="utf-8").strip()
    assert f"## {declared['version']}" in (project / "CHANGELOG.md").read_text(encoding="utf-8")
