"""Data of the core: what is read, and what is refused with file and line."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import datasets
import pytest
from hf_rows import REVIEWS, jsonl, rows, tiny, written

from fascicle.context import RunContext
from fascicle.errors import DataError, SourceError
from fascicle.hf.data import load_data
from fascicle.hf.data_options import (
    Glue,
    HfClassification,
    HfPrompts,
    HfSummarization,
    HfText,
    Splits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> RunContext:
    return RunContext(folder=tmp_path, num_labels=2, label_names=["no", "yes"])


# ---- formats ---------------------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_rows(tmp_path: Path, run: RunContext) -> None:
    made = [{"text": 'a "b"', "label": "x"}, {"text": "c\u2028d, e", "label": "y"}]
    files = {
        "a.jsonl": "\n".join(json.dumps(row) for row in made) + "\n\n",
        "a.json": json.dumps({"version": 1, "data": made}),
        "a.csv": '\ufefftext,label\r\n"a ""b""",x\r\n\r\n"c\u2028d, e",y\r\n',
        "a.tsv": '\ufefftext\tlabel\na "b"\tx\nc\u2028d, e\ty\n',
    }
    sources = [written(tmp_path / name, text) for name, text in files.items()]
    datasets.Dataset.from_list(made).to_parquet(tmp_path / "a.parquet")
    read = [load_data(HfClassification(sources=[source]), run) for source in [*sources, str(tmp_path / "a.parquet")]]
    expected = [{"text": 'a "b"', "label": 0}, {"text": "c\u2028d, e", "label": 1}]
    assert all(rows(data) == expected for data in read)
    assert len({data.fingerprint for data in read}) == 1


def test_only_a_line_feed_ends_a_line(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.tsv", "text\tlabel\r\none\rtwo\x0bthree\x85four\tx\r\nfive\ty")
    data = load_data(HfClassification(sources=[source]), run)
    assert list(data.splits["train"]["text"]) == ["one\rtwo\x0bthree\x85four", "five"]


def test_a_quoted_csv_field_may_hold_lines(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", 'text,label\n"one\ntwo",x\nthree,y\nfour,\n')
    with pytest.raises(DataError, match=r"a\.csv:5: data\.label_column=label: expected the name or the id of a class"):
        load_data(HfClassification(sources=[source]), run)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "x"}\n\n["x"]\n', r"a\.jsonl:3: expected an object with named fields"),
        ("a.json", '[{"text": "x"},\n {"text" "y"}]', r"a\.json:2: not JSON.*format=jsonl"),
        ("a.json", '[{"text": "x"}, "y"]', r"a\.json, row 1: expected an object"),
        ("a.json", '"text"', "expected a list of objects"),
        ("a.csv", "text,label\nx,y\nx\n", r"a\.csv:3: expected 2 fields \(text, label\), got 1"),
        ("a.csv", 'text,label\nx,"y\nx,y\n', r"a\.csv:2: not a csv row"),
        ("a.csv", "text,text\nx,y\n", r"a\.csv:1: the first line must name every column"),
        ("a.tsv", "text\tlabel\nx\ty\tz\n", r"a\.tsv:2: expected 2 fields .* got 3"),
        ("a.csv", "", r"a\.csv holds no rows"),
        ("a.csv", "text,label\n", r"a\.csv holds no rows"),
        ("a.jsonl", "\n\n", r"a\.jsonl holds no rows"),
        ("a.txt", "\n \n", r"a\.txt holds no rows"),
        ("a.parquet", "nonsense", r"a\.parquet: not a parquet file"),
        ("a.docx", "x", "the ending says 'docx'; set data.format to one of"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(
    tmp_path: Path, run: RunContext, name: str, text: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        load_data(HfText(sources=[written(tmp_path / name, text)]), run)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, run: RunContext) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\nna\xefve\n")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 text near line 2"):
        load_data(HfText(sources=[str(tmp_path / "a.txt")]), run)


@pytest.mark.parametrize("value", [3, None, ["x"], 1.5])
def test_what_is_not_text_is_named_with_its_line(tmp_path: Path, run: RunContext, value: Any) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"text": value}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: data\.text_column=text: expected text, got"):
        load_data(HfText(sources=[source]), run)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", REVIEWS)
    with pytest.raises(DataError, match=r"data\.text_column=txt.*Did you mean 'text'\? Columns: text, label"):
        load_data(HfClassification(sources=[source], text_column="txt"), run)
    with pytest.raises(DataError, match=r"data\.label_column=labels.*Did you mean 'label'"):
        load_data(HfClassification(sources=[source], label_column="labels"), run)


