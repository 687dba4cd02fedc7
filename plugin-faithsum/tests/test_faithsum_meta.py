"""Invariants of the meta-evaluation, the command, its page, and FRANK's published rows."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from fascicle.blocks import check_section
from fascicle_faithsum.commands_meta import meta_command
from fascicle_faithsum.correlation import correlate
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.frank import RatedSet, RatedSummary, read_rated
from fascicle_faithsum.meta import meta_evaluate, metric_scores


def planted(documents: int = 40, seed: int = 0) -> list[RatedSummary]:
    """Four systems on each of two data sets. `good` sees all errors, `names` only EntE, `none` nothing; `level` is the system's."""
    random = np.random.default_rng(seed)
    rows = []
    for d in range(documents):
        dataset = "news" if d % 2 else "talk"
        for s in range(4):
            system = f"{dataset}-{s}"
            entity, other = random.random() < 0.1 + 0.25 * s, random.random() < 0.3
            score = 1.0 - 0.5 * entity - 0.5 * other
            rows.append(
                RatedSummary(
                    document=f"document {d}",
                    summary=f"summary {s}",
                    score=score,
                    document_id=str(d),
                    system=system,
                    dataset=dataset,
                    labels={
                        "Flip_EntE": 1.0 - 0.5 * other,
                        "Flip_OutE": 1.0 - 0.5 * entity,
                        "Flip_LinkE": score,
                    },
                    scores={
                        "good": score + 0.1 * random.normal(),
                        "names": 1.0 - entity + 0.1 * random.normal(),
                        "none": random.normal(),
                        "level": float(s),
                        "gaps": None if d == 3 else score,
                    },
                )
            )
    return rows


@lru_cache(maxsize=1)
def report():
    return meta_evaluate(planted(), ["good", "names", "none", "level", "gaps"], resamples=100)


def test_the_human_score_has_1_and_noise_has_nothing():
    rows = planted(100, seed=1)
    found = meta_evaluate(rows, {"human": [row.score for row in rows], "none": "none"}, resamples=200)
    human, none = found.row("human"), found.row("none")
    assert human.pearson.value == pytest.approx(1)
    assert human.pearson_interval == pytest.approx((1, 1))
    assert human.spearman.value == pytest.approx(1)
    assert abs(none.pearson.value) < 0.12
    assert none.pearson_interval[0] < 0 < none.pearson_interval[1]


def test_subsets_are_all_and_each_data_set():
    assert report().subsets == ["all", "talk", "news"]
    assert report().row("good", "news").n == 80
    assert report().row("good").n == 160
    assert report().row("good").documents == 40
    only = meta_evaluate(planted(), ["good"], by=["news"], resamples=0)
    assert only.subsets == ["news"]
    assert only.row("good", "news").pearson == report().row("good", "news").pearson


def test_a_constant_per_system_is_partialled_out():
    rows = planted()
    base = [row.scores["good"] for row in rows]
    moved = [v + 3 * hash_free(row.system) for v, row in zip(base, rows, strict=True)]
    found = meta_evaluate(rows, {"base": base, "moved": moved}, resamples=0)
    for subset in found.subsets:
        a, b = found.row("base", subset), found.row("moved", subset)
        assert a.pearson.value == pytest.approx(b.pearson.value)
        assert a.spearman.value == pytest.approx(b.spearman.value)
        assert abs(a.raw_pearson.value - b.raw_pearson.value) > 0.1


def hash_free(name: str) -> float:
    return float(sum(map(ord, name)) % 7)


def test_a_metric_that_only_tells_systems_apart_has_no_partial_correlation():
    row = report().row("level")
    assert math.isnan(row.pearson.value)
    assert row.raw_pearson.value < -0.05
    assert any(
        "level on all: no partial correlation: the first variable is constant" in note for note in report().notes
    )


def test_missing_scores_are_counted_out():
    row = report().row("gaps")
    assert (row.n, row.documents) == (156, 39)
    pair = next(c for c in report().comparisons if (c.subset, c.first, c.second) == ("all", "good", "gaps"))
    assert pair.n == 156
    assert pair.difference_interval is None


