"""Names of a package that resolve on first use."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`lazy_toy.cut` is a function of the module `lazy_toy.cut`, `lazy_toy.Knife` a class of `lazy_toy.tools`."""
    folder = tmp_path / "lazy_toy"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from fascicle.lazy import attach\n"
        "__getattr__, __dir__ = attach(__name__, {'cut': ('cut',), 'tools': ('Knife',)})\n",
        encoding="utf-8",
    )
    (folder / "cut.py").write_text("def cut(): ...\n", encoding="utf-8")
    (folder / "tools.py").write_text("class Knife: ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lazy_toy", "lazy_toy.cut", "lazy_toy.tools"):
        monkeypatch.setitem(sys.modules, name, None)  # what stands there afterwards is taken away again
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("lazy_toy")


def test_a_name_imports_its_module_on_first_use_and_is_kept(package: ModuleType) -> None:
    assert "lazy_toy.tools" not in sys.modules
    assert {"Knife", "cut"} <= set(dir(package))
    assert package.Knife.__name__ == "Knife"
    assert "lazy_toy.tools" in sys.modules
    assert vars(package)["Knife"] is package.Knife


def test_a_name_stands_before_the_module_of_the_same_name(package: ModuleType) -> None:
    assert package.cut.__name__ == "cut"
    assert not isinstance(package.cut, ModuleType)


def test_a_module_is_still_imported_from_the_package_and_an_unknown_name_is_an_error(package: ModuleType) -> None:
    from lazy_toy import tools

    assert isinstance(tools, ModuleType)
    with pytest.raises(AttributeError, match="module 'lazy_toy' has no attribute 'spoon'"):
        _ = package.spoon