def test_a_column_of_mixed_types_that_is_not_needed_is_left_out(
    tmp_path: Path, run: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"text": "x", "id": 1}, {"text": "y", "id": "two"}])
    assert load_data(HfText(sources=[source]), run).splits["train"].column_names == ["text"]
    assert "the column 'id' mixes types and is left out" in caplog.text


# ---- splits ----------------------------------------------------------------------------------------------------------------


def test_a_folders_files_are_its_splits(tmp_path: Path, run: RunContext) -> None:
    for name in ("train.csv", "dev.csv", "test.csv"):
        written(tmp_path / "d" / name, REVIEWS)
    data = load_data(HfClassification(sources=[str(tmp_path / "d")]), run)
    assert {split: len(data.splits[split]) for split in data.splits} == {"train": 12, "validation": 12, "test": 12}
    assert data.name == "d"


def test_splits_can_be_named_and_shared(tmp_path: Path, run: RunContext) -> None:
    written(tmp_path / "d" / "mine.csv", REVIEWS)
    written(tmp_path / "d" / "dev.csv", REVIEWS.replace("review", "other"))
    data = load_data(HfClassification(sources=[str(tmp_path / "d")], splits=Splits(train="mine.csv", test="dev")), run)
    assert rows(data, "validation") == rows(data, "test") != rows(data, "train")


def test_shards_are_joined_and_errors_name_the_shard(tmp_path: Path, run: RunContext) -> None:
    jsonl(tmp_path / "d" / "train-00000-of-00002.jsonl", [{"text": "a"}])
    jsonl(tmp_path / "d" / "train-00001-of-00002.jsonl", [{"text": "b"}, {"text": 1}])
    with pytest.raises(DataError, match=r"train-00001-of-00002\.jsonl:2: .*expected text"):
        load_data(HfText(sources=[str(tmp_path / "d")]), run)
    jsonl(tmp_path / "d" / "train-00001-of-00002.jsonl", [{"text": "b"}])
    assert [row["text"] for row in rows(load_data(HfText(sources=[str(tmp_path / "d")]), run))] == ["a", "b"]


def test_what_is_missing_is_said_with_what_is_there(tmp_path: Path, run: RunContext) -> None:
    source = str(tmp_path / "d")
    written(tmp_path / "d" / "mine.csv", REVIEWS)
    with pytest.raises(DataError, match=r"holds no split: looked for train.*it holds mine\.csv"):
        load_data(HfClassification(sources=[source]), run)
    with pytest.raises(DataError, match=r"data\.splits\.test=gone: .* holds no such file; it holds mine\.csv"):
        load_data(HfClassification(sources=[source], splits=Splits(train="mine", test="gone")), run)
    with pytest.raises(DataError, match="is one file, which has no splits"):
        load_data(HfClassification(sources=[source + "/mine.csv"], splits=Splits(train="mine")), run)
    with pytest.raises(SourceError, match="there is no such file or folder"):
        load_data(HfClassification(sources=[source + "/gone.csv"]), run)
    written(tmp_path / "d" / "train.csv", REVIEWS)
    written(tmp_path / "d" / "train.jsonl", "{}")
    with pytest.raises(DataError, match=r"several files named train: train\.csv, train\.jsonl"):
        load_data(HfClassification(sources=[source]), run)


