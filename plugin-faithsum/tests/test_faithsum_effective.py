"""Effective faithfulness on systems whose true gain is known: copying more is no gain, and a gain is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fascicle_faithsum.effective import Curve, Scores, effective_difference, effective_faithfulness, fit_curve
from fascicle_faithsum.errors import MetricError


def system(
    seed: int, copies: float, gain: float = 0.0, documents: int = 60, slope: float = 0.5, bend: float = 0.0
) -> Scores:
    """Faithfulness 0.3 + slope x (+ bend x^2) + gain + what the document does + noise; `copies` is the mean of x."""
    shared = np.random.default_rng(seed).normal(0, 0.08, documents)
    random = np.random.default_rng([seed, int(1000 * copies), int(1000 * gain)])
    x = np.clip(copies + random.normal(0, 0.12, documents), 0, 1)
    y = 0.3 + slope * x + bend * x**2 + gain + shared + random.normal(0, 0.05, documents)
    return Scores(faithfulness=y.tolist(), extractiveness=x.tolist(), name=f"{copies}")


def controls(seed: int, bend: float = 0.0) -> list[Scores]:
    return [system(seed, c, bend=bend) for c in (0.2, 0.35, 0.5, 0.65, 0.8)]


@pytest.mark.parametrize("shape", ["isotonic", "points"])
@pytest.mark.parametrize("unit", ["systems", "summaries"])
@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_the_curve_of_controls_tells_copying_from_gain(shape, unit, gain):
    found = [
        effective_faithfulness(system(s, 0.58, gain), controls(s), shape=shape, unit=unit, bins=6, resamples=0).gain
        for s in range(10)
    ]
    assert np.mean(found) == pytest.approx(gain, abs=0.015)


def test_a_copier_looks_more_faithful_and_is_not():
    found = effective_difference(system(0, 0.7), system(0, 0.4), resamples=300)
    assert found.plain > 0.1
    assert abs(found.difference) < 0.05
    assert found.low < 0 < found.high
    assert found.slope == pytest.approx(0.5, abs=0.1)
    assert found.extractiveness == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("method", ["regression", "bins"])
def test_a_gain_is_recovered_without_controls(method):
    found = [
        effective_difference(system(s, 0.6, 0.1), system(s, 0.5), method=method, resamples=0).difference
        for s in range(10)
    ]
    assert np.mean(found) == pytest.approx(0.1, abs=0.015)


def test_bins_need_no_shape():
    """On a strongly bent relation, matching is nearer to the truth than a straight line."""
    pairs = [(system(s, 0.75, slope=0, bend=1.0), system(s, 0.4, slope=0, bend=1.0)) for s in range(10)]
    straight = np.mean([effective_difference(a, b, resamples=0).difference for a, b in pairs])
    matched = np.mean([effective_difference(a, b, method="bins", bins=12, resamples=0).difference for a, b in pairs])
    assert abs(matched) < 0.04
    assert np.mean([effective_difference(a, b, resamples=0).plain for a, b in pairs]) > 0.3
    assert abs(straight) < 0.1


@pytest.mark.parametrize("gain", [0.0, 0.06])
def test_intervals_cover_the_true_difference(gain):
    hits = 0
    for s in range(120):
        found = effective_difference(system(s, 0.65, gain), system(s, 0.45), resamples=300, seed=s)
        hits += found.low <= gain <= found.high
    assert hits >= 108


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["systems", "summaries"])
@pytest.mark.parametrize("gain", [0.0, 0.06])
def test_intervals_of_the_curve_cover_the_true_gain(unit, gain):
    hits = 0
    for s in range(100):
        found = effective_faithfulness(
            system(s, 0.5, gain), controls(s), shape="points", unit=unit, bins=8, resamples=300, seed=s
        )
        hits += found.low <= gain <= found.high
    assert hits >= 90


def test_regression_is_least_squares():
    a, b = system(1, 0.6, 0.1), system(1, 0.4)
    x, y = ([*getattr(a, n), *getattr(b, n)] for n in ("extractiveness", "faithfulness"))
    design = np.column_stack([[1.0] * 60 + [0.0] * 60, np.ones(120), x])
    beta = np.linalg.lstsq(design, np.array(y), rcond=None)[0]
    found = effective_difference(a, b, resamples=0)
    assert (found.difference, found.slope) == pytest.approx((beta[0], beta[2]))


def test_bins_are_a_weighted_mean_of_gaps():
    a = Scores(faithfulness=[1.0, 0.8, 0.9], extractiveness=[0.1, 0.9, 0.9])
    b = Scores(faithfulness=[0.5, 0.4, 0.6], extractiveness=[0.1, 0.1, 0.9])
    found = effective_difference(a, b, method="bins", bins=2, resamples=0)
    assert found.difference == pytest.approx(((1.0 - 0.45) + (0.85 - 0.6)) / 2)
    assert found.matched == 1


def test_resampling_is_of_documents_and_paired():
    """Systems that differ by a constant on the same documents have an interval of no width, however documents vary."""
    base = system(0, 0.5)
    better = Scores(faithfulness=[v + 0.1 for v in base.faithfulness], extractiveness=base.extractiveness)
    found = effective_difference(better, base, resamples=50)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    names = [f"d{i}" for i in range(60)]
    a, b = (
        Scores(faithfulness=s.faithfulness, extractiveness=s.extractiveness, documents=names[::step])
        for s, step in ((better, 1), (base, -1))
    )
    apart = effective_difference(a, b, resamples=50)
    assert apart.high - apart.low > 0.01
    assert effective_difference(a, b, resamples=50) == apart


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
@settings(max_examples=50, deadline=None)
def test_an_isotonic_curve_never_falls_and_keeps_the_mean(points):
    made = [Scores(faithfulness=[y], extractiveness=[x]) for x, y in points]
    if len({x for x, _ in points}) < 2:
        with pytest.raises(MetricError, match="same extractiveness"):
            fit_curve(made)
        return
    curve = fit_curve(made)
    assert (np.diff(curve.y) >= -1e-12).all()
    assert curve([x for x, _ in points]).mean() == pytest.approx(np.mean([y for _, y in points]))


def test_outside_the_controls_is_said():
    found = effective_faithfulness(system(0, 0.95), controls(0)[:3], resamples=20)
    assert found.outside == 1
    assert effective_faithfulness(system(0, 0.5), controls(0), resamples=0).outside == 0
    assert Curve(x=[0, 1], y=[0, 1])(2) == 1


def test_nothing_to_adjust_for_and_little_overlap_are_noted():
    flat = Scores(faithfulness=[0.5, 0.7], extractiveness=[1.0, 1.0])
    other = Scores(faithfulness=[0.4, 0.6], extractiveness=[0.5, 0.5])
    found = effective_difference(flat, other, resamples=10)
    assert found.difference == pytest.approx(0.1)
    assert found.slope is None
    assert "nothing could be adjusted" in found.notes[0]
    far = effective_difference(system(0, 0.75), system(0, 0.3), method="bins", bins=20, resamples=10)
    assert far.matched < 0.5
    assert "Only" in far.notes[0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a: effective_difference(a, a, method="magic"), "magic"),
        (lambda a: effective_difference(a, a, bins=1), "bins"),
        (lambda a: fit_curve([a]), "at least 2"),
        (lambda a: fit_curve([a, a], shape="straight"), "straight"),
        (lambda a: fit_curve([a, a], bins=1), "bins"),
        (lambda a: fit_curve([a, a]), "same extractiveness"),
        (lambda a: Scores(faithfulness=[], extractiveness=[]), "no summaries"),
        (lambda a: Scores(faithfulness=[float("nan")], extractiveness=[1]), "faithfulness: expected finite"),
        (lambda a: Scores(faithfulness=[1], extractiveness=["x"]), "extractiveness: expected finite"),
        (lambda a: Scores(faithfulness=[1], extractiveness=[1], documents=[1, 2]), "documents: 2 values"),
        (
            lambda a: effective_difference(a, Scores(faithfulness=[1], extractiveness=[1], documents=["d"])),
            "name them for all",
        ),
        (
            lambda a: effective_difference(
                Scores(faithfulness=[1, 1], extractiveness=[0, 0.1]),
                Scores(faithfulness=[1, 1], extractiveness=[0.9, 1]),
                method="bins",
                bins=2,
            ),
            "no bin",
        ),
    ],
)
def test_bad_input_is_refused(call, said):
    with pytest.raises(MetricError, match=said):
        call(system(0, 0.5))
