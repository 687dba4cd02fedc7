"""DialogRE from its files to F1 and F1c."""

from __future__ import annotations

import json
import random
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sief_data import docred_row

from fascicle.cli import main
from fascicle.errors import ConfigError, DataError
from fascicle.testing.helpers import load, run_context
from fascicle_sief.dialogre import read_dialogre, read_dialogre_pairs
from fascicle_sief.dialogre_evaluation import evaluate_dialogre, pair_scores, prefix_scores
from fascicle_sief.dialogre_options import SiefDialogre
from fascicle_sief.dialogre_scores import RELATIONS, ceiling_f1c, choose_t2, dialogre_f1, dialogre_f1c
from fascicle_sief.document import Document, Mention
from fascicle_sief.submissions import read_dialogre_prefixes, read_dialogre_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fascicle_sief.dialogre_scores import DialoguePair

NOTHING = 37
NAMES = ("Ann", "Bob", "Cleo", "Dan")
CHAT = ("boss", "hello", "friend", "yes", "my", "the")


def dialogue(rng: random.Random) -> list[Any]:
    """One in DialogRE's format: speakers, names, pairs with one relation, two or none, and some repeated pairs."""
    speakers = ["Speaker 1", "Speaker 2"]
    turns = [
        f"{speakers[k % 2]}: {' '.join(rng.choices(CHAT, k=3))} {rng.choice(NAMES)}." for k in range(rng.randint(1, 6))
    ]
    there = [name for name in (*speakers, *NAMES) if any(name in turn for turn in turns)]
    pairs = []
    for _ in range(rng.randint(1, 4)):
        x, y = rng.sample(there, 2)
        rids = rng.choice(([NOTHING], [rng.randint(1, 36)], sorted(rng.sample(range(1, 37), 2))))
        said = [word for word in CHAT if any(word in turn for turn in turns)]
        triggers = ["" if rid == NOTHING else rng.choice(("", *said)) for rid in rids]
        names = [[*RELATIONS, "unanswerable"][rid - 1] for rid in rids]
        pairs.append({"x": x, "y": y, "x_type": "PER", "y_type": "PER", "rid": rids, "r": names, "t": triggers})
    return [turns, pairs]


def write(path: Path, dialogues: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dialogues), encoding="utf-8")
    return path


def corpus(folder: Path, seed: int = 3, train: int = 12, dev: int = 4) -> list[str]:
    """Two files, and the overrides that choose them."""
    rng = random.Random(seed)
    files = {
        split: write(folder / f"{split}.json", [dialogue(rng) for _ in range(n)])
        for split, n in (("train", train), ("dev", dev))
    }
    return ["data=sief_dialogre", f"data.train={files['train']}", f"data.test={files['dev']}", "data.validation_part=3"]


class Rule:
    """Says something else of every text, above 0.5 now and then; knows the relations in an order of its own."""

    relations, threshold = tuple(sorted(RELATIONS)), 0.5

    def __init__(self) -> None:
        self.read: list[Document] = []

    def probabilities(self, documents: Sequence[Document]) -> list[np.ndarray]:
        self.read += documents
        return [self.answer(document) for document in documents]

    def power(self, asked: str) -> int:
        """High for some texts, so that nothing is above 0.5 there and T2 decides."""
        return (8, 60, 600)[zlib.crc32(asked[::-1].encode()) % 3]

    def answer(self, document: Document) -> np.ndarray:
        text = "\n".join(document.text(k) for k in range(len(document)))
        p = np.zeros((len(document.all_pairs()), len(RELATIONS)))
        for i, (head, tail) in enumerate(document.all_pairs()):
            if document.entities[head] and document.entities[tail]:
                asked = f"{text}|{document.name(head)}|{document.name(tail)}"
                p[i] = np.random.default_rng(zlib.crc32(asked.encode())).random(len(RELATIONS)) ** self.power(asked)
        return p


