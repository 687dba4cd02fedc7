"""Amounts are fixed where a test does not say otherwise: plans that follow measured times differ from run to run."""

from __future__ import annotations

import pytest

from fascicle_ouroboros.options import DraftingOptions


@pytest.fixture(autouse=True)
def fixed_amounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DraftingOptions.__init__.__kwdefaults__, "adaptive", False)  # type: ignore[attr-defined]
