"""The checker: retrieval, scores, training, saving."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from fascicle_faithsum.checker import (
    SHARPNESS,
    Checker,
    ClaimHead,
    TrainingOptions,
    _match,
    balanced_accuracy,
    best_threshold,
    train_checker,
)
from fascicle_faithsum.checker_pairs import (
    Pair,
    Paper,
    corrupted,
    paper_pairs,
    read_pairs,
    read_papers,
    retrieve,
)
from fascicle_faithsum.commands_checker import check_command, train_checker_command
from fascicle_faithsum.errors import MetricError
from fascicle_faithsum.summedits import document_key

COLOURS = ["red", "blue", "green", "black", "white", "grey", "pink", "brown"]
THINGS = ["car", "house", "door", "cat", "dog", "tree", "hat", "boat"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "is", "The", ".", "no", *COLOURS, *THINGS]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights and whole words."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _pairs(start: int, count: int) -> list[Pair]:
    """Claims with `no` are unsupported."""
    pairs = []
    for i in range(start, start + count):
        rng = random.Random(i)
        source = (
            f"The {rng.choice(THINGS)} is {rng.choice(COLOURS)} . The {rng.choice(THINGS)} is {rng.choice(COLOURS)} ."
        )
        claim = f"the {rng.choice(THINGS)} is {'no ' if i % 2 else ''}{rng.choice(COLOURS)}"
        pairs.append(Pair(source, claim, not i % 2, "toy", f"{start}-{i}"))
    return pairs


OPTIONS = TrainingOptions(epochs=12, heads=2, batch_size=16, hidden=16, layer=2)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_checker(
        _pairs(0, 128),
        tmp_path_factory.mktemp("out") / "checker",
        validation=_pairs(1000, 32),
        held_out=_pairs(2000, 32),
        base=base,
        options=OPTIONS,
    )


def test_a_checker_learns_and_its_card_says_how_well(trained: Any) -> None:
    assert trained.balanced_accuracy is not None
    assert trained.balanced_accuracy > 0.9
    card = json.loads((trained.folder / "checker.json").read_text(encoding="utf-8"))
    assert card["pairs"]["toy"] == {"pairs": 128, "supported": 64, "documents": 128}
    assert card["held_out"]["toy"]["pairs"] == 32
    assert len(card["losses"]) == 2
    assert all(losses[-1] < losses[0] for losses in card["losses"])
    assert len(card["fingerprints"]["pairs"]) == 64
    assert not list(trained.folder.parent.glob(".*"))  # nothing temporary is left


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_random_numbers(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    for name in "ab":
        train_checker(_pairs(0, 32), tmp_path / name, base=base, options=TrainingOptions(epochs=1, hidden=8, layer=2))
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second = (Checker.load(tmp_path / name) for name in "ab")
    for p, q in zip(first.heads.parameters(), second.heads.parameters(), strict=True):
        assert torch.equal(p, q)
    one, two = (head.token.weight for head in first.heads[:2])
    assert not torch.equal(one, two)


def test_a_head_judges_a_claim_by_its_tokens_alone() -> None:
    torch.manual_seed(0)
    head = ClaimHead(4, hidden=3).double().eval()
    claim, found = torch.randn(2, 5, 4).double(), torch.randn(2, 5, 4).double()
    nearest, mask = torch.rand(2, 5, 1).double(), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    odds = head(claim, found, nearest, mask)
    for row, length in ((0, 5), (1, 2)):
        c, f, n = (x[row, :length] for x in (claim, found, nearest))
        states = torch.nn.functional.gelu(head.token(torch.cat([c, f, c - f, c * f, 10 * n], -1)))
        told = torch.cat([states.mean(0), states.max(0).values, n.mean(0), n.min(0).values])
        torch.testing.assert_close(odds[row], head.claim(told)[0])


def test_a_token_finds_what_is_most_like_it() -> None:
    torch.manual_seed(0)
    source = torch.nn.functional.normalize(torch.randn(6, 32), dim=-1)
    claim, found, nearest = _match(source[[4, 1]], source)
    assert nearest.squeeze(1).tolist() == [1.0, 1.0]
    read = (SHARPNESS * (source[[4, 1]] @ source.T)).softmax(-1)
    assert read.argmax(-1).tolist() == [4, 1]
    rows = torch.nn.functional.layer_norm(source, (32,))
    torch.testing.assert_close(found.float(), read @ rows, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(claim.float(), rows[[4, 1]], atol=2e-3, rtol=2e-3)


def test_a_claim_or_a_source_without_a_token_is_not_supported(trained: Any) -> None:
    checker = Checker.load(trained.folder)
    assert checker.probabilities([("The car is red.", ""), ("", "The car is red.")]) == [0.0, 0.0]


def test_another_encoder_is_refused(trained: Any, base: Path, tmp_path: Path) -> None:
    other = BertModel.from_pretrained(base)
    with torch.no_grad():
        other.embeddings.word_embeddings.weight[5] += 1
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert Checker.load(trained.folder, encoder=tmp_path).threshold == Checker.load(trained.folder).threshold
    other.save_pretrained(tmp_path)
    with pytest.raises(MetricError, match="has other weights"):
        Checker.load(trained.folder, encoder=tmp_path)


def test_an_encoder_in_memory_leaves_the_place_that_was_named(trained: Any, base: Path, tmp_path: Path) -> None:
    pair = BertModel.from_pretrained(base).eval(), PreTrainedTokenizerFast.from_pretrained(base)
    checker = Checker.load(trained.folder, encoder=pair)
    again = Checker.load(checker.save(tmp_path / "copy"))
    assert again.card["encoder"] == str(base)
    texts = ["The car is red. The dog is blue."], ["The dog is red."]
    assert again(*texts) == checker(*texts)


def test_damaged_heads_are_told(trained: Any, tmp_path: Path) -> None:
    Checker.load(trained.folder).save(tmp_path / "copy")
    (tmp_path / "copy" / "heads.safetensors").write_bytes(b"no tensors")
    with pytest.raises(MetricError, match="holds no checker"):
        Checker.load(tmp_path / "copy")


def test_a_text_is_its_own_summary_and_literal_sentences_are_supported(trained: Any) -> None:
    checker = Checker.load(trained.folder)
    source = "The car is red. The no dog is no cat."
    assert checker([source, source], [source, "the no dog is no cat"]) == [1.0, 1.0]
    assert checker([source], [""]) == [0.0]


def test_a_score_is_the_mean_over_sentences_and_independent_of_its_batch(trained: Any) -> None:
    checker = Checker.load(trained.folder)
    source = "The car is red. The dog is blue."
    good, bad = checker([source, source], ["The dog is red.", "The dog is no hat."])
    assert good > 0.5 > bad
    both = checker([source, source, source], ["The dog is red. The dog is no hat.", "The dog is no hat.", "The car."])
    assert both[0] == pytest.approx((good + bad) / 2, abs=2e-6)
    assert both[1] == pytest.approx(bad, abs=2e-6)
    claims = checker.claims(source, "The dog is red. The dog is no hat.")
    assert [c["supported"] for c in claims] == [True, False]


def test_a_saved_checker_is_the_same_and_replaces_only_a_checker(trained: Any, tmp_path: Path) -> None:
    checker = Checker.load(trained.folder)
    texts = ["The car is red. The dog is blue."], ["The dog is red."]
    again = Checker.load(checker.save(tmp_path / "copy"))
    assert again(*texts) == checker(*texts)
    assert (again.threshold, again.states.layer) == (checker.threshold, checker.states.layer)
    checker.save(tmp_path / "copy")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(MetricError, match="no checker"):
        checker.save(tmp_path / "other")
    with pytest.raises(MetricError, match="holds no checker"):
        Checker.load(tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("sources", "summaries", "told"),
    [
        ("a", ["b"], "expected a list"),
        (["a"], [], "of length 0"),
        ([" "], ["b"], "blank"),
        ([3], ["b"], "expected a string"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(trained: Any, sources: Any, summaries: Any, told: str) -> None:
    with pytest.raises(MetricError, match=told):
        Checker.load(trained.folder)(sources, summaries)


def test_documents_in_two_parts_and_single_labels_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="in common"):
        train_checker(_pairs(0, 8), tmp_path / "c", held_out=_pairs(0, 8), base=base)
    with pytest.raises(MetricError, match="supported and unsupported"):
        train_checker([p for p in _pairs(0, 8) if p.supported], tmp_path / "c", base=base)
    with pytest.raises(MetricError, match="heads: expected at least 1, got 0"):
        TrainingOptions(heads=0)


def test_balanced_accuracy_and_its_threshold() -> None:
    p, labels = [0.1, 0.2, 0.3, 0.9], [False, False, True, True]
    assert balanced_accuracy(p, labels) == 0.75
    assert balanced_accuracy(p, labels, best_threshold(p, labels)) == 1.0
    brute = max(balanced_accuracy([0.3, 0.1, 0.6], [True, False, False], cut / 100) for cut in range(100))
    found = best_threshold([0.3, 0.1, 0.6], [True, False, False])
    assert balanced_accuracy([0.3, 0.1, 0.6], [True, False, False], found) == brute
    with pytest.raises(MetricError, match="both labels"):
        balanced_accuracy([0.1], [True])


def test_retrieval_brings_what_the_others_lack_in_document_order() -> None:
    source = "Weather was fine. Ann bought a boat. It was a boat of wood. Prices rose. Bob sold the house."
    assert retrieve(source, "Ann got a boat, Bob a house.", 2) == "Ann bought a boat. Bob sold the house."
    assert retrieve(source, "Ann got a boat.", 9) == source


def test_pairs_of_papers_and_corruptions() -> None:
    papers = [
        Paper((f"We show that {a} is better than {b}.",), (f"{a} is better.",))
        for a, b in [("ANN", "SVM"), ("CNN", "RNN")]
    ]
    pairs = paper_pairs(papers, random.Random(0))
    assert [p.supported for p in pairs].count(True) == 2
    assert Pair(papers[1].source, "ANN is better.", False, "papers", document_key(papers[1].source)) in pairs
    changed = corrupted(pairs, random.Random(0))
    assert len(changed) == 2
    assert not any(p.supported or p.claim in {q.claim for q in pairs if q.supported} for p in changed)


def test_pair_files(tmp_path: Path) -> None:
    file = tmp_path / "rte.tsv"
    file.write_text('index\tsentence1\tsentence2\tlabel\n0\tIt "rained.\tWet.\tentailment\n', encoding="utf-8")
    assert [(p.source, p.claim, p.supported) for p in read_pairs(file)] == [('It "rained.', "Wet.", True)]
    file.write_text("source\tclaim\tlabel\na\tb\tmaybe\n", encoding="utf-8")
    with pytest.raises(MetricError, match=r"rte\.tsv:2: .*'maybe'"):
        read_pairs(file)
    file.write_text("x\ty\n", encoding="utf-8")
    with pytest.raises(MetricError, match="header"):
        read_pairs(file)
    file.write_text('{"source": "a", "target": ["b"]}\n', encoding="utf-8")
    with pytest.raises(MetricError, match=r"rte\.tsv:1: source"):
        read_papers(file)


def test_the_commands_train_and_check(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "id": f"{i}{e}",
            "doc": f"The {THINGS[i % 8]} is {COLOURS[i // 8]}. The no is no.",
            "summary": f"The {THINGS[i % 8]} is {e}{COLOURS[i // 8]} the.",
            "original_summary": f"The {THINGS[i % 8]} is {COLOURS[i // 8]} the.",
            "label": int(not e),
        }
        for i in range(20)
        for e in ("", "no ")
    ]
    (tmp_path / "news.json").write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "checker"
    arguments = ["--out", str(out), "--summedits", str(tmp_path / "news.json"), "--base", str(base), "--epochs", "1"]
    arguments += ["--layer", "2", "--heads", "1"]
    assert train_checker_command(arguments) == 0
    assert "balanced accuracy" in capsys.readouterr().out
    (tmp_path / "d.txt").write_text("The car is red.\nThe dog is blue.\n", encoding="utf-8")
    (tmp_path / "s.txt").write_text("The car is red.\nThe dog is no hat.\n", encoding="utf-8")
    told = [str(tmp_path / "d.txt"), str(tmp_path / "s.txt"), "--checker", str(out), "--json", str(tmp_path / "o.json")]
    assert check_command(told) == 0
    assert "1: supported   1.000 The car is red." in capsys.readouterr().out
    assert len(json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))) == 2
    with pytest.raises(MetricError, match="leave-out"):
        train_checker_command([*arguments, "--leave-out", "poetry"])
