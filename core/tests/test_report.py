"""Many runs become one comparison that says what the numbers can tell, and a page that shows it safely."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_runs import make_result, write_runs
from rich.console import Console

from fascicle.arms import Run, arms_of
from fascicle.errors import ResultError
from fascicle.objects import Block, Section
from fascicle.report import build
from fascicle.results import RESULT_FILE, write_result

if TYPE_CHECKING:
    from fascicle.report import Report

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "br", "link", "img", "hr", "input"}


def row_of(report: Report, arm: str, column: str = "accuracy", table: str = "") -> dict[str, Any]:
    (row,) = [r for r in report.table() if (r["arm"], r["column"], r["table"]) == (arm, column, table)]
    return row


def names(report: Report) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in report.table()))


class Page(HTMLParser):
    """Elements and texts of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# ---- arms ----------------------------------------------------------------------------------------------------------


def test_runs_that_differ_only_by_the_seed_are_one_arm(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.6, 0.7], "loradrop": [0.6, 0.7, 0.8]})
    report = build([tmp_path])
    assert names(report) == ["training=hf_lora", "training=loradrop"]
    row = row_of(report, "training=hf_lora")
    assert row["mean"] == pytest.approx(0.6)
    assert row["sd"] == pytest.approx(0.1)
    assert row["n"] == 3
    assert row["seeds"] == [1, 2, 3]
    assert row["difference"] is None


def test_an_arm_is_named_by_its_option_and_by_the_keys_that_differ_within_it(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5], "loradrop:threshold=0.8": [0.5], "loradrop:threshold=0.9": [0.5]})
    assert names(build([tmp_path])) == [
        "training=hf_lora",
        "training=loradrop threshold=0.8",
        "training=loradrop threshold=0.9",
    ]


def test_a_single_arm_is_called_by_its_label(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.6]}, label="mine")
    assert names(build([tmp_path])) == ["mine"]


def test_keys_that_repeat_the_seed_do_not_split_an_arm() -> None:
    runs = [Run(Path(str(seed)), make_result(seed=seed, options={"data_seed": seed})) for seed in (1, 2, 3)]
    assert len(arms_of(runs)) == 1
    others = [Run(Path(str(seed)), make_result(seed=seed, options={"data_seed": 7 - seed})) for seed in (1, 2, 3)]
    assert len(arms_of(others)) == 3


def test_keys_of_one_name_are_told_apart_by_their_group() -> None:
    results = [make_result(options={"task": task}, task=other) for task, other in (("x", "a"), ("y", "a"), ("x", "b"))]
    arms = arms_of([Run(Path("r"), result) for result in results])
    assert [arm.name for arm in arms] == [
        "data.task=a training.task=x",
        "data.task=a training.task=y",
        "data.task=b training.task=x",
    ]


# ---- the baseline and its pairs --------------------------------------------------------------------------------------


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.1, 0.5, 0.9], "loradrop": [0.2, 0.6, 1.0]})
    row = row_of(build([tmp_path], baseline="training=hf_lora"), "training=loradrop")
    assert row["difference"] == pytest.approx(0.1)
    assert (row["low"], row["high"]) == (row["difference"], row["difference"])
    assert row["pairs"] == 3
    assert row["best"]


def test_a_seed_without_counterpart_is_no_pair_and_is_said(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.5], "loradrop": [0.6, 0.7, 0.9]})
    report = build([tmp_path], baseline="training=hf_lora")
    assert row_of(report, "training=loradrop")["pairs"] == 2
    assert "the baseline has no run with seed 3" in report.tables[0].notes[0]


def test_pairs_share_everything_but_the_compared_keys(tmp_path: Path) -> None:
    for task, base in (("a", 0.2), ("b", 0.8)):
        write_runs(tmp_path, {"hf_lora": [base, base], "loradrop": [base + 0.1, base + 0.1]}, task=task)
    report = build([tmp_path], baseline="training=hf_lora")
    for task in "ab":
        row = row_of(report, f"training=loradrop task={task}")
        assert row["difference"] == pytest.approx(0.1)
        assert row["pairs"] == 2


