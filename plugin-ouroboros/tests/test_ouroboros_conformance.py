"""The rules of the house that every plugin keeps."""

from __future__ import annotations

from pathlib import Path

from fascicle.testing import PluginConformance


class TestOuroboros(PluginConformance):
    plugin = "ouroboros"
    project = Path(__file__).parents[1]
