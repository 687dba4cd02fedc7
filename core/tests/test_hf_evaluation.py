"""Evaluations against values computed by hand, by closed forms and by scikit-learn."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import datasets
import pytest
import torch
from hf_tiny import VOCABULARY, bart, bert, collate, context, data, llama, rows
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import nn

from fascicle.errors import DataError
from fascicle.hf.decoding import GenerateDecoder, decoder
from fascicle.hf.evaluation import evaluate
from fascicle.hf.generation import prompts, references, score_texts
from fascicle.hf.training_options import (
    Beam,
    Classification,
    DecodingSpeed,
    Generation,
    Greedy,
    Perplexity,
    PromptLookup,
)
from fascicle.objects import LoadedModel

if TYPE_CHECKING:
    from fascicle.objects import Data, Metrics


class Told(nn.Module):
    """A classifier whose logits stand in the input: row i says which row of `logits` to give."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids[:, 0]])


def told(logits: list[list[float]], labels: list[Any], **more: Any) -> tuple[LoadedModel, Data]:
    model = LoadedModel(model=Told(logits), tokenizer=None, task="classification", name="told", source="")
    lengths = [1 + i % 3 for i in range(len(labels))]  # rows of different length are sorted into batches, and back
    rows = datasets.Dataset.from_list(
        [{"input_ids": [i] * n, "labels": y} for (i, n), y in zip(enumerate(lengths), labels, strict=True)]
    )
    return model, data("classification", test=rows)


def measure(cfg: Any, model: LoadedModel, numbers: Data, tmp_path: Path, decoding: Any = None) -> Metrics:
    run = context(tmp_path)
    return evaluate(cfg, model, numbers, decoding or decoder(Greedy(), run), run)


# ---- classification ----


