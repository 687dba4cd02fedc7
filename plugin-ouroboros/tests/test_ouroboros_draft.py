"""A draft model of one's own: the cut, the loss, the target's texts, acceptance, and the run that makes it."""

from __future__ import annotations

import atexit
import copy
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ouroboros_models import SIZES, VOCAB, build
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from fascicle import ConfigError, SourceError, run
from fascicle.hf import training as hf_training
from fascicle.hf.model_options import Tiny
from fascicle.hf.tiny import build_tiny
from fascicle.objects import Step
from fascicle_ouroboros import UnsupportedError, VocabularyError
from fascicle_ouroboros.acceptance import measure_acceptance, rounds, time_passes
from fascicle_ouroboros.draft import Distillation, distillation_loss, evenly, own_outputs, prune_layers, quantized
from fascicle_ouroboros.engine import OuroborosEngine
from fascicle_ouroboros.options import DraftingOptions

if TYPE_CHECKING:
    from fascicle import Result

FAMILIES = ["llama", "llama_tied", "mistral_window", "qwen2_window", "gemma", "gemma2_window", "gpt2"]


@functools.cache
def deep(family: str = "llama") -> Any:
    torch.manual_seed(3)
    return build(family, layers=4, window=6).eval().double()


def prompts(count: int, length: int = 7, seed: int = 0) -> list[list[int]]:
    drawn = torch.randint(1, VOCAB, (count, length + 3), generator=torch.Generator().manual_seed(seed)).tolist()
    return [row[: length + i % 4] for i, row in enumerate(drawn)]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([prompts(1, 16)[0]])).logits


# ---- the cut -------------------------------------------------------------------------------------------------------------