def test_a_swept_baseline_is_matched_by_the_swept_key_and_otherwise_refused(tmp_path: Path) -> None:
    for rank in (4, 8):
        for option, value in (("hf_lora", rank / 10), ("loradrop", rank / 10 + 0.05)):
            write_result(
                tmp_path / f"{option}{rank}", make_result(option, options={"rank": rank}, metrics={"accuracy": value})
            )
    report = build([tmp_path], baseline="training=hf_lora")
    for rank in (4, 8):
        assert row_of(report, f"training=loradrop rank={rank}")["difference"] == pytest.approx(0.05)
    write_result(tmp_path / "full", make_result("hf_trainer"))
    with pytest.raises(ResultError, match=r"fits 2 runs of seed 1 .*add a key"):
        build([tmp_path], baseline="training=hf_lora")
    assert build([tmp_path], baseline="training=hf_lora rank=4").table()


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("hf_lora", "expected key=value"),
        ("", "got nothing"),
        ("training=hf_lroa", r"no run has training=hf_lroa; the runs have training in \{hf_lora, loradrop\}"),
        ("trainig=hf_lora", "no run has a key 'trainig'. Did you mean 'training'"),
        ("kind=hf_lora", r"could be data\.kind or training\.kind"),
        ("training=hf_lora threshold=0.9", "no run has a|leave one of its keys out"),
    ],
)
def test_a_baseline_that_is_not_there_is_explained(tmp_path: Path, baseline: str, message: str) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5], "loradrop:threshold=0.9": [0.6]})
    with pytest.raises(ResultError, match=message):
        build([tmp_path], baseline=baseline)


def test_the_experiment_names_the_baseline_and_the_split_and_the_caller_may_override(tmp_path: Path) -> None:
    for task in "ab":
        write_runs(
            tmp_path,
            {"hf_lora": [0.5, 0.5], "loradrop": [0.6, 0.6]},
            task=task,
            report={"baseline": "training=hf_lora", "split_by": ["data.task"]},
        )
    report = build([tmp_path])
    assert [table.title for table in report.tables] == ["task=a", "task=b"]
    assert row_of(report, "training=loradrop", table="task=a")["difference"] == pytest.approx(0.1)
    other = build([tmp_path], baseline="training=loradrop", group_by=[])
    assert len(other.tables) == 1
    assert other.baseline == "training=loradrop"
    with pytest.raises(ResultError, match=r"group_by: no run has a key 'data\.tusk'"):
        build([tmp_path], group_by=["data.tusk"])


def test_experiments_that_disagree_leave_the_choice_to_the_reader(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5]}, report={"baseline": "training=hf_lora", "split_by": ["data.task"]})
    write_runs(tmp_path, {"loradrop": [0.5]}, report={"baseline": "training=loradrop", "split_by": ["data.kind"]})
    report = build([tmp_path])
    assert report.baseline is None
    assert any("different baselines" in warning for warning in report.warnings)
    assert any("disagree on report.split_by" in warning for warning in report.warnings)


def test_tables_are_pooled_over_tasks_that_weigh_the_same(tmp_path: Path) -> None:
    for task, gain in (("a", 0.1), ("b", 0.3)):
        write_runs(
            tmp_path, {"hf_lora": [0.5, 0.51, 0.49], "loradrop": [0.5 + gain, 0.511 + gain, 0.489 + gain]}, task=task
        )
    report = build([tmp_path], baseline="training=hf_lora", group_by=["data.task"])
    assert report.pooled is not None
    row = row_of(report, "training=loradrop", table="All tables together")
    assert row["difference"] == pytest.approx(0.2)
    assert row["low"] > 0.15
    assert row["pairs"] == 6
    assert row["best"]
    assert row["mean"] is None


def test_nothing_is_bold_where_the_runs_cannot_tell(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.7, 0.6], "loradrop": [0.7, 0.5, 0.66], "none": [0.1, 0.12, 0.11]})
    report = build([tmp_path], baseline="training=hf_lora")
    assert not any(row["best"] for row in report.table())
    assert 'class="best"' not in report.html()


def test_the_baseline_is_bold_where_every_other_arm_is_surely_worse(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.9, 0.91, 0.92], "none": [0.1, 0.12, 0.11]})
    report = build([tmp_path], baseline="training=hf_lora")
    assert row_of(report, "training=hf_lora")["best"]
    assert not row_of(report, "training=none")["best"]


def test_lower_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    write_runs(
        tmp_path,
        {"hf_lora": [5.0, 5.1, 5.2], "loradrop": [4.0, 4.1, 4.2]},
        metric="perplexity",
        higher_is_better={"perplexity": False},
    )
    report = build([tmp_path], baseline="training=hf_lora")
    assert row_of(report, "training=loradrop", "perplexity")["best"]
    assert "perplexity ↓" in report.html()


