"""The rules of the house that every plugin keeps."""

from __future__ import annotations

from pathlib import Path

from fascicle.testing import PluginConformance


class TestOuroboros(PluginConformance):
    plugin = "ouroboros"
    smoke = {
        "ouroboros_quickstart": [
            "model=tiny_causal_lm",
            "evaluation.rows=2",
            "evaluation.max_new_tokens=8",
            "decoding.min_new_tokens=8",
        ]
    }
    project = Path(__file__).parents[1]