def test_classification_agrees_with_hand_and_scikit_learn(tmp_path: Path) -> None:
    logits = [[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 2.0]]
    labels = [0, 1, 0, 0, 1]  # the third is wrong
    model, numbers = told(logits, labels)
    found = measure(Classification(batch_size=2), model, numbers, tmp_path)
    predicted = [0, 1, 1, 0, 1]
    nll = [
        math.log(1 + math.exp(-2)),
        math.log(1 + math.exp(-1)),
        3 + math.log(1 + math.exp(-3)),
        math.log(1 + math.exp(-1)),
        math.log(1 + math.exp(-2)),
    ]
    assert found.values["accuracy"] == 0.8
    assert found.values["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found.values["mcc"] == pytest.approx(matthews_corrcoef(labels, predicted))
    assert found.values["nll"] == pytest.approx(sum(nll) / 5, rel=1e-6)
    assert list(found.per_example["accuracy"]) == [1, 1, 0, 1, 1]
    assert list(found.per_example["nll"]) == pytest.approx(nll, rel=1e-6)
    assert found.primary == "accuracy"
    assert found.higher_is_better["accuracy"] is True
    assert found.higher_is_better["nll"] is False
    assert found.sections[0].blocks[0].data["values"] == [[2, 1], [0, 2]]


def test_a_metric_that_is_a_mean_is_the_mean_of_its_rows(tmp_path: Path) -> None:
    for model, cfg in [(bert(), Classification()), (llama(), Perplexity()), (bart(), Generation(max_new_tokens=4))]:
        found = measure(cfg, model, data(model.task), tmp_path)
        assert found.per_example
        for name, values in found.per_example.items():
            assert sum(values) / 10 == pytest.approx(found.values[name]), name


def test_the_data_says_which_metric_leads(tmp_path: Path) -> None:
    model, numbers = told([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    numbers.extra["primary"] = "mcc"
    assert measure(Classification(), model, numbers, tmp_path).primary == "mcc"
    numbers.extra["primary"] = "unheard of"
    assert measure(Classification(), model, numbers, tmp_path).primary == "accuracy"


def test_the_batch_size_changes_no_result(tmp_path: Path) -> None:
    one, five = (measure(Classification(batch_size=size), bert(), data("classification"), tmp_path) for size in (1, 5))
    assert one.values == pytest.approx(five.values, rel=1e-5)
    assert list(one.per_example["nll"]) == pytest.approx(list(five.per_example["nll"]), rel=1e-4)


def test_regression_has_error_and_correlation(tmp_path: Path) -> None:
    model, numbers = told([[1.0], [2.0], [4.0], [3.0]], [1.0, 3.0, 4.0, 3.0])
    numbers.label_names = []
    found = measure(Classification(batch_size=3), model, numbers, tmp_path)
    assert found.values["mse"] == 0.25
    assert list(found.per_example["mse"]) == [0, 1, 0, 0]
    assert found.values["pearson"] == pytest.approx(
        torch.corrcoef(torch.tensor([[1.0, 2, 4, 3], [1, 3, 4, 3]]))[0, 1].item()
    )
    assert found.primary == "spearman"


def test_rows_and_split_are_chosen(tmp_path: Path) -> None:
    numbers = data("classification")
    assert len(list(measure(Classification(rows=4), bert(), numbers, tmp_path).per_example["accuracy"])) == 4
    assert len(list(measure(Classification(split="train"), bert(), numbers, tmp_path).per_example["accuracy"])) == 22
    with pytest.raises(DataError, match=r"evaluation\.split.*only \['train'\]"):
        measure(Classification(), bert(), data("classification", train=rows("classification", 3)), tmp_path)


def test_rows_without_labels_are_refused(tmp_path: Path) -> None:
    bare = rows("classification", 3).remove_columns("labels")
    with pytest.raises(DataError, match="no single label"):
        measure(Classification(), bert(), data("classification", test=bare), tmp_path)
    with pytest.raises(DataError, match="labels per token"):
        measure(Perplexity(), llama(), data("causal_lm", test=bare), tmp_path)
    silent = rows("causal_lm", 3).map(lambda row: {"labels": [-100] * len(row["labels"])})
    with pytest.raises(DataError, match="-100"):
        measure(Perplexity(), llama(), data("causal_lm", test=silent), tmp_path)


# ---- perplexity ----


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(tmp_path: Path) -> None:
    for model in (llama(), bart()):
        for parameter in model.model.parameters():
            nn.init.zeros_(parameter)
        found = measure(Perplexity(batch_size=3), model, data(model.task), tmp_path)
        assert found.values["perplexity"] == pytest.approx(VOCABULARY, rel=1e-5)
        assert found.values["nll"] == pytest.approx(math.log(VOCABULARY), rel=1e-6)


@pytest.mark.parametrize("make", [llama, bart])
def test_perplexity_counts_each_target_once(make: Any, tmp_path: Path) -> None:
    model = make()
    numbers = data(model.task)
    found = measure(Perplexity(batch_size=4), model, numbers, tmp_path)
    sums, counts = [], []
    for row in numbers.splits["test"]:
        batch = collate([row])
        with torch.no_grad():
            logits = model.model(**batch).logits[0].log_softmax(-1)
        shift = 1 if make is llama else 0
        pairs = [(i - shift, y) for i, y in enumerate(row["labels"]) if y != -100 and i >= shift]
        sums.append(-sum(logits[i, y].item() for i, y in pairs))
        counts.append(len(pairs))
    assert list(found.per_example["nll_per_row"]) == pytest.approx(sums, rel=1e-4)
    assert list(found.per_example["tokens_per_row"]) == counts
    assert found.values["perplexity"] == pytest.approx(math.exp(sum(sums) / sum(counts)), rel=1e-4)
    assert found.higher_is_better["perplexity"] is False


# ---- written text ----


def test_scores_agree_with_hand() -> None:
    values, per_row = score_texts(["the cat sat", "a dog"], [["the cat sat", "no"], ["a big dog"]], stemmer=False)
    assert per_row["rouge1"] == pytest.approx([100, 100 * 2 * (1 * 2 / 3) / (1 + 2 / 3)])
    assert per_row["exact_match"] == [1, 0]
    assert values["exact_match"] == 0.5
    assert values["rouge1"] == pytest.approx(90)
    two, _ = score_texts(["b. a."], [["a. b."]])
    assert two["rougeLsum"] == pytest.approx(100), "sentences may come in another order"
    assert two["rougeL"] == pytest.approx(50)
    perfect, _ = score_texts(["one two three four five"], [["one two three four five"]])
    assert perfect["bleu"] == pytest.approx(100)
    assert perfect["chrf"] == pytest.approx(100)


def test_stemming_is_a_choice() -> None:
    assert score_texts(["runs"], [["running"]], stemmer=True)[0]["rouge1"] == 100
    assert score_texts(["runs"], [["running"]], stemmer=False)[0]["rouge1"] == 0


def test_a_prompt_is_what_stands_before_the_answer() -> None:
    row = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8], "attention_mask": [1, 1, 1, 1]}
    made = datasets.Dataset.from_list([row])
    assert prompts(made, llama()) == [{"input_ids": [5, 6], "attention_mask": [1, 1]}]
    assert references(data("causal_lm"), "test", made, llama()) == [["7 8"]]
    whole = datasets.Dataset.from_list([{"input_ids": [5, 6], "labels": [5, 6]}])
    assert prompts(whole, llama()) == [{"input_ids": [5, 6]}]
    assert references(data("causal_lm"), "test", whole, llama()) is None
    told = data("causal_lm")
    told.extra["references"] = lambda split: ["one", ["two", "three"]]
    assert references(told, "test", datasets.concatenate_datasets([made, made]), llama()) == [["one"], ["two", "three"]]


def test_generation_scores_what_the_decoder_writes(tmp_path: Path) -> None:
    model = llama()
    numbers = data("causal_lm")
    asked = prompts(numbers.splits["test"], model)
    written = []
    for row in asked:  # one by one, so no padding is involved
        with torch.no_grad():
            ids = torch.tensor([row["input_ids"]])
            for _ in range(5):
                ids = torch.cat([ids, model.model(ids).logits[:, -1:].argmax(-1)], dim=1)
                if ids[0, -1] == 2:
                    break
        written.append(" ".join(map(str, ids[0, len(row["input_ids"]) :].tolist())))
    numbers.extra["references"] = lambda split: written
    found = measure(Generation(max_new_tokens=5, batch_size=4), model, numbers, tmp_path)
    assert found.values["exact_match"] == 1
    assert found.values["rougeL"] == pytest.approx(100)
    assert found.primary == "rougeL"
    assert "Reference" in found.sections[0].blocks[0].data["text"]


def test_text_without_references_is_measured_by_length_and_speed(tmp_path: Path) -> None:
    bare = rows("causal_lm", 4).remove_columns("labels")
    found = measure(Generation(max_new_tokens=3, samples=2), llama(), data("causal_lm", test=bare), tmp_path)
    assert set(found.values) == {"new_tokens", "tokens_per_second"}
    assert len(found.sections[0].blocks) == 2


def test_speed_is_a_ratio_within_one_run(tmp_path: Path) -> None:
    run = context(tmp_path)
    cfg = DecodingSpeed(rows=3, max_new_tokens=8, repeats=2)
    plain = evaluate(cfg, llama(), data("causal_lm"), decoder(Greedy(min_new_tokens=8), run), run)
    assert plain.values["identical"] == 1
    assert plain.values["new_tokens"] == 8
    assert plain.values["tokens_per_forward"] == 1
    assert len(plain.sections[0].blocks[0].data["rows"]) == 2
    drafted = evaluate(cfg, llama(), data("causal_lm"), decoder(PromptLookup(min_new_tokens=8), run), run)
    assert drafted.values["identical"] == 1
    assert drafted.values["tokens_per_forward"] >= 1
    other = evaluate(cfg, llama(), data("causal_lm"), decoder(Beam(num_beams=3, min_new_tokens=8), run), run)
    assert 0 <= other.values["identical"] <= 1


def test_where_a_text_departs_the_lead_of_the_plain_token_is_told(tmp_path: Path) -> None:
    run, model = context(tmp_path), llama()
    greedy = decoder(Greedy(min_new_tokens=6), run)
    lead: list[float] = []

    class Wrong:
        """Greedy, but for the fourth token of each text."""

        name, options = "wrong", Greedy(min_new_tokens=6)

        def generate(self, model: Any, inputs: dict[str, Any], *, max_new_tokens: int) -> Any:
            out = greedy.generate(model, inputs, max_new_tokens=max_new_tokens)
            begun = torch.cat([inputs["input_ids"], out.sequences[:, :3]], dim=1)
            right = int(out.sequences[0, 3])
            wrong = (right + 1) % model.model.config.vocab_size
            logits = model.model(begun).logits[0, -1].tolist()
            lead.append(logits[right] - logits[wrong])
            out.sequences[0, 3] = wrong
            return out

        def sections(self) -> list[Any]:
            return []

    cfg = DecodingSpeed(rows=3, max_new_tokens=6, repeats=1, warmup=0)
    found = evaluate(cfg, model, data("causal_lm"), Wrong(), run)
    assert found.values["identical"] == 0
    assert found.values["departure_margin"] == pytest.approx(max(lead), rel=1e-5)
    assert evaluate(cfg, model, data("causal_lm"), greedy, run).values["departure_margin"] == 0


def test_speed_turns_swap_who_writes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    plain = GenerateDecoder.generate

    def watched(self: GenerateDecoder, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.name)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(GenerateDecoder, "generate", watched)
    run = context(tmp_path)
    cfg = DecodingSpeed(rows=3, max_new_tokens=2, repeats=2, warmup=0)
    evaluate(cfg, llama(), data("causal_lm"), decoder(PromptLookup(), run), run)
    pairs = [tuple(calls[i : i + 2]) for i in range(0, 12, 2)]
    assert all(set(pair) == {"greedy", "prompt_lookup"} for pair in pairs)
    first = [pair[0] for pair in pairs]
    assert all(one != two for one, two in itertools.pairwise(first)), "within a repeat the turns alternate"
    assert all(one != two for one, two in zip(first[:3], first[3:], strict=True)), (
        "and each prompt swaps between repeats"
    )
