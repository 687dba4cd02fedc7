"""The registry, ROUGE, combinations, adapters, and the metrics as objects of `evaluate`."""

from __future__ import annotations

import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from fascicle_faithsum import adapters
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.metrics import (
    LEXICAL,
    METRICS,
    Combination,
    Metric,
    PairMetric,
    describe,
    metric,
    rouge,
    score,
)

LIGHT = [*LEXICAL, "numbers", "entities", "negations"]
SOURCES = ["In 2019 Ann Lee did not win the cup. The dog ran off.", "日本語です。", "The cat sat on the mat. It slept."]
SUMMARIES = ["Ann Lee won in 2018.", "日本です。", ""]


@pytest.mark.parametrize("name", LIGHT)
def test_a_score_does_not_depend_on_its_neighbours(name: str) -> None:
    together = metric(name)(SOURCES, SUMMARIES)
    assert together == [metric(name)([a], [b])[0] for a, b in zip(SOURCES, SUMMARIES, strict=True)]
    assert metric(name)(SOURCES[::-1], SUMMARIES[::-1]) == together[::-1]
    assert all(0.0 <= x <= 1.0 for x in together)
    assert together[2] == 0.0
    assert metric(name)(SOURCES, SOURCES) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", LIGHT)
def test_a_score_does_not_depend_on_the_number_of_threads(name: str) -> None:
    before = torch.get_num_threads()
    found = metric(name)(SOURCES, SUMMARIES)
    try:
        torch.set_num_threads(2)
        assert metric(name)(SOURCES, SUMMARIES) == found
    finally:
        torch.set_num_threads(before)


def test_every_metric_says_what_it_is() -> None:
    assert set(LIGHT) < set(METRICS)
    for name in METRICS:
        assert len(describe(name)) > 30
        assert metric(name).name == name
        assert isinstance(metric(name), Metric)
    assert METRICS["coverage"] is metric("coverage")
    assert "no such" not in METRICS


def test_score_gives_a_column_per_metric_and_rouge_with_references() -> None:
    own = PairMetric("own", lambda source, summary: 0.5)
    found = score(SOURCES, SUMMARIES, ["coverage", own], references=["Ann Lee won in 2018.", None, ["x", "y"]])
    assert list(found) == ["coverage", "own", "rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert found["own"] == [0.5] * 3
    assert found["rouge1"][0] == 1.0
    assert math.isnan(found["rouge1"][1])
    assert found["rouge1"][2] == 0.0


def test_rouge_is_that_of_the_library_and_lsum_joins_sentences() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    reference, summary = "The dog ran. The cat sat.", "The cat sat. The dog ran."
    found = rouge([summary], [reference])
    wanted = RougeScorer(["rouge2", "rougeLsum"], use_stemmer=True).score(
        "The dog ran.\nThe cat sat.", "The cat sat.\nThe dog ran."
    )
    assert found["rougeLsum"] == [wanted["rougeLsum"].fmeasure] == [1.0]
    assert found["rougeL"][0] == 0.5
    assert found["rouge2"] == [wanted["rouge2"].fmeasure]
    assert rouge(["a b"], [["x", "a b"]])["rouge1"] == [1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metric("coverag"), "did you mean coverage?"),
        (lambda: metric(3), "expected a name or an object"),  # type: ignore[arg-type]
        (lambda: describe("nope"), "not known"),
        (lambda: score(["a"], ["b", "c"]), "got 1 sources and 2 summaries"),
        (lambda: score("a", ["b"]), "sources: expected a sequence of texts, got one string"),
        (lambda: score(["a", ""], ["b", "c"]), "source 1: expected a text, got a blank one"),
        (lambda: score(["a"], [None]), "summary 0: expected a string, got NoneType"),  # type: ignore[list-item]
        (lambda: score(["a"], ["b"], ["coverage", "coverage"]), "'coverage' is given twice"),
        (lambda: score(["a"], ["b"], "coverage"), "got one string"),
        (lambda: rouge(["a"], []), "got 0 for 1"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(call: Any, message: str) -> None:
    with pytest.raises(MetricError) as caught:
        call()
    assert message in str(caught.value)


def test_a_combination_is_fixed_once_fitted() -> None:
    sources, summaries = ["a b c d."] * 3, ["a b c.", "a x.", "c b a x."]
    both = Combination.fit("both", ["sentence_max_bigram", "coverage"], sources, summaries)
    together = both(sources, summaries)
    assert together == [both(sources[:1], [one])[0] for one in summaries]
    assert together[0] == max(together)
    assert len(set(together)) == 3
    z = sum((score(sources[:1], summaries[:1], [n])[n][0] - m) / d
            for n, m, d in zip(both.metrics, both.means, both.deviations, strict=True)) / 2  # fmt: skip
    assert together[0] == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))))
    with pytest.raises(MetricError, match="positive deviations"):
        Combination.fit("flat", ["coverage"], sources[:2], ["a", "a"])
    with pytest.raises(MetricError, match="a mean and a deviation per metric"):
        Combination("one", ("coverage",), (), ())


# ---- adapters: stand-ins with the interfaces of the packages --------------------------------------------------------------


@pytest.mark.parametrize("name", ["summac_zs", "summac_conv", "alignscore", "minicheck", "bertscore"])
def test_a_missing_package_is_named_with_its_installation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = type(metric(name))()
    monkeypatch.setitem(sys.modules, one.module.split(".")[0], None)
    with pytest.raises(MetricError, match="pip install"):
        one(["a source"], ["a summary"])
    assert one(["a source"], [" "]) == [0.0]