def test_the_better_metric_is_found_better():
    pair = next(c for c in report().comparisons if (c.subset, c.first, c.second) == ("all", "good", "none"))
    assert pair.r_first > pair.r_second
    assert pair.p < 1e-6
    assert pair.p <= pair.p_holm
    assert pair.difference_interval[0] > 0.3
    assert pair.df == 160 - 7 - 3


def test_the_ablation_says_which_errors_a_metric_sees():
    found = {(a.metric, a.error): a for a in report().ablations if a.subset == "all"}
    assert found["names", "EntE"].delta > 0.3
    assert found["names", "EntE"].delta_interval[0] > 0
    assert found["names", "OutE"].delta < -0.1
    assert found["good", "OutE"].delta > 0.1
    never = found["good", "LinkE"]
    assert (never.changed, never.delta, never.delta_interval) == (0, 0, (0, 0))


def test_ablation_is_the_difference_of_two_correlations():
    rows = planted()
    groups = [row.system for row in rows]
    scores = [row.scores["names"] for row in rows]
    human, flipped = ([f(row) for row in rows] for f in (lambda r: r.score, lambda r: r.labels["Flip_EntE"]))
    found = next(a for a in report().ablations if (a.subset, a.metric, a.error) == ("all", "names", "EntE"))
    assert found.delta == pytest.approx(
        correlate(scores, human, groups).value - correlate(scores, flipped, groups).value
    )


def test_seeds_and_the_order_of_metrics():
    rows = planted()
    one = meta_evaluate(rows, ["good", "names"], resamples=50, seed=1)
    again = meta_evaluate(rows, ["names", "good"], resamples=50, seed=1)
    other = meta_evaluate(rows, ["good", "names"], resamples=50, seed=2)
    assert one.row("good") == again.row("good")
    assert one.row("good").pearson_interval != other.row("good").pearson_interval


def test_any_callable_and_binary_labels():
    rows = [
        RatedSummary(document="a b c d e", summary="a b c d e"[: 2 * k + 1], score=float(k > 2), document_id=str(i))
        for i in range(6)
        for k in range(5)
    ]

    def length(documents, summaries):
        return [len(s) / len(d) for d, s in zip(documents, summaries, strict=True)]

    found = meta_evaluate(rows, [length], resamples=20)
    assert found.row("length").auc == 1
    assert found.row("length").pearson.value == pytest.approx(found.row("length").raw_pearson.value)
    assert any("One system, or none named" in note for note in found.notes)
    assert "AUC" in found.markdown()


def test_rows_without_a_document_are_not_asked():
    rows = [RatedSummary(document=d, summary="s", score=1, document_id="1") for d in ("x", " ", "y")]
    assert metric_scores(rows, {"m": lambda d, s: [float(len(d))] * len(d)}) == {"m": [2.0, None, 2.0]}


def test_unrated_rows_do_not_count():
    rows = planted()
    rated = RatedSet(rows=[*rows, RatedSummary(document="x", summary="y", score=None, document_id="x", dataset="new")])
    given = [row.scores.get("good") for row in rated.rows]
    found = meta_evaluate(rated, {"good": given}, resamples=0)
    assert found.row("good").n == 160
    assert found.source["rows"] == 161


@pytest.mark.parametrize(
    ("metrics", "options", "said"),
    [
        (["unheard"], {}, "unheard"),
        ({"m": [1.0]}, {}, "1 scores for 16 rows"),
        ({"m": lambda d, s: [1.0]}, {}, "1 scores for 16 rows"),
        ({"m": ["x"] * 16}, {}, "row 1: expected a number, got 'x'"),
        ({"m": [math.inf] * 16}, {}, "infinite"),
        ("good", {}, "expected a list of names"),
        (["good", "good"], {}, "twice"),
        ([], {}, "none given"),
        (["good"], {"by": ["films"]}, "no rated row of data set 'films'; there are: talk, news"),
        (["good"], {"control": "author"}, "control"),
        (["good"], {"resamples": -1}, "resamples"),
    ],
)
def test_bad_input_is_refused(metrics, options, said):
    with pytest.raises(MetricError, match=re.escape(said)):
        meta_evaluate(planted(4), metrics, **options)


