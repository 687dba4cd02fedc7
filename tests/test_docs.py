"""The documents say what is so: examples compile or run, every hook and command is there, links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from fascicle import hookspecs
from fascicle.cli import COMMANDS
from fascicle.plugins import HOOK_NAMES

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("*/README.md")])
BLOCK = re.compile(r"^```(\w+)( [^\n]*)?\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[tuple[Path, str, str]]:
    found = []
    for document in DOCUMENTS:
        for match in BLOCK.finditer(document.read_text(encoding="utf-8")):
            if match.group(1) == language:
                found += [(document, (match.group(2) or "").strip(), match.group(3))]
    return found


PYTHON = blocks("python")


@pytest.mark.parametrize(
    ("document", "note", "code"), PYTHON, ids=[f"{d.parent.name}-{n}" for n, (d, _, _) in enumerate(PYTHON)]
)
def test_python_examples_parse_and_their_imports_exist(document: Path, note: str, code: str) -> None:
    tree = ast.parse(code, filename=str(document))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0].startswith("fascicle"):
            if (node.module or "").startswith("fascicle_toy"):
                continue
            module = import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{document.name}: {node.module} has no {missing}"


@pytest.mark.parametrize(
    ("document", "code"),
    [(d, code) for d, note, code in PYTHON if note == "run"],
    ids=[d.parent.name for d, note, _ in PYTHON if note == "run"],
)
def test_python_examples_marked_run_do_run(
    document: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(document), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", HOOK_NAMES)
def test_every_hook_stands_in_the_cores_readme_with_its_signature(name: str) -> None:
    text = (ROOT / "core" / "README.md").read_text(encoding="utf-8")
    parameters = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    assert f"`{name}({parameters})`" in text


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_stands_in_the_cores_readme(command: str) -> None:
    assert f"`fascicle {command}" in (ROOT / "core" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[d.parent.name for d in DOCUMENTS])
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{document}: {target}"


@pytest.mark.parametrize("group", ["model", "data", "objective", "training", "decoding", "evaluation"])
def test_commands_in_the_documents_name_options_that_exist(group: str) -> None:
    from fascicle.plugins import manager

    known = {option for owner, option in manager().option_owners() if owner == group}
    for document in DOCUMENTS:
        for line in re.findall(r"fascicle run [^\n`]*", document.read_text(encoding="utf-8")):
            for value in re.findall(rf"(?<![\w.]){group}=([\w,]+)", line):
                assert set(value.split(",")) <= known | {"toy"}, f"{document}: {line}"


@pytest.mark.parametrize(
    "module",
    [
        "fascicle.cli",
        "fascicle.overrides",
        "fascicle.userfolders",
        "fascicle.optionfiles",
        "fascicle.config",
        "fascicle.plugins",
    ],
)
def test_doctests(module: str) -> None:
    failed, tried = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS)
    assert tried
    assert failed == 0