def brute_force_f1c(folder: Path, dialogues: Sequence[Any], t2: float) -> float:
    """The official rule in loops, with a file of its own for each prefix."""
    precisions, recalls = [], []
    for d, (turns, pairs) in enumerate(dialogues):
        for row in pairs:
            correct = predicted = gold = 0
            for k in range(1, len(turns) + 1):
                file = write(folder / f"{d}-{k}.json", [[turns[:k], pairs]])
                document = read_dialogre(file)[0]
                names = [document.name(e) if document.entities[e] else "" for e in range(len(document.entities))]
                place = [
                    i for i, (h, t) in enumerate(document.all_pairs()) if (names[h], names[t]) == (row["x"], row["y"])
                ]
                p = dict(zip(Rule.relations, Rule().answer(document)[place[0]] if place else [0] * 36, strict=True))
                chosen = {name for name in RELATIONS if p[name] > 0.5}
                best = max(RELATIONS, key=lambda name: p[name])
                if not chosen and p[best] > t2:
                    chosen = {best}
                said = [turn.lower() for turn in turns[:k]]
                known = set()
                for name in RELATIONS:
                    trigger = dict(zip(row["r"], row["t"], strict=True)).get(name)
                    if k == len(turns) or (
                        all(any(row[side].lower() in turn for turn in said) for side in "xy")
                        and (trigger is None or (trigger and any(trigger in turn for turn in said)))
                    ):
                        known.add(name)
                right = set(row["r"]) - {"unanswerable"}
                correct += len(chosen & right & known)
                predicted += len(chosen & known)
                gold += len(right & known)
            precisions.append(correct / predicted if predicted else 1.0)
            recalls.append(correct / gold if gold else 0.0)
    precision, recall = np.mean(precisions), np.mean(recalls)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


# ---- prefixes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_f1c_is_that_of_every_prefix_read_from_a_file_of_its_own(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    dialogues = [dialogue(rng) for _ in range(40)]
    file = write(tmp_path / "dev.json", dialogues)
    documents, pairs = read_dialogre(file), read_dialogre_pairs(file)
    whole = pair_scores(Rule(), documents, pairs)
    t2 = choose_t2(whole, pairs)
    found = dialogre_f1c(prefix_scores(Rule(), documents, pairs, whole), pairs, t2)["f1c"]
    assert found == pytest.approx(brute_force_f1c(tmp_path, dialogues, t2))
    assert 0 < found < ceiling_f1c(pairs)


def test_relations_come_in_the_order_of_the_official_ids(tmp_path: Path) -> None:
    file = write(tmp_path / "dev.json", [dialogue(random.Random(1))])
    documents, pairs = read_dialogre(file), read_dialogre_pairs(file)
    answers = Rule().probabilities(documents)[0]
    for scores, pair in zip(pair_scores(Rule(), documents, pairs), pairs, strict=True):
        assert dict(zip(RELATIONS, scores, strict=True)) == dict(zip(Rule.relations, answers[pair.row], strict=True))


def chat() -> tuple[Document, list[DialoguePair]]:
    """Two pairs: of turns 0 and 1, and of turns 0 and 2, where the second is asked twice."""
    from fascicle_sief.dialogre_scores import DialoguePair

    turns = ("Ann", "Bob", "Cleo", "Ann")
    document = Document(
        "d",
        [[turn] for turn in turns],
        [[Mention(0, 0, 1), Mention(3, 0, 1)], [Mention(1, 0, 1)], [Mention(2, 0, 1)]],
        pairs=[(0, 1), (0, 2)],
    )
    return document, [
        DialoguePair(turns, "Ann", y, (9,), ("",), "d", row) for y, row in (("Bob", 0), ("Cleo", 1), ("Cleo", 1))
    ]


def test_all_pairs_share_one_pass_for_each_prefix_that_has_one() -> None:
    document, pairs = chat()
    rule = Rule()
    prefix_scores(rule, [document], pairs, np.zeros((3, 36)))
    assert [len(asked) for asked in rule.read] == [2, 3]  # the first turn has no pair; the whole dialogue is known


def test_a_pair_has_probability_zero_until_both_arguments_are_mentioned() -> None:
    class Sure(Rule):
        def answer(self, document: Document) -> np.ndarray:
            return np.ones((len(document.all_pairs()), len(RELATIONS)))

    document, pairs = chat()
    bob, cleo, again = prefix_scores(Sure(), [document], pairs, np.full((3, 36), 0.7))
    assert bob[:, 0].tolist() == [0, 1, 1, 0.7]
    assert cleo[:, 0].tolist() == again[:, 0].tolist() == [0, 0, 1, 0.7]