def test_test_rows_are_resampled_where_both_runs_kept_them(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        for option, shift in (("hf_lora", 0), ("loradrop", 1)):
            rows = [float((i * 7 + seed) % 10 + shift > 5) for i in range(50)]
            write_result(
                tmp_path / f"{option}{seed}",
                make_result(option, seed, metrics={"accuracy": sum(rows) / 50}, per_example={"accuracy": rows}),
            )
    report = build([tmp_path], baseline="training=hf_lora")
    assert row_of(report, "training=loradrop")["rows"] == 50
    assert "over test rows" in report.html()


# ---- which runs count ------------------------------------------------------------------------------------------------


def test_of_repeats_of_one_run_the_newest_counts_and_it_is_said(tmp_path: Path) -> None:
    write_result(tmp_path / "new", make_result(metrics={"accuracy": 0.9}, finished="2026-03-01T00:00:00+00:00"))
    write_result(tmp_path / "old", make_result(metrics={"accuracy": 0.1}, finished="2026-02-01T00:00:00+01:00"))
    report = build([tmp_path])
    assert [run.folder.name for run in report.runs] == ["new"]
    assert report.table()[0]["mean"] == 0.9
    assert any("only the newer counts" in warning for warning in report.warnings)


def test_a_damaged_result_is_left_out_and_listed_unless_there_is_no_other(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.6]})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / RESULT_FILE).write_text('{"schema_version": 1, "met')
    report = build([tmp_path])
    assert row_of(report, "hf_lora-a")["n"] == 2
    assert "broken" in report.warnings[0]
    assert "broken at line 1" in report.html()
    with pytest.raises(ResultError, match="expected JSON"):
        build([tmp_path / "broken"])


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"no result\.json"):
        build([tmp_path])


def test_runs_with_different_metrics_share_a_table_with_gaps(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.6]}, metric="accuracy")
    write_runs(tmp_path, {"loradrop": [20.0, 21.0]}, metric="bleu")
    report = build([tmp_path], baseline="training=hf_lora")
    assert [column.key for column in report.columns] == ["accuracy", "bleu"]
    assert row_of(report, "training=loradrop", "accuracy")["mean"] is None
    assert row_of(report, "training=loradrop", "bleu")["difference"] is None
    assert "–" in report.html()


def test_columns_can_be_chosen_and_a_misspelt_one_is_explained(tmp_path: Path) -> None:
    write_result(
        tmp_path / "r", make_result(metrics={"accuracy": 0.5, "f1": 0.4}, training={"train_seconds": 3.0, "kept": 7.0})
    )
    assert [column.key for column in build([tmp_path]).columns] == ["accuracy", "train_seconds"]
    assert [column.key for column in build([tmp_path], metrics=["f1", "kept"]).columns] == ["f1", "kept"]
    with pytest.raises(ResultError, match=r"no run has 'acuracy'\. Did you mean 'accuracy'"):
        build([tmp_path], metrics=["acuracy"])


def test_a_metric_that_is_not_a_number_is_a_gap(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, math.nan], "loradrop": [math.inf, math.inf]})
    report = build([tmp_path], baseline="training=hf_lora")
    assert row_of(report, "training=hf_lora")["n"] == 1
    assert row_of(report, "training=loradrop")["mean"] is None
    assert "stored as null" in report.html()
    json.loads(report.to_json())


# ---- the terminal ----------------------------------------------------------------------------------------------------


def test_the_terminal_shows_the_table_and_never_reads_names_as_markup(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5, 0.6], "[red]loradrop[/red]": [0.6, 0.8]})
    stream = io.StringIO()
    build([tmp_path], baseline="training=hf_lora").render_terminal(Console(file=stream, width=140))
    text = stream.getvalue()
    assert "training" in text
    assert "[red]loradrop[/red]" in text
    assert "0.55 ± 0.07" in text
    assert "95 % bootstrap interval" in text


def printed(report: Report, width: int) -> str:
    stream = io.StringIO()
    report.render_terminal(Console(file=stream, width=width))
    return stream.getvalue()


def test_a_key_that_all_arms_share_is_said_once_as_the_heading(tmp_path: Path) -> None:
    write_runs(tmp_path, {"hf_lora": [0.5], "loradrop": [0.6]})
    text = printed(build([tmp_path], baseline="training=hf_lora"), 140)
    heading = next(line for line in text.splitlines() if "seeds" in line)
    assert heading.split()[0] == "training"
    assert any(line.split()[:1] == ["loradrop"] for line in text.splitlines())


