"""What authors of plugins test with does what it says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fascicle.plugins import manager
from fascicle.testing import load, run_context, run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fascicle import RunContext

SUITE = """
import pytest

@pytest.mark.realdata
def test_real():
    {real}

def test_other():
    pass
"""


def pytest_on(tmp_path: Path, real: str, *flags: str) -> str:
    file = tmp_path / "test_suite.py"
    file.write_text(SUITE.format(real=real), encoding="utf-8")
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    return run_python(code, "-q", "-p", "no:cacheprovider", "--strict-markers", *flags, str(file), cwd=tmp_path).stdout


@pytest.mark.parametrize("flags", [(), ("-n", "1")], ids=["alone", "with workers"])
def test_a_run_that_saw_no_real_data_says_so_loudly(tmp_path: Path, flags: tuple[str, ...]) -> None:
    if flags:
        pytest.importorskip("xdist")
    told = pytest_on(tmp_path, 'pytest.skip("no folder of data here")', *flags)
    assert "no real data" in told
    assert "NONE of the 1 tests on real data could run" in told
    assert "no folder of data here" in told
    assert "1 passed, 1 skipped" in told


def test_a_run_that_saw_real_data_says_nothing(tmp_path: Path) -> None:
    assert "no real data" not in pytest_on(tmp_path, "assert True")


def test_the_pytest_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest, fascicle.testing.fixtures;"
        "print([m for m in ('torch', 'hydra', 'pluggy_', 'pydantic', 'numpy', 'fascicle.plugins') if m in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def test_the_context_of_a_test_is_on_the_cpu_and_in_its_folder(fascicle_run: RunContext, tmp_path: Path) -> None:
    assert fascicle_run.device == "cpu"
    assert fascicle_run.seed == 1
    assert fascicle_run.path("a", "b").parent == tmp_path / "run" / "a"


def test_loading_what_a_run_would_load(tmp_path: Path) -> None:
    data, model = load(["experiment=smoke"], run_context(tmp_path))
    assert data.task == model.task == "classification"
    features = data.encode("train", model)
    batch = data.collate(model)([features[0], features[1]])
    assert model.model(**batch).logits.shape == (2, len(data.label_names or ()))


def test_a_throw_away_plugin_is_found_here_and_in_a_subprocess(fake_plugin: Callable[..., Path]) -> None:
    fake_plugin("toy", version="9.9")
    record = manager().usable("toy")
    assert (record.dist, record.version) == ("fascicle-toy", "9.9")
    code = "from fascicle.plugins import manager; print(manager().usable('toy').version)"
    assert run_python(code).stdout == "9.9\n"


def test_and_is_gone_afterwards() -> None:
    assert manager().get("toy") is None
    assert "fascicle_toy" not in sys.modules
    assert not any("fascicle_toy" in name for name in sys.modules)