def test_no_human_scores():
    with pytest.raises(MetricError, match="1 rows, none with a human score"):
        meta_evaluate([RatedSummary(document="d", summary="s", score=None, document_id="1")], ["m"])


def test_json_has_everything_and_no_nan():
    content = json.loads(report().to_json(), parse_constant=pytest.fail)
    assert len(content["rows"]) == 15
    assert len(content["comparisons"]) == 30
    assert content["rows"][3]["pearson"]["value"] is None
    assert content["resamples"] == 100


def test_blocks_are_what_a_report_draws():
    check_section(report().section())
    kinds = [block.kind for block in report().section().blocks]
    assert (kinds.count("text"), kinds.count("table"), kinds.count("heatmap")) == (1, 6, 3)


def test_markdown_has_a_row_per_metric_and_escapes_bars():
    rows = planted(10)
    found = meta_evaluate(rows, {"a|b": [row.scores["good"] for row in rows]}, by=["all"], resamples=0)
    table = found.markdown().splitlines()
    assert table[0] == "**all**"
    assert table[-1].startswith("| a\\|b | 40 | 10 |")
    assert table[-1].count(" | ") == table[2].count(" | ")


def test_the_page_stands_alone_and_escapes():
    rows = planted(10)
    found = meta_evaluate(rows, {"<script>x": [row.scores["good"] for row in rows], "none": "none"}, resamples=20)
    page = found.html("A <b> title")
    assert "<script" not in page
    assert "&lt;script&gt;x" in page
    assert "A &lt;b&gt; title" in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<svg") == 9


# ---- the command ------------------------------------------------------------------------------------------------------


def table_file(folder: Path) -> Path:
    lines = ["body,summary,points,system,mine"]
    lines += [f"text {i // 3},sum {i},{(i * 7) % 5},s{i % 3},{(i * 7) % 5 + (i % 2)}" for i in range(24)]
    path = folder / "rated.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_command_on_a_table_of_ones_own(tmp_path, capsys):
    path = table_file(tmp_path)
    fields = ["--document-field", "body", "--score-field", "points"]
    out, page = tmp_path / "report.json", tmp_path / "page.html"
    told = [str(path), "--metrics", "mine", *fields, "--out", str(out), "--page", str(page), "--resamples", "50"]
    assert meta_command(told) == 0
    shown = capsys.readouterr().out
    assert "mine" in shown
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["source"]["sha256"] in shown.replace("\n", "")
    assert content["rows"][0]["documents"] == 8
    assert content["rows"][0]["pearson"]["value"] > 0.8
    assert "<h1>Metrics against human scores: rated.csv</h1>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--metrics", "unheard"], "unheard"),
        (["--metrics", "published"], "its columns of numbers: mine"),
        (["--subset", "xsum"], "not in the file; there are: all"),
        (["--resamples", "-1"], "--resamples"),
        (["--out", "no/such/folder/x.json"], "no folder"),
        (["--checker", "no/such/folder"], "--checker"),
        (["--system-field", "author"], "system field 'author'"),
    ],
)
def test_the_command_says_quickly_what_is_wrong(tmp_path, more, said):
    with pytest.raises(MetricError, match=re.escape(said)):
        meta_command([str(table_file(tmp_path)), "--score-field", "points", "--document-field", "body", *more])


def test_a_metric_that_reads_text_needs_text(tmp_path):
    with pytest.raises(MetricError, match="--document-field"):
        meta_command([str(table_file(tmp_path)), "--score-field", "points", "--metrics", "coverage"])