def test_a_narrow_terminal_shows_fewer_columns_and_names_the_others_instead_of_cutting_words(tmp_path: Path) -> None:
    facts = {"train_seconds": 3.0, "trainable_parameters": 1_000_000.0}
    write_runs(tmp_path, {"hf_lora": [0.5, 0.6], "loradrop": [0.6, 0.7]}, training=facts)
    report = build([tmp_path], baseline="training=hf_lora")
    wide, narrow = printed(report, 200), printed(report, 72)
    assert "too narrow" not in wide
    assert "too narrow here for: " in narrow
    assert "…" not in narrow
    assert "0.550 ± 0.071" in narrow


# ---- the page --------------------------------------------------------------------------------------------------------


def sections(text: str = "word") -> list[Section]:
    """One section with every kind of block, in which every text is `text`."""
    numbers = [0.5, -0.25, None]
    line = {"x": [1, 2, 3], "y": [1, 2, 3]}
    band = {"x": [1], "y": [2], "low": [1], "high": [3]}
    axes = {"x_label": text, "y_label": text}
    grid = {"rows": [text, "b"], "columns": [text, "b", "c"], "values": [numbers, numbers], "marked": [[0, 0]]}
    points = {"x": [1, 2], "y": [1, 2], "text": [text, "b"]}
    spans = [{"text": text, "weight": 0.5, "label": text}, {"text": text, "weight": -1}]
    data: list[tuple[Any, dict[str, Any]]] = [
        ("text", {"text": f"{text}\n\n{text}"}),
        ("table", {"columns": [text], "rows": [[text], [1], [None]], "caption": text}),
        ("bars", {"labels": [text, "b", "c"], "series": {text: numbers}, "unit": text, "marked": [0]}),
        ("bars", {"labels": list("abc"), "series": {text: numbers, "t": numbers}}),
        ("lines", {"series": {text: line, "b": band}, "log_y": True, **axes}),
        ("heatmap", {**grid, "unit": text}),
        ("scatter", {"series": {text: points}, **axes}),
        ("spans", {"spans": spans, "caption": text}),
    ]
    return [Section(title=text, plugin=text, blocks=[Block(kind=k, title=text, data=d) for k, d in data])]


HISTORY = [
    {"step": float(s), "epoch": s / 10, "loss": 1 / s, "eval_loss": 2 / s, "learning_rate": 0.1} for s in range(1, 30)
]


def full_page(root: Path, text: str) -> Report:
    for option in ("hf_lora", text):
        for seed in (1, 2):
            for task in ("a", text):
                result = make_result(
                    option,
                    seed,
                    task=task,
                    metrics={text: 0.5 + seed / 10, "b": 1.0},
                    options={text: text},
                    history=[{**row, f"loss {text}": 1.0} for row in HISTORY],
                    training={"trainable_parameters": 1e7, text: 1.0},
                    units={text: text},
                    sections=sections(text) if task == "a" else [],
                    provenance={text: {text: text}},
                    timings={text: 1.0},
                    notes=[text],
                    name=text,
                    label=text,
                    report={"baseline": "training=hf_lora", "split_by": ["data.task"]},
                )
                write_result(root / f"{len(option)}-{seed}-{len(task)}", result)
    return build([root])


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> str:
    return full_page(tmp_path_factory.mktemp("evil"), EVIL).html()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return full_page(tmp_path_factory.mktemp("plain"), "word")


@pytest.fixture(scope="module")
def plain(report: Report) -> str:
    return report.html()


def test_what_users_wrote_is_text_everywhere_also_inside_figures(evil: str) -> None:
    page = Page(evil)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in evil.lower()
    figures = re.findall(r"<svg.*?</svg>", evil, flags=re.DOTALL)
    assert any("&lt;script&gt;" in figure for figure in figures)
    assert page.text.count("alert") > 50


@pytest.mark.parametrize(
    "attack", ['" onload="x', "'><img src=x onerror=x>", "{{ 7 * 7 }}", "</style><b>", "$x_{$", "]]>", "<!--"]
)
def test_no_text_becomes_an_element_or_an_attribute(tmp_path: Path, attack: str) -> None:
    for seed, option in enumerate(("hf_lora", attack), 1):
        write_result(
            tmp_path / str(seed),
            make_result(option, name=attack, metrics={attack: 0.5}, sections=sections(attack), history=HISTORY),
        )
    page = Page(build([tmp_path], title=attack).html())
    assert not {"img", "b", "script"} & {tag for tag, _ in page.tags}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert attack in page.text