def test_many_dialogues_are_read_in_parts_and_told(tmp_path: Path) -> None:
    rng = random.Random(5)
    file = write(tmp_path / "dev.json", [dialogue(rng) for _ in range(70)])
    documents, pairs = read_dialogre(file), read_dialogre_pairs(file)
    done: list[int] = []
    scores = pair_scores(Rule(), documents, pairs)
    together = prefix_scores(Rule(), documents, pairs, scores, advance=done.append)
    assert sum(done) == 70
    assert len(done) > 1
    for d in documents:
        own = [i for i, pair in enumerate(pairs) if pair.title == d.title]
        alone = prefix_scores(Rule(), [d], [pairs[i] for i in own], scores[own])
        assert all(np.array_equal(together[i], a) for i, a in zip(own, alone, strict=True))


def test_pairs_of_other_dialogues_and_other_relations_are_refused() -> None:
    document, pairs = chat()
    with pytest.raises(DataError, match=r"pair \('Ann', 'Bob'\): its dialogue 'd' is none of the 0"):
        pair_scores(Rule(), [], pairs)
    longer = Document("d", [["Ann"]] * 5, document.entities, pairs=document.pairs)
    with pytest.raises(DataError, match="expected 4 turns and a pair in row 0, got 5 turns"):
        pair_scores(Rule(), [longer], pairs)

    class Other(Rule):
        relations = (*RELATIONS[1:], "owns")

    with pytest.raises(DataError, match=r"missing \['per:positive_impression'\], unknown \['owns'\]"):
        pair_scores(Other(), [document], pairs)


# ---- data ----------------------------------------------------------------------------------------------------------------


def test_training_documents_are_set_aside_by_title(tmp_path: Path) -> None:
    files = corpus(tmp_path)
    data, _ = load(["model=sief_tiny", *files], run_context(tmp_path / "r"))
    documents = data.extra["documents"]
    assert {split: len(found) for split, found in documents.items()} == {"train": 9, "validation": 3, "test": 4}
    train, validation = ({d.title for d in documents[split]} for split in ("train", "validation"))
    assert not train & validation
    again, _ = load(["model=sief_tiny", *files], run_context(tmp_path / "s", seed=2))
    assert {d.title for d in again.extra["documents"]["validation"]} == validation
    other, _ = load(["model=sief_tiny", *files, "data.split_seed=1"], run_context(tmp_path / "t"))
    assert {d.title for d in other.extra["documents"]["validation"]} != validation


@pytest.mark.parametrize("form", ["auto", "dialogre"])
def test_every_part_has_the_official_rows_of_its_own_file(tmp_path: Path, form: str) -> None:
    rng = random.Random(8)
    files = {side: write(tmp_path / side / "same.json", [dialogue(rng) for _ in range(5)]) for side in ("a", "b")}
    overrides = ["model=sief_tiny", "data=sief_dialogre", f"data.format={form}", f"data.train={files['a']}"]
    data, _ = load([*overrides, f"data.test={files['b']}", "data.validation_part=2"], run_context(tmp_path / "r"))
    rows = data.extra["dialogue_pairs"]
    titles = {split: [d.title for d in found] for split, found in data.extra["documents"].items()}
    known = {side: read_dialogre_pairs(file) for side, file in files.items()}
    assert rows["test"] == known["b"]
    assert rows["validation"] == [row for row in known["a"] if row.title in titles["validation"]]
    assert rows["train"] == [row for row in known["a"] if row.title in titles["train"]]
    assert data.label_names == list(RELATIONS)


def test_data_of_other_formats_has_no_official_rows(tmp_path: Path) -> None:
    row = docred_row()
    file = write(tmp_path / "docs.json", [row | {"title": f"d {i}"} for i in range(4)])
    overrides = ["data=sief_docred", "data.format=auto", f"data.train={file}", "data.parts=[2,1,1]"]
    data, _ = load(["model=sief_tiny", *overrides], run_context(tmp_path / "r"))
    assert "dialogue_pairs" not in data.extra
    assert data.label_names == ["P463", "P527"]


# ---- runs ----------------------------------------------------------------------------------------------------------------

SMALL = [
    "model=sief_tiny",
    "training=hf_trainer",
    "training.max_steps=2",
    "training.batch_size=4",
    "evaluation=sief_dialogre",
]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    assert main(["run", *SMALL, f"run.dir={folder}", *overrides]) == 0
    told: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize("base", ["bilinear", "atlop"])
