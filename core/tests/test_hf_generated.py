"""Generated data: the same everywhere, its truth is as stated, and it can be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hf_rows import rows, tiny, train

from fascicle.config import check_option
from fascicle.context import RunContext
from fascicle.errors import ConfigError, DataError
from fascicle.hf.data import load_data
from fascicle.hf.data_options import (
    GeneratedClassification,
    GeneratedPrompts,
    GeneratedSummarization,
    GeneratedText,
)
from fascicle.hf.generated import generate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> RunContext:
    return RunContext(folder=tmp_path, num_labels=2, label_names=["no", "yes"])


# ---- generated data --------------------------------------------------------------------------------------------------------

GENERATED = [GeneratedClassification, GeneratedText, GeneratedPrompts, GeneratedSummarization]


@pytest.mark.parametrize("kind", GENERATED)
def test_generated_data_follows_from_its_seed_and_no_row_is_twice(kind: Any, run: RunContext) -> None:
    small = {"train_rows": 60, "validation_rows": 20, "test_rows": 20}
    one, two, other = (load_data(kind(**small, seed=seed), run) for seed in (0, 0, 1))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert {split: len(one.splits[split]) for split in one.splits} == {"train": 60, "validation": 20, "test": 20}
    first = one.splits["train"].column_names[0]
    texts = [row[first] for split in one.splits for row in rows(one, split)]
    assert len(set(texts)) == 100
    more = load_data(kind(**{**small, "train_rows": 61}), run)
    assert [row[first] for row in rows(more)][:60] == [row[first] for row in rows(one)]


def test_no_test_row_was_trained_on_even_where_rows_are_scarce() -> None:
    made = generate(GeneratedText(sentences=1, train_rows=2000, test_rows=500))
    seen = {row["text"] for row in made["train"]}
    assert not seen & {row["text"] for split in ("validation", "test") for row in made[split]}


def test_generated_data_is_the_same_everywhere(run: RunContext) -> None:
    small = {"train_rows": 20, "validation_rows": 5, "test_rows": 5}
    assert [load_data(kind(**small), run).fingerprint[:12] for kind in GENERATED] == FINGERPRINTS


FINGERPRINTS = ["2cc7fa1baa87", "20bdaa963f12", "61fa824924f0", "6db8661e80a0"]


def test_too_many_generated_rows_are_refused(run: RunContext) -> None:
    with pytest.raises(DataError, match=r"data\.train_rows=4000: .* gave only \d+ different rows; ask for fewer"):
        load_data(GeneratedText(sentences=1, train_rows=4000), run)


def judged(text: str) -> str:
    """The class of an opinion, worked out again from its words by the rules that the module states."""
    from fascicle.hf.generated import BAD, GOOD, NEGATIONS

    text = text.removesuffix(" .")
    if " but " in text:
        text = text.split(" but ")[1]
    elif text.startswith("although"):
        text = text.split(" , ")[1]
    else:
        text = text.split(" although ")[0]
    words = text.split()
    good = any(word in GOOD for word in words)
    assert good != any(word in BAD for word in words)
    return "positive" if good != any(word in NEGATIONS for word in words) else "negative"


def test_opinions_follow_their_rules() -> None:
    made = generate(GeneratedClassification())
    assert all(judged(row["text"]) == row["label"] for split in made.values() for row in split)
    assert 0.45 < sum(row["label"] == "positive" for row in made["train"]) / 2000 < 0.55


def test_the_bag_of_words_does_not_suffice_but_a_tiny_model_learns(run: RunContext) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = load_data(GeneratedClassification(), run)
    texts = {split: list(data.splits[split]["text"]) for split in data.splits}
    bag = CountVectorizer()
    linear = LogisticRegression(max_iter=500).fit(
        bag.fit_transform(texts["train"]), list(data.splits["train"]["label"])
    )
    assert linear.score(bag.transform(texts["test"]), list(data.splits["test"]["label"])) < 0.7
    model = tiny(run, hidden_size=64, layers=2, heads=4)
    train(model, data, epochs=6)
    features = [data.encode("test", model)[i] for i in range(500)]
    batch = data.collate(model)(features)
    with torch.no_grad():
        accuracy = (model.model(**batch).logits.argmax(-1) == batch["labels"]).float().mean().item()
    assert accuracy > 0.75


def test_no_model_beats_the_known_floor_of_the_stories(run: RunContext) -> None:
    data = load_data(GeneratedText(train_rows=1500), run)
    floor = data.extra["truth"]["test"]["nats_per_word"]
    assert floor == pytest.approx(sum(data.splits["test"]["nats"]) / sum(data.splits["test"]["words"]))
    model = tiny(run, "llama", hidden_size=64, layers=2, heads=4)
    train(model, data, epochs=2, rate=3e-3)
    batch = data.collate(model)([data.encode("test", model)[i] for i in range(200)])
    words = sum(data.splits["test"]["words"][:200])
    with torch.no_grad():
        targets = (batch["labels"][:, 1:] != -100).sum().item()
        loss = model.model(**batch).loss.item() * targets / words
    assert floor - 0.05 < loss < 2 * floor


def test_answers_and_cued_facts_are_right() -> None:
    for row in generate(GeneratedPrompts(train_rows=80))["train"]:
        prompt, answer = row["prompt"], row["completion"].removesuffix(" .")
        if row["category"] == "where":
            thing = prompt.split("where is ")[1].split(" ?")[0]
            assert f"{thing} is {answer} ." in prompt
        elif row["category"] == "what":
            box = prompt.split("what is ")[1].split(" ?")[0]
            assert f"{answer} is {box} ." in prompt
        else:
            items = prompt.split(" : ")[1].removesuffix(" . answer :").split(" , ")
            assert answer.split(" , ") == (items if row["category"] == "copy" else items[::-1])
    for row in generate(GeneratedSummarization(train_rows=50))["train"]:
        assert row["document"] == " ".join(row["sentences"])
        assert row["sentences"][-1] == f"the question is about {row['cue']} ."
        fact = row["summary"].removesuffix(" .")
        assert [i for i, s in enumerate(row["sentences"]) if s.startswith(fact)] == [row["evidence"]]
        assert fact.startswith(row["cue"])


# ---- options ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"kind": "hf_text", "sources": []}, "sources: at least one place of the data is required"),
        ({"kind": "hf_text", "sources": ["x"], "validation_part": 0.6, "test_part": 0.5}, "expected a sum below 1"),
        ({"kind": "hf_classification", "sources": ["x"], "label_names": ["a", "a"]}, "two or more different names"),
        ({"kind": "hf_classification", "sources": ["x"], "label_names": ["a", "b"], "regression": True}, "no classes"),
        ({"kind": "hf_prompts", "sources": ["x"], "system": "be brief"}, "needs data.chat=true"),
        ({"kind": "glue", "task": "qqp"}, "data.task"),
        ({"kind": "glue", "sources": []}, "at least one place of GLUE"),
        ({"kind": "hf_text", "sources": ["x"], "splits": {"trian": "a"}}, "data.splits.trian.*Did you mean 'train'"),
        ({"kind": "generated_prompts", "facts": 1}, "data.facts"),
    ],
)
def test_wrong_options_are_refused_with_the_key(node: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_option("data", {"provider": "hf", **node}, None)


@pytest.mark.parametrize("group", ["model", "data"])
def test_every_option_file_fits_its_schema_and_says_what_it_is(group: str) -> None:
    from importlib import resources

    import yaml

    folder = resources.files("fascicle") / "conf" / group
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    assert len(files) >= 8
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# ")
        node = yaml.safe_load(text)
        if node.get("sources") == []:
            node["sources"] = ["folder:/somewhere"]
        check_option(group, node, file.name)
