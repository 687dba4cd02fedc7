"""Training where the evidence is known: what the focusing loss does that its controls do not do."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

SEEDS = range(3)


@pytest.fixture(scope="module")
def planted() -> Any:
    """The benchmark, which is a script; the test asks what it measures."""
    file = Path(__file__).parents[1] / "benchmarks" / "planted.py"
    spec = importlib.util.spec_from_file_location("sief_benchmark_planted", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def mean(outcomes: list[Any], name: str) -> float:
    return statistics.fmean(getattr(outcome, name) for outcome in outcomes)


@pytest.mark.slow
def test_where_the_cue_is_moderate_focusing_finds_more_and_relies_on_the_evidence_more(planted: Any) -> None:
    """The exemption is what does it: without it, and with sentences dropped at random, answers outlive their evidence.

    Measured, 2,000 test documents, mean and standard deviation of seeds 0 to 2:

    | loss | F1 | flips, distractor out | flips, evidence out | kept on evidence alone | exempt |
    |---|---|---|---|---|---|
    | focusing | .988 ± .002 | .041 ± .028 | .917 ± .055 | 1.000 | .145 ± .013 |
    | consistency | .979 ± .004 | .087 ± .025 | .840 ± .022 | 1.000 | 0 |
    | random_drop | .977 ± .004 | .072 ± .024 | .826 ± .020 | 1.000 | 0 |
    | none | .972 ± .005 | .100 ± .067 | .898 ± .063 | 1.000 | 0 |

    Asked for: half of each gap that seeds 3 to 5 showed too. There the flips without the distractor were .042; .059, .041, .067
    of the other three: within the spread, so nothing is asked of them but against none. The flips without the evidence were little
    above those of none.
    """
    study = planted.Study(cue=0.6, triggers=20)
    of = {mode: [study.run(mode, seed) for seed in SEEDS] for mode in planted.MODES}
    focusing = of["focusing"]
    for mode, gap in {"consistency": 0.009, "random_drop": 0.011, "none": 0.012}.items():
        assert mean(focusing, "f1") - mean(of[mode], "f1") > gap / 2
    for mode, gap in {"consistency": 0.077, "random_drop": 0.091}.items():
        assert mean(focusing, "evidence_out") - mean(of[mode], "evidence_out") > gap / 2
    assert mean(of["none"], "distractor_out") - mean(focusing, "distractor_out") > 0.042 / 2  # the gap over six seeds
    assert mean(focusing, "evidence_alone") > 0.99
    assert 0.05 < mean(focusing, "exempt") < 0.3


def test_a_new_model_exempts_nothing(planted: Any) -> None:
    """It is sure of nothing, so no sentence is important to it."""
    outcome = planted.Study(train=100, test=100, epochs=1).run("focusing", 0)
    assert outcome.exempt == 0
