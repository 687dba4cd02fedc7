"""The fixture for tests on real data, which is not part of the project: it skips with a reason where the data is absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["real_data", "real_data_folder"]


def real_data_folder(start: Path) -> Path | None:
    """The folder of real data: `$FASCICLE_DATA`, else `../shared/data` beside the repository that holds `start`.

    >>> real_data_folder(Path("/")) is None or "FASCICLE_DATA" in os.environ
    True
    """
    told = os.environ.get("FASCICLE_DATA")
    if told:
        return Path(told)
    root = next((folder for folder in [start, *start.parents] if (folder / ".git").exists()), None)
    beside = root.parent / "shared" / "data" if root is not None else None
    return beside if beside is not None and beside.is_dir() else None


@pytest.fixture
def real_data(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """`real_data("glue/SST-2/dev.tsv")` is the path of a file or folder of real data, or skips the test."""

    def find(name: str) -> Path:
        folder = real_data_folder(Path(request.path))
        if folder is None:
            pytest.skip("no real data: FASCICLE_DATA is not set and there is no ../shared/data")
        if not (folder / name).exists():
            pytest.skip(f"no real data: {folder} holds no {name}")
        return folder / name

    return find