def test_the_page_loads_nothing_and_says_so_to_the_browser(evil: str, plain: str) -> None:
    for html in (evil, plain):
        page = Page(html)
        for tag, attributes in page.tags:
            for key in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert attributes.get(key, "#").startswith("#"), (tag, attributes)
            assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)\)", html))
        assert "@import" not in html
        metas = [attributes for tag, attributes in page.tags if tag == "meta"]
        assert {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        } in metas
        assert any(meta.get("name") == "viewport" for meta in metas)
    assert "http" not in plain.replace("http-equiv", "")


def test_ids_are_unique_and_every_reference_has_its_target(plain: str) -> None:
    ids = [attributes["id"] for _, attributes in Page(plain).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)"', plain) + re.findall(r"url\(#([^)]+)\)", plain)
    assert set(targets) <= set(ids)


def test_figures_take_their_colours_from_the_theme(plain: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", plain, flags=re.DOTALL)
    assert len(figures) > 10
    assert not any(re.search(r"(fill|stroke): #", figure) for figure in figures)
    assert "prefers-color-scheme: dark" in plain
    assert all("font-family:" not in figure for figure in figures)


def test_the_page_has_every_part(plain: str) -> None:
    page = Page(plain)
    for part in ("Comparison", "Learning curves", "Inside the runs", "Runs", "Provenance", "All tables together"):
        assert part in page.text
    opened = [attributes for tag, attributes in page.tags if tag == "details" and "open" in attributes]
    assert len(opened) == 2  # the first seed of each arm that has sections
    assert "loss word" in page.text


def test_the_same_runs_give_the_same_page(report: Report, plain: str) -> None:
    assert report.html() == plain


def test_the_page_is_written_whole_and_into_a_folder_by_its_usual_name(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", {"hf_lora": [0.5, 0.6]})
    report = build([runs], tmp_path / "page.html", title="Mine")
    assert report.path == tmp_path / "page.html"
    assert "<title>Mine</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert build([runs], tmp_path).path == tmp_path / "report.html"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("bars", {"labels": [], "series": {}}),
        ("bars", {"labels": ["a"], "series": {"s": [None]}}),
        ("bars", {"labels": [str(i) for i in range(300)], "series": {"s": [float(i) for i in range(300)]}}),
        ("lines", {"series": {}}),
        ("lines", {"series": {"s": {"x": [1], "y": [-1.0]}}, "log_y": True}),
        ("lines", {"series": {"s": {"x": list(range(5000)), "y": [1.0] * 5000}}}),
        ("lines", {"series": {"s": {"x": [0, 1], "y": [-1e308, 1e308]}}}),
        ("heatmap", {"rows": [], "columns": [], "values": []}),
        ("heatmap", {"rows": ["r"], "columns": ["c"], "values": [[None]]}),
        ("heatmap", {"rows": ["r"], "columns": ["c"], "values": [[-1.0]]}),
        ("heatmap", {"rows": [""] * 200, "columns": [""] * 150, "values": [[float(i)] * 150 for i in range(200)]}),
        ("scatter", {"series": {"s": {"x": [], "y": []}}}),
        ("scatter", {"series": {"s": {"x": [1.0] * 100, "y": [1.0] * 100, "text": ["t"] * 100}}}),
        ("spans", {"spans": []}),
        ("text", {"text": "\x00\ud800 漢字 العربية \x1b[31m"}),
        ("table", {"columns": [], "rows": []}),
    ],
)
def test_any_valid_block_can_be_shown(tmp_path: Path, kind: Any, data: dict[str, Any]) -> None:
    write_result(tmp_path, make_result(sections=[Section(title="s", blocks=[Block(kind=kind, data=data)])]))
    html = build([tmp_path], tmp_path / "page.html").html()
    Page(html)
    assert "\x00" not in html


def test_long_names_and_many_arms_still_make_a_page(tmp_path: Path) -> None:
    for i in range(12):
        write_result(tmp_path / str(i), make_result(f"option_{i}_" + "x" * 120, history=HISTORY))
    report = build([tmp_path])
    Page(report.html())
    assert len(names(report)) == 12