def test_a_run_is_measured_by_the_official_rules(tmp_path: Path, base: str) -> None:
    folder = tmp_path / "run"
    told = run(folder, *corpus(tmp_path), "objective=sief_focusing", f"model.base={base}")
    pairs = read_dialogre_pairs(tmp_path / "dev.json")
    scores = read_dialogre_scores(folder / "predictions" / "logits_test.txt")
    prefixes = read_dialogre_prefixes(folder / "predictions" / "logits_testc.txt", [len(p.turns) for p in pairs])
    assert np.allclose(scores, [p[-1] for p in prefixes])
    t2 = told["metrics"]["t2"]
    expected = dialogre_f1(scores, pairs, t2) | dialogre_f1c(prefixes, pairs, t2)
    assert told["metrics"] == pytest.approx({**expected, "t2": t2, "f1c_ceiling": ceiling_f1c(pairs)})
    aside = read_dialogre_scores(folder / "predictions" / "logits_dev.txt")
    data, _ = load(["model=sief_tiny", *corpus(tmp_path)], run_context(tmp_path / "r"))
    assert t2 == choose_t2(aside, data.extra["dialogue_pairs"]["validation"])
    assert told["sections"][0]["title"] == "Relations in dialogues"
    assert len(told["sections"]) == 2


def test_t2_can_be_given_and_prefixes_left_out(tmp_path: Path) -> None:
    files = [*corpus(tmp_path), "data.validation_part=0"]
    told = run(tmp_path / "run", *files, "evaluation.t2=0.25", "evaluation.prefixes=false", "evaluation.examples=0")
    assert told["metrics"].keys() == {"f1", "precision", "recall", "t2"}
    assert told["metrics"]["t2"] == 0.25
    assert len(told["sections"]) == 1


def test_data_without_official_pairs_is_refused(tmp_path: Path) -> None:
    context = run_context(tmp_path / "r")
    data, model = load(["model=sief_tiny", "data=sief_planted", "data.train_rows=4"], context)
    with pytest.raises(DataError, match=r"needs the pairs of DialogRE's evaluation .* choose data=sief_dialogre"):
        evaluate_dialogre(SiefDialogre(), model, data, context)


def test_t2_needs_validation_dialogues(tmp_path: Path) -> None:
    context = run_context(tmp_path / "r")
    data, model = load(["model=sief_tiny", *corpus(tmp_path), "data.validation_part=0"], context)
    with pytest.raises(ConfigError, match=r"evaluation\.t2: got null and no validation dialogues"):
        evaluate_dialogre(SiefDialogre(), model, data, context)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.validation_part=12"], "data.validation_part: asked for 12 documents and some to train on, .* has 12"),
        (["data.validation=x.json"], "validation_part: expected 0 beside a validation file, got 3"),
        (["data.test=null", "data.parts=[4,4,4]"], "validation_part: expected 0 beside parts, got 3"),
        (["evaluation.t2=0.7"], "evaluation.t2"),
    ],
)
def test_what_cannot_be_is_refused_with_the_key(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, *corpus(tmp_path), f"run.dir={tmp_path / 'r'}", *overrides]) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(message, told), told


# ---- real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.realdata
def test_forty_dialogues_are_learned_from_and_measured(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    files = {}
    for split, n in (("train", 50), ("dev", 20)):
        dialogues = json.loads(real_data(f"dialogre/{split}.json").read_text(encoding="utf-8"))[:n]
        files[split] = write(tmp_path / f"{split}.json", dialogues)
    told = run(
        tmp_path / "run",
        "data=sief_dialogre",
        f"data.train={files['train']}",
        f"data.test={files['dev']}",
        "data.validation_part=10",
        "objective=sief_focusing",
        "training.max_steps=null",
        "training.epochs=1",
    )
    pairs = read_dialogre_pairs(files["dev"])
    metrics = told["metrics"]
    assert 0 < metrics["f1c_ceiling"] == pytest.approx(ceiling_f1c(pairs))
    assert metrics["f1c"] <= metrics["f1c_ceiling"] < 1
    rows = told["sections"][0]["blocks"][1]["data"]["rows"]
    assert rows[2][:2] == ["F1c of a perfect system", pytest.approx(metrics["f1c_ceiling"])]