def test_the_command_scores_with_the_plugins_metrics(tmp_path, capsys):
    path = tmp_path / "set.jsonl"
    rows = [
        {"source": "The red cat sat on the mat.", "summary": s, "score": v, "system": f"s{i % 2}"}
        for i in range(6)
        for s, v in (("The red cat sat.", 1), ("The blue dog ran.", 0))
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert meta_command([str(path), "--metrics", "coverage,sentence_max_bigram", "--resamples", "0"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"coverage +12 +1\.000", shown)


# ---- FRANK ------------------------------------------------------------------------------------------------------------

PUBLISHED = {
    ("BertScore P Art", "all"): (0.220, 0.213),
    ("FactCC", "all"): (0.214, 0.268),
    ("Rouge 2", "all"): (0.121, 0.075),
    ("QAGS", "all"): (0.001, 0.020),
    ("Dep Entail", "all"): (0.125, -0.023),
    ("BertScore P Art", "cnndm"): (0.278, 0.246),
    ("FactCC", "cnndm"): (0.362, 0.374),
    ("BertScore P Art", "xsum"): (0.143, 0.070),
    ("FactCC", "xsum"): (0.091, -0.253),
}


@pytest.mark.realdata
def test_published_rows_of_the_validation_split(real_data, tmp_path):
    path = real_data("frank/valid.json")
    out = tmp_path / "report.json"
    assert meta_command([str(path), "--metrics", "published", "--resamples", "0", "--out", str(out)]) == 0
    content = json.loads(out.read_text(encoding="utf-8"))
    rows = {(row["metric"], row["subset"]): row for row in content["rows"]}
    assert len(rows) == 45
    for key, (pearson, spearman) in PUBLISHED.items():
        assert rows[key]["pearson"]["value"] == pytest.approx(pearson, abs=6e-4), key
        assert rows[key]["spearman"]["value"] == pytest.approx(spearman, abs=6e-4), key
    assert rows["Dep Entail", "all"]["n"] == 629
    assert rows["FactCC", "all"]["raw_pearson"]["value"] > 2 * rows["FactCC", "all"]["pearson"]["value"]
    best = max((row["pearson"]["value"], key[0]) for key, row in rows.items() if key[1] == "all")
    assert best[1] == "BertScore P Art"
    owed = {(a["metric"], a["error"]): a["delta"] for a in content["ablations"] if a["subset"] == "all"}
    content_errors, frame = "Content_Verifiability_Errors", "Semantic_Frame_Errors"
    assert owed["BertScore P Art", content_errors] > 0.15 > 0.05 > owed["BertScore P Art", frame]
    assert owed["FactCC", frame] > owed["FactCC", content_errors]


@pytest.mark.realdata
def test_frank_against_an_independent_reading_of_its_protocol(real_data):
    """One-hot least squares, then scipy's coefficients, on every stored metric."""
    from scipy.stats import pearsonr, spearmanr

    path = real_data("frank/valid.json")
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = meta_evaluate(read_rated(path), ["FactCC", "Rouge 1", "Dep Entail", "Bleu"], by=["all"], resamples=0)
    for name in found.metrics:
        rows = [row for row in raw if row["published_metrics"][name] is not None]
        systems = sorted({row["system"] for row in rows})
        onehot = np.array([[row["system"] == s for s in systems] for row in rows], dtype=float)
        both = ([r["published_metrics"][name] for r in rows], [r["human"]["Factuality"] for r in rows])
        rest = [v - onehot @ np.linalg.lstsq(onehot, np.array(v), rcond=None)[0] for v in both]
        assert found.row(name).pearson.value == pytest.approx(pearsonr(*rest).statistic, abs=1e-9)
        rounded = [np.round(v, 12) for v in rest]
        assert found.row(name).spearman.value == pytest.approx(spearmanr(*rounded).statistic, abs=1e-6)


def test_tied_scores_that_bring_systems_back_are_noted():
    """The errors of metric and people never coincide, yet residuals of mostly tied scores, once ranked, are the systems' order."""
    rows = []
    for s in range(4):
        for d in range(50):
            rare, missed = d % 50 < 2 * s + 1, (d + 25) % 50 < 2 * s + 1
            rows.append(
                RatedSummary(
                    document=str(d),
                    summary="",
                    score=1.0 - missed,
                    document_id=str(d),
                    system=str(s),
                    scores={"tied": 1.0 - rare},
                )
            )
    found = meta_evaluate(rows, ["tied"], resamples=0)
    row = found.row("tied")
    assert -0.2 < row.pearson.value < 0
    assert -0.2 < row.spearman_rank_first.value < 0
    assert row.spearman.value > 0.3
    assert any("the two definitions of partial Spearman differ" in note for note in found.notes)