def install(monkeypatch: pytest.MonkeyPatch, dotted: str, **members: Any) -> None:
    parts = dotted.split(".")
    for i in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
    for key, value in members.items():
        setattr(sys.modules[dotted], key, value)


def test_summac_scores_are_mapped_into_the_unit_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def model(**options: Any) -> Any:
        made.append(options)
        return SimpleNamespace(score=lambda sources, summaries: {"scores": [-1.0, 0.5][: len(summaries)]})

    install(monkeypatch, "summac.model_summac", SummaCZS=model, SummaCConv=model)
    zs = adapters.SummaCZS()
    assert zs(["a", "b", "c"], ["x", "", "z"]) == [0.0, 0.0, 0.75]
    assert zs(["a"], ["x"]) == [0.0]
    assert made == [{"granularity": "sentence", "model_name": "vitc", "device": "cpu"}]  # made once
    assert adapters.SummaCConv()(["a", "b"], ["x", "y"]) == [0.0, 0.5]
    assert made[1]["models"] == ["vitc"]
    assert made[1]["start_file"] == "default"


def test_alignscore_needs_a_checkpoint_and_is_asked_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scorer:
        def __init__(self, model: str, batch_size: int, device: str, ckpt_path: str, evaluation_mode: str) -> None:
            assert (model, ckpt_path, evaluation_mode) == ("roberta-base", "x.ckpt", "nli_sp")

        def score(self, contexts: list[str], claims: list[str]) -> list[float]:
            return [float(b in a) for a, b in zip(contexts, claims, strict=True)]

    install(monkeypatch, "alignscore", AlignScore=Scorer)
    assert adapters.AlignScore(ckpt_path="x.ckpt")(["abc", "abc"], ["b", "d"]) == [1.0, 0.0]
    with pytest.raises(MetricError, match="needs a checkpoint"):
        adapters.AlignScore()(["a"], ["a"])


def test_minicheck_is_asked_sentence_by_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scorer:
        def __init__(self, model_name: str, device: str) -> None:
            assert (model_name, device) == ("flan-t5-large", "cpu")

        def score(self, docs: list[str], claims: list[str], chunk_size: int | None = None) -> Any:
            support = [float(claim[:-1] in doc) for doc, claim in zip(docs, claims, strict=True)]
            return [int(x > 0.5) for x in support], support, [], []

    install(monkeypatch, "minicheck.minicheck", MiniCheck=Scorer)
    one = adapters.MiniCheck(device="cpu")
    assert one(["It won.", "It lost."], ["It won. It lost.", "It lost."]) == [0.5, 1.0]


def test_bertscore_takes_the_precision_against_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scorer:
        def __init__(self, lang: str, model_type: str) -> None:
            assert (lang, model_type) == ("en", "m")

        def score(self, cands: list[str], refs: list[str]) -> Any:
            assert (cands, refs) == (["y"], ["x"])
            return torch.tensor([1.25]), torch.tensor([0.1]), torch.tensor([0.2])

    install(monkeypatch, "bert_score", BERTScorer=Scorer)
    assert adapters.BERTScore(model_type="m")(["x"], ["y"]) == [1.0]


@pytest.mark.parametrize(("answer", "message"), [([0.1, 0.2], "gave 2 scores for 1"), ([math.nan], "finite")])
def test_answers_that_are_no_scores_are_refused(answer: list[float], message: str) -> None:
    model = SimpleNamespace(score=lambda sources, summaries: {"scores": answer})
    with pytest.raises(MetricError, match=message):
        adapters.SummaCConv(model)(["a"], ["b"])


# ---- evaluate --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("evaluate", reason="the extra `evaluate` is not installed")
    import socket

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("keep", [True, False])
def test_an_evaluate_metric_computes_what_the_function_does(keep: bool, tmp_path: Any) -> None:
    import evaluate

    from fascicle_faithsum.evaluate_metrics import load

    options = {"keep_in_memory": True} if keep else {"cache_dir": str(tmp_path)}
    found = load("sentence_max_bigram", **options)
    assert isinstance(found, evaluate.Metric)
    result = found.compute(predictions=SUMMARIES, sources=SOURCES)
    wanted = metric("sentence_max_bigram")(SOURCES, SUMMARIES)
    assert result["sentence_max_bigram_scores"] == wanted
    assert result["sentence_max_bigram"] == pytest.approx(sum(wanted) / 3)


@pytest.mark.usefixtures("offline")
def test_an_evaluate_metric_takes_batches_references_and_metrics_of_ones_own(tmp_path: Any) -> None:
    from fascicle_faithsum.evaluate_metrics import load

    found = load("coverage", references=True, cache_dir=str(tmp_path))
    for a, b in zip(SOURCES, SUMMARIES, strict=True):
        found.add_batch(predictions=[b], sources=[a], references=["Ann Lee won."])
    result = found.compute()
    assert result["coverage_scores"] == metric("coverage")(SOURCES, SUMMARIES)
    assert 0.0 < result["rouge1"] < 1.0
    own = load(PairMetric("own", lambda a, b: 0.25), cache_dir=str(tmp_path))
    assert own.compute(predictions=["x"], sources=["y"])["own"] == 0.25
    assert "copying" in load("lcs_precision").description