def test_layers_are_spread_evenly() -> None:
    assert evenly(30, 6) == [0, 6, 12, 17, 23, 29]
    assert evenly(4, 4) == [0, 1, 2, 3]
    assert evenly(4, 1) == [0]
    for total in range(1, 40):
        for layers in range(1, total + 1):
            assert len(set(evenly(total, layers))) == layers


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_are_the_model_itself(family: str) -> None:
    assert torch.equal(logits(prune_layers(deep(family), 4)), logits(deep(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_is_the_model_with_the_other_layers_left_out(family: str, tmp_path: Path) -> None:
    """The others are left out by making them the identity; the same from a folder that transformers loads by itself."""
    model = deep(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = prune_layers(model, [0, 2, 3])
    assert small.config.num_hidden_layers == 3
    skipping = copy.deepcopy(model)
    list_of_layers = skipping.transformer.h if family == "gpt2" else skipping.model.layers
    list_of_layers[1].forward = lambda hidden_states, *args, **kwargs: hidden_states
    expected = logits(skipping)
    assert torch.equal(logits(small), expected)
    assert not torch.allclose(expected, logits(model))
    small.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(logits(loaded), expected, atol=1e-5, rtol=1e-5)  # the rotations are kept in float32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["llama_tied", "llama", "gemma", "gpt2"])
def test_ties_stay_ties_and_nothing_is_shared_with_the_target(family: str) -> None:
    small, model = prune_layers(deep(family), 2), deep(family)
    tied = [m.get_input_embeddings().weight is m.get_output_embeddings().weight for m in (small, model)]
    assert tied[0] == tied[1] == (family != "llama")
    theirs = {p.data_ptr() for p in model.parameters()}
    assert not any(p.data_ptr() in theirs for p in small.parameters())


def test_kinds_of_layers_are_kept() -> None:
    qwen = prune_layers(deep("qwen2_window"), [0, 2, 3]).config
    assert qwen.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert qwen.max_window_layers == 1
    assert deep("qwen2_window").config.max_window_layers == 2


@pytest.mark.parametrize("asked", [0, 5, [], [0, 4], [-1], [1, 1]])
def test_layers_that_are_not_there_are_refused(asked: int | list[int]) -> None:
    with pytest.raises(UnsupportedError, match=r"layers: got .*expected"):
        prune_layers(deep(), asked)


def test_what_cannot_be_cut_is_refused() -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with pytest.raises(UnsupportedError, match="decoder-only"):
        prune_layers(BertModel(BertConfig(vocab_size=32, **small)), 1)
    halves = {f"{half}_{what}": 1 for half in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    bart = BartForConditionalGeneration(BartConfig(vocab_size=32, d_model=16, **halves))
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        prune_layers(bart, 1)
    with pytest.raises(UnsupportedError, match="writes no text"):
        prune_layers(torch.nn.Linear(2, 2), 1)
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(copy.deepcopy(deep()), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(UnsupportedError, match="merge_and_unload"):
        prune_layers(adapted, 1)


def test_eight_bits_are_near_the_model_and_leave_it_alone() -> None:
    model = copy.deepcopy(deep()).float()
    before = logits(model)
    eight = logits(quantized(model))
    assert torch.equal(logits(model), before)
    assert 0 < (eight - before).norm() / before.norm() < 0.3


# ---- the target's texts --------------------------------------------------------------------------------------------------


def test_own_outputs_are_what_generate_writes_row_by_row() -> None:
    model = copy.deepcopy(deep())
    asked = prompts(7)
    free = own_outputs(model, asked, max_new_tokens=12)
    ends = next([t, 1] for t in range(VOCAB) if 1 < sum(t in text[:-1] for text in free) < 6)
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = 0
    texts = own_outputs(model, asked, max_new_tokens=12, batch_size=3)
    assert {text[-1] in ends for text in texts} == {True, False}
    assert {len(text) == 12 for text in texts} == {True, False}
    for row, text in zip(asked, texts, strict=True):
        alone = model.generate(torch.tensor([row]), max_new_tokens=12, do_sample=False)
        assert text == alone[0, len(row) :].tolist()


def test_drawn_outputs_follow_from_the_seed() -> None:
    one, same, other = (
        own_outputs(deep(), prompts(4), max_new_tokens=8, do_sample=True, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same != other


# ---- the loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_and_its_gradient_are_those_of_the_formula(weight: float, temperature: float) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.randn(5, 11, dtype=torch.float64) for _ in range(2))
    tokens = torch.randint(11, (5,))
    ours.requires_grad_()
    loss = distillation_loss(ours, theirs, tokens, cross_entropy=weight, temperature=temperature)
    loss.backward()
    p, q = ((x.detach() / temperature).exp() for x in (theirs, ours))
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    plain = ours.detach().exp()
    plain = plain / plain.sum(1, keepdim=True)
    chosen = plain[torch.arange(5), tokens]
    expected = (1 - weight) * temperature**2 * (p * (p / q).log()).sum() - weight * chosen.log().sum()
    torch.testing.assert_close(loss.detach(), expected, atol=1e-12, rtol=1e-12)
    one_hot = torch.nn.functional.one_hot(tokens, 11)
    gradient = (1 - weight) * temperature * (q - p) + weight * (plain - one_hot)
    torch.testing.assert_close(ours.grad, gradient, atol=1e-12, rtol=1e-12)


def test_a_cross_entropy_needs_tokens() -> None:
    with pytest.raises(ValueError, match="tokens"):
        distillation_loss(torch.ones(1, 2), torch.ones(1, 2), cross_entropy=0.5)


def padded() -> dict[str, torch.Tensor]:
    """Prompts of 3 and 5 tokens, texts of 4 and 1."""
    rows = [prompts(1, 7)[0][:7], prompts(1, 6, seed=1)[0][:6]]
    ids = torch.tensor([rows[0], rows[1] + [0]])
    labels = ids.clone()
    labels[0, :3] = labels[1, :5] = labels[1, 6:] = -100
    return {"input_ids": ids, "attention_mask": torch.tensor([[1] * 7, [1] * 6 + [0]]), "labels": labels}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_prompts_and_padding_cost_nothing_and_shares_add_up(family: str) -> None:
    model, draft = deep(family), prune_layers(deep(family), 2)
    batch = padded()
    objective = Distillation(model, cross_entropy=0.25)
    loss = objective.loss(draft, batch, Step(0, 1, 0.0), 5)
    by_hand = torch.zeros((), dtype=torch.float64)
    for row, columns in ((0, range(2, 6)), (1, range(4, 5))):
        seen = {"input_ids": batch["input_ids"][row : row + 1, : 7 - row]}
        ours, theirs = draft(**seen).logits[0], model(**seen).logits[0]
        for column in columns:
            p, q = theirs[column].softmax(-1), ours[column].softmax(-1)
            token = batch["input_ids"][row, column + 1]
            by_hand = by_hand + 0.75 * (p * (p / q).log()).sum() - 0.25 * q[token].log()
    assert loss.scaled
    torch.testing.assert_close(loss.loss, by_hand / 5)
    single = [
        objective.loss(draft, {name: value[row : row + 1] for name, value in batch.items()}, Step(0, 1, 0.0), 5).loss
        for row in range(2)
    ]
    torch.testing.assert_close(sum(single), loss.loss)


def test_rows_without_labels_are_compared_everywhere_but_on_padding() -> None:
    draft, batch = prune_layers(deep(), 2), padded()
    labels = batch.pop("labels")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    objective = Distillation(deep())
    bare = objective.loss(draft, batch, Step(0, 1, 0.0), torch.tensor(2))
    told = objective.loss(draft, {**batch, "labels": labels}, Step(0, 1, 0.0), 6 + 5)
    torch.testing.assert_close(bare.loss, told.loss)
    assert not bare.scaled


# ---- acceptance ----------------------------------------------------------------------------------------------------------


def test_rounds_by_hand() -> None:
    assert rounds([False] * 3, 2) == [(2, 0), (1, 0), (0, 0)]
    assert rounds([True] * 5, 4) == [(4, 4)]
    assert rounds([True] * 5, 4, ended=True) == [(4, 4)]
    assert rounds([True, False, True, True], 2) == [(2, 1), (1, 1)]
    assert rounds([True, True], 4, ended=True) == [(2, 2)]
    assert rounds([], 4) == []


@pytest.mark.parametrize(("family", "gamma"), [("llama", 1), ("llama", 6), ("qwen2_window", 3), ("gpt2", 3)])
def test_the_measure_is_what_the_engine_counts(family: str, gamma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine reads the prompt before it drafts; no phrases; a draft that is right some of the time."""
    monkeypatch.setattr("fascicle_ouroboros.rounds.LARGEST_UNREAD", 1)
    target = deep(family)
    torch.manual_seed(1)
    draft = copy.deepcopy(target)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(0.15 * parameter.std() * torch.randn_like(parameter))
    asked = prompts(4)
    found = measure_acceptance(target, draft, asked, gamma=gamma, max_new_tokens=24, batch_size=3)
    options = DraftingOptions(gamma=gamma, phrases=0, draft_phrases=0, nodes=gamma, learn=[])
    engine = OuroborosEngine(target, draft, options=options)
    for i, row in enumerate(asked):
        out = engine.generate(torch.tensor([row]), max_new_tokens=24)
        counted = engine.stats
        assert out.shape[1] == len(row) + 24
        assert (found.drafted[i], found.accepted[i]) == (counted.proposed, counted.accepted)
        assert (found.forwards[i], found.tokens[i]) == (counted.target_forwards - 1, 23)
    assert found.by_depth == [
        sum(a) for a in zip(*[_depths(target, draft, row, options) for row in asked], strict=True)
    ]
    assert 0 < found.values()["acceptance"] < 1


def _depths(target: Any, draft: Any, row: list[int], options: DraftingOptions) -> list[int]:
    engine = OuroborosEngine(target, draft, options=options)
    engine.generate(torch.tensor([row]), max_new_tokens=24)
    by_depth = engine.stats.accepted_by_depth
    return by_depth + [0] * (options.gamma - len(by_depth))


def test_overlap_is_one_minus_the_total_variation() -> None:
    target, draft, (row,) = deep(), prune_layers(deep(), 2), prompts(1)
    found = measure_acceptance(target, draft, [row], gamma=2, max_new_tokens=6)
    text = target.generate(torch.tensor([row]), max_new_tokens=6, do_sample=False)
    with torch.no_grad():
        p, q = (m(text).logits[0, len(row) : -1].softmax(-1) for m in (target, draft))
    assert found.values()["overlap"] == pytest.approx(float((1 - (p - q).abs().sum(1) / 2).mean()), abs=1e-6)


def test_an_end_token_can_be_drafted() -> None:
    target = copy.deepcopy(deep())
    asked = prompts(12)
    texts = own_outputs(target, asked, max_new_tokens=6)
    row, text, end = next(
        (row, text, i) for row, text in zip(asked, texts, strict=True) for i in (3, 4, 5) if text[i] not in text[:i]
    )
    target.generation_config.eos_token_id = text[end]
    found = measure_acceptance(target, target, [row], gamma=8, max_new_tokens=20)
    assert (found.tokens, found.drafted, found.accepted, found.forwards) == ([end], [end], [end], [1])


def test_another_vocabulary_is_refused() -> None:
    other = LlamaForCausalLM(LlamaConfig(**{**SIZES, "vocab_size": 4096}))
    with pytest.raises(VocabularyError):
        measure_acceptance(deep(), other, prompts(1), gamma=2)


def test_passes_are_timed_behind_the_text() -> None:
    costs = time_passes(deep(), prune_layers(deep(), 1), prompts(1, 20)[0], gamma=3, repeats=3)
    assert min(costs.target, costs.verify, costs.draft) > 0
    assert costs.speedup(3, 4.0) == pytest.approx(4 * costs.target / (3 * costs.draft + costs.verify))


# ---- a run ---------------------------------------------------------------------------------------------------------------

_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)


def _target() -> Path:
    """A checkpoint whose layers do something: larger weights than a fresh model's."""
    model, tokenizer = build_tiny(Tiny(architecture="llama", layers=4, hidden_size=32), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "proj" in name:
                parameter.mul_(4)
    for part in (model, tokenizer):
        part.save_pretrained(_FOLDER.name)
    return Path(_FOLDER.name)


TARGET = _target()
TINY = [
    "training=ouroboros_draft",
    "evaluation=ouroboros_acceptance",
    "model=hf_causal_lm",
    f"model.sources=[{TARGET}]",
    "data=generated_prompts",
    "data.train_rows=48",
    "data.validation_rows=1",
    "data.test_rows=12",
    "training.layers=2",
    "training.new_tokens=12",
    "training.epochs=10",
    "training.log_every=1",
    "training.learning_rate=0.01",
    "evaluation.max_new_tokens=12",
    "evaluation.repeats=1",
    "run.device=cpu",
]


def go(folder: Path, *overrides: str) -> Result:
    return run([*TINY, f"run.root={folder}", *overrides])


def folder_of(root: Path) -> Path:
    (result,) = root.glob("**/result.json")
    return result.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("made")
    return folder, run([*TINY, f"run.dir={folder / 'run'}"])


def test_training_raises_acceptance(made: tuple[Path, Result], tmp_path: Path) -> None:
    trained = made[1]
    cut = go(tmp_path, "training.control=untrained")
    assert trained.metrics["match"] > 2 * cut.metrics["match"]
    assert trained.metrics["overlap"] > cut.metrics["overlap"]
    assert trained.metrics["acceptance"] > cut.metrics["acceptance"]
    losses = [row["loss"] for row in trained.history if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    assert trained.primary == "acceptance"
    assert trained.training["draft_layers"] == cut.training["draft_layers"] == 2
    assert cut.training["trainable_parameters"] == 0 < trained.training["trainable_parameters"]
    assert trained.training["trainable_parameters"] < trained.training["total_parameters"]


def test_the_folder_is_an_ordinary_model_that_ouroboros_drafts_with(made: tuple[Path, Result], tmp_path: Path) -> None:
    folder = made[0] / "run" / "model"
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.config.num_hidden_layers == 2
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    kept = [o for o in TINY if not o.startswith(("training", "evaluation"))]
    speed = ["evaluation=decoding_speed", "evaluation.rows=3", "evaluation.repeats=1", "evaluation.max_new_tokens=12"]
    fast = run([*kept, *speed, "decoding=ouroboros", f"decoding.draft=[{folder}]", f"run.root={tmp_path}"])
    assert fast.metrics["identical"] == 1
    assert fast.metrics["tokens_per_forward"] > 1


def test_a_folder_is_measured_as_the_run_that_made_it_did(made: tuple[Path, Result], tmp_path: Path) -> None:
    kept = [o for o in TINY if not o.startswith("training")]
    again = run([*kept, f"evaluation.draft=[{made[0] / 'run' / 'model'}]", f"run.root={tmp_path}"])
    for name in ("acceptance", "match", "tokens_per_forward", "accepted_per_round"):
        assert again.metrics[name] == made[1].metrics[name]


def test_a_killed_run_goes_on_to_the_same_draft(
    made: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made[1]
    real = hf_training.ObjectiveTrainer._save_checkpoint

    def dies(trainer: Any, *args: Any) -> None:
        real(trainer, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(hf_training.ObjectiveTrainer, "_save_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    monkeypatch.undo()
    (texts,) = tmp_path.glob("**/own_outputs.json")
    told = json.loads(texts.read_text())
    texts.write_text(json.dumps({**told, "seconds": 123.0}))
    resumed = go(tmp_path, "run.resume=true")
    assert resumed.training["own_seconds"] == 123.0  # what was written is read, not written again
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    assert resumed.metrics["match"] == whole.metrics["match"]


def test_the_datas_own_completions_and_drawn_texts_teach_too(tmp_path: Path) -> None:
    short = ("training.epochs=1", "training.train_embeddings=true", "training.cross_entropy=0.5")
    data = go(tmp_path / "data", "training.source=data", *short)
    drawn = go(tmp_path / "drawn", "training.source=sample", *short)
    assert data.training["own_seconds"] == 0 < drawn.training["own_seconds"]
    assert data.training["trainable_parameters"] == data.training["total_parameters"]
    assert all(0 <= r.metrics["overlap"] <= 1 for r in (data, drawn))


def test_the_target_in_eight_bits_is_measured_and_not_saved(tmp_path: Path) -> None:
    result = go(tmp_path, "training.control=quantized")
    assert result.metrics["match"] > 0.5
    assert not (folder_of(tmp_path) / "model").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["training.layers=0"], "layers"),
        (["training.layers=5"], "layers: got 5, expected 1 to 4"),
        (["training.keep=[0,4]"], "keep: got .*from 0 to 3"),
        (["training.keep=[1,1]"], "different"),
        (["model=tiny_classifier"], "decoder-only"),
        (["model=tiny_seq2seq"], "decoder-only"),
        (["training=none"], "evaluation.draft: got no draft model"),
    ],
)
def test_what_cannot_be_made_is_told_before_anything_is_loaded(
    overrides: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: Any) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr("fascicle.hf.data.load_data", loaded)
    monkeypatch.setattr("fascicle.hf.models.load_model", loaded)
    changed = {o.partition("=")[0] for o in overrides}
    groups = {name for name in changed if "." not in name}
    base = [o for o in TINY if o.partition("=")[0] not in changed and o.partition(".")[0] not in groups]
    with pytest.raises(ConfigError, match=says):
        run([*base, *overrides, f"run.root={tmp_path}"])


def test_a_checkpoint_tells_its_layers_before_it_is_loaded(made: tuple[Path, Result], tmp_path: Path) -> None:
    base = [o for o in TINY if not o.startswith(("model", "training."))]
    folder = tmp_path / "deep"
    shutil.copytree(made[0] / "run" / "model", folder)
    (folder / "model.safetensors").write_bytes(b"")  # would be an error of its own
    asked = [*base, "model=hf_causal_lm", f"model.sources=[{folder}]", f"run.root={tmp_path / 'runs'}"]
    with pytest.raises(ConfigError, match="layers: got 3, expected 1 to 2"):
        run([*asked, "training.layers=3"])
    gone = [o for o in asked if not o.startswith("training")]
    with pytest.raises(SourceError, match=r"evaluation\.draft"):
        run([*gone, "training=none", "evaluation.draft=[/no/such/folder]"])


def test_an_objective_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    from fascicle.testing.helpers import load, run_context
    from fascicle_ouroboros.draft_options import OuroborosDraft
    from fascicle_ouroboros.draft_training import train

    circumstances = run_context(tmp_path)
    data, model = load(["model=tiny_causal_lm", "data=generated_prompts", "data.train_rows=2"], circumstances)
    objective: Any = Distillation(model.model)
    with pytest.raises(ConfigError, match="objective=model_loss"):
        train(OuroborosDraft(), model, data, objective, circumstances)