def test_parts_are_set_aside_in_proportion_and_overlap_nowhere(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", REVIEWS)
    options = HfClassification(sources=[source], validation_part=0.25, test_part=1 / 3)
    data = load_data(options, run)
    assert {split: Counter(data.splits[split]["label"]) for split in data.splits} == {
        "train": {1: 4, 0: 2},
        "validation": {1: 2, 0: 1},
        "test": {1: 2, 0: 1},
    }
    texts = [row["text"] for split in data.splits for row in rows(data, split)]
    assert len(set(texts)) == len(texts) == 12
    assert load_data(options, run).fingerprint == data.fingerprint


def test_rows_are_drawn_by_seed_and_in_proportion(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", REVIEWS)
    draws = [load_data(HfClassification(sources=[source], train_rows=6, sample_seed=s), run) for s in (0, 0, 1)]
    assert [Counter(data.splits["train"]["label"]) for data in draws] == [{1: 4, 0: 2}] * 3
    assert rows(draws[0]) == rows(draws[1]) != rows(draws[2])
    assert draws[0].fingerprint != draws[2].fingerprint


def test_more_rows_than_there_are_is_said(tmp_path: Path, run: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    data = load_data(HfClassification(sources=[written(tmp_path / "a.csv", REVIEWS)], train_rows=99), run)
    assert len(data.splits["train"]) == 12
    assert "data.train_rows=99" in caplog.text


# ---- classes ---------------------------------------------------------------------------------------------------------------


def test_classes_are_sorted_names_or_numbers_or_as_declared(tmp_path: Path, run: RunContext) -> None:
    named = HfClassification(sources=[written(tmp_path / "a.csv", REVIEWS)])
    data = load_data(named, run)
    assert data.label_names == ["bad", "good"]
    assert data.splits["train"]["label"][:3] == [0, 1, 1]
    named.label_names = ["good", "bad"]
    assert load_data(named, run).splits["train"]["label"][:3] == [1, 0, 0]
    numbered = jsonl(tmp_path / "b.jsonl", [{"text": "x", "label": label} for label in (10, 2, 10)])
    data = load_data(HfClassification(sources=[numbered]), run)
    assert (data.label_names, list(data.splits["train"]["label"])) == (["2", "10"], [1, 0, 1])
    ids = jsonl(tmp_path / "c.jsonl", [{"text": "x", "label": label} for label in (1, 0)])
    data = load_data(HfClassification(sources=[ids], label_names=["no", "yes"]), run)
    assert list(data.splits["train"]["label"]) == [1, 0]


def test_a_label_outside_the_classes_is_named_with_its_line(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", "text,label\nx,good\ny,bad\nz,goood\n")
    with pytest.raises(
        DataError, match=r"a\.csv:4: the label 'goood' is outside the declared classes bad, good.* Did you"
    ):
        load_data(HfClassification(sources=[source], label_names=["bad", "good"]), run)
    ids = jsonl(tmp_path / "b.jsonl", [{"text": "x", "label": 0}, {"text": "y", "label": -1}])
    with pytest.raises(DataError, match=r"b\.jsonl:2: the label -1 is outside"):
        load_data(HfClassification(sources=[ids], label_names=["bad", "good"]), run)


def test_a_class_that_training_lacks_is_an_error(tmp_path: Path, run: RunContext) -> None:
    written(tmp_path / "d" / "train.csv", REVIEWS)
    written(tmp_path / "d" / "test.csv", REVIEWS + "x,fair\n")
    with pytest.raises(DataError, match=r"test\.csv:14: the label 'fair' does not occur in the training rows"):
        load_data(HfClassification(sources=[str(tmp_path / "d")]), run)


def test_one_class_is_none(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", "text,label\nx,good\n")
    with pytest.raises(DataError, match=r"holds only one class \(good\)"):
        load_data(HfClassification(sources=[source]), run)


def test_regression_has_numbers_and_no_classes(tmp_path: Path, run: RunContext) -> None:
    source = written(tmp_path / "a.csv", "text,label\nx,0.5\ny,-2\n")
    data = load_data(HfClassification(sources=[source], regression=True), run)
    assert data.label_names == []
    run.num_labels, run.label_names = 1, []
    model = tiny(run)
    batch = data.collate(model)([data.encode("train", model)[i] for i in range(2)])
    assert batch["labels"].tolist() == [0.5, -2.0]
    assert model.model(**batch).loss.isfinite()
    written(tmp_path / "a.csv", "text,label\nx,0.5\ny,nan\n")
    with pytest.raises(DataError, match=r"a\.csv:3: data\.regression=true: expected a number"):
        load_data(HfClassification(sources=[source], regression=True), run)


# ---- the hub, from a folder laid out like one ------------------------------------------------------------------------------


def hub_folder(folder: Path) -> Path:
    """A data set repository with one configuration, `sst2`, as nyu-mll/glue has it; its test labels are hidden."""
    features = datasets.Features(
        sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["negative", "positive"])
    )
    for split, labels in (("train", [0, 1, 1]), ("validation", [1, 0]), ("test", [-1, -1])):
        content = {"sentence": [f"{split} {i}" for i in range(len(labels))], "label": labels}
        (folder / "sst2").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(content, features=features).to_parquet(
            folder / "sst2" / f"{split}-00000-of-00001.parquet"
        )
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sst2\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: sst2/{s}-*\n" for s in ("train", "validation", "test"))
        + "---\n"
    )
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hub:org/rows` is read from a local folder."""
    from fascicle.hf import files, glue
    from fascicle.sources import Resolved

    class Local(Resolved):
        @property
        def location(self) -> str:
            return str(hub_folder(tmp_path / "hub"))

    def resolved(sources: Sequence[str], what: str, repo_type: str = "model") -> Resolved:
        assert repo_type == "dataset"
        return Local(kind="hub", path=None, repo_id="org/rows", description="hub org/rows")

    monkeypatch.setattr(files, "resolve", resolved)
    monkeypatch.setattr(glue, "resolve", resolved)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))


@pytest.mark.usefixtures("hub")
def test_a_data_set_of_the_hub_brings_its_classes(run: RunContext) -> None:
    options = HfClassification(
        sources=["hub:org/rows"], subset="sst2", text_column="sentence", splits=Splits(test="validation")
    )
    data = load_data(options, run)
    assert (data.name, data.label_names) == ("rows-sst2", ["negative", "positive"])
    assert {split: list(data.splits[split]["label"]) for split in data.splits} == {
        "train": [0, 1, 1],
        "validation": [1, 0],
        "test": [1, 0],
    }


@pytest.mark.usefixtures("hub")
def test_the_hubs_errors_say_what_to_choose(run: RunContext) -> None:
    options = HfClassification(sources=["hub:org/rows"], subset="sst2", text_column="sentence")
    with pytest.raises(DataError, match=r"test, row 0: the label -1 is outside the declared classes"):
        load_data(options, run)
    options.splits = Splits(train="training")
    with pytest.raises(DataError, match=r"data\.splits\.train=training: .* it has train, validation, test"):
        load_data(options, run)
    options.subset = "sst3"
    with pytest.raises(DataError, match=r"\(sst3\): datasets cannot read it: .*sst2"):
        load_data(options, run)


@pytest.mark.usefixtures("hub")
def test_glue_from_the_hub_is_glue_from_the_files(tmp_path: Path, run: RunContext) -> None:
    data = load_data(Glue(task="sst2", sources=["hub:org/rows"]), run)
    assert rows(data) == [{"sentence": f"train {i}", "label": label} for i, label in enumerate([0, 1, 1])]
    assert rows(data, "test") == rows(data, "validation")
    assert data.label_names == ["negative", "positive"]


# ---- GLUE ------------------------------------------------------------------------------------------------------------------


def glue_folder(folder: Path, bad: str = "") -> Path:
    mrpc = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    for name in ("train", "dev"):
        written(folder / "SST-2" / f"{name}.tsv", f"sentence\tlabel\nfine \t1\nbad \t0\n{bad}")
        written(folder / "MRPC" / f"{name}.tsv", mrpc + '1\t1\t2\tHe said " yes\t" Yes , he said\r\n0\t3\t4\ta\tb\r\n')
        written(folder / "CoLA" / f"{name}.tsv", "gj04\t1\t\tOne fine sentence.\ngj04\t0\t*\tOne sentence bad.\n")
        written(
            folder / "RTE" / f"{name}.tsv",
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\ta\ta\tentailment\n",
        )
    return folder


def test_each_task_of_glue_is_read_as_it_is_written(tmp_path: Path, run: RunContext) -> None:
    source = str(glue_folder(tmp_path / "glue"))
    read = {task: load_data(Glue(task=task, sources=[source]), run) for task in ("sst2", "mrpc", "cola", "rte")}
    assert rows(read["sst2"]) == [{"sentence": "fine ", "label": 1}, {"sentence": "bad ", "label": 0}]
    assert rows(read["mrpc"])[0] == {"sentence1": 'He said " yes', "sentence2": '" Yes , he said', "label": 1}
    assert rows(read["cola"], "validation")[1] == {"sentence": "One sentence bad.", "label": 0}
    assert [row["label"] for row in rows(read["rte"], "test")] == [1, 0]
    assert read["rte"].label_names == ["entailment", "not_entailment"]
    assert read["cola"].extra["primary"] == "mcc"


def test_glues_errors_name_file_and_line(tmp_path: Path, run: RunContext) -> None:
    folder = glue_folder(tmp_path / "glue", bad="x\t2\n")
    with pytest.raises(DataError, match=r"SST-2/train\.tsv:4: the label '2' is none of 0, 1"):
        load_data(Glue(sources=[str(folder)]), run)
    glue_folder(folder, bad="no label\n")
    with pytest.raises(DataError, match=r"SST-2/train\.tsv:4: expected 2 fields"):
        load_data(Glue(sources=[str(folder)]), run)
    (folder / "RTE" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"RTE/dev\.tsv: there is no such file; the folder of GLUE must hold RTE/train"):
        load_data(Glue(task="rte", sources=[str(folder)]), run)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("task", "sizes", "positive"),
    [("sst2", (67349, 872), 444), ("mrpc", (3667, 408), 279), ("cola", (8551, 1043), 721), ("rte", (2490, 277), 131)],
)
def test_glue_has_the_sizes_of_its_files(
    real_data: Callable[[str], Path],
    run: RunContext,
    task: Any,
    sizes: tuple[int, int],
    positive: int,
) -> None:
    data = load_data(Glue(task=task, sources=[str(real_data("glue"))]), run)
    assert (len(data.splits["train"]), len(data.splits["validation"])) == sizes
    assert sum(data.splits["test"]["label"]) == positive


@pytest.mark.realdata
def test_real_prompts_and_summaries_are_read(real_data: Callable[[str], Path], run: RunContext) -> None:
    speed = load_data(HfPrompts(sources=[str(real_data("spec_bench/question.jsonl"))], prompt_column="turns.0"), run)
    assert len(speed.splits["test"]) == 320
    template = "Question: {question}\nAnswer:"
    maths = load_data(HfPrompts(sources=[str(real_data("gsm8k"))], template=template, completion_column="answer"), run)
    assert (len(maths.splits["train"]), len(maths.splits["test"])) == (7473, 1239)
    options = HfPrompts(
        sources=[str(real_data("e2e"))],
        prompt_column="mr",
        completion_column="ref",
        group_references=True,
        splits=Splits(train="devset.csv", test="testset_w_refs.csv"),
    )
    e2e = load_data(options, run)
    assert (len(e2e.splits["train"]), len(e2e.splits["test"])) == (4672, 630)
    assert sum(map(len, e2e.extra["references"]("test"))) == 4693
    options2 = HfSummarization(
        sources=[str(real_data("scitldr"))], document_column="source", summary_column="target", eval_rows=100
    )
    assert {s: len(r) for s, r in load_data(options2, run).splits.items()} == {"train": 1992, "validation": 100}
