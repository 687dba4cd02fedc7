"""What `fit` promises: how a batch is split changes nothing, a resumed run ends where an undisturbed one does, and adapters train
what they say.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hf_tiny import bart, bert, context, data, distance, equal, llama, losses, rows, weights
from transformers import BertConfig, PreTrainedModel, TrainerCallback

from fascicle.errors import ConfigError, DataError, OutputFolderError
from fascicle.hf.adapters import AdaLoraAllocation
from fascicle.hf.batches import StepBatches
from fascicle.hf.checkpoints import latest, read_marker
from fascicle.hf.objective import ModelLoss
from fascicle.hf.training import add_lora, fit, total_steps, train
from fascicle.hf.training_options import HfAdaLora, HfTrainer, HfVera, LoraOptions, TrainerOptions
from fascicle.objects import LossOutput

if TYPE_CHECKING:
    from torch import nn

    from fascicle.objects import Data, LoadedModel, Step


def options(**more: Any) -> TrainerOptions:
    chosen: dict[str, Any] = {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-2, "log_every": 1, **more}
    return TrainerOptions(**chosen)


class Stop(Exception):
    """The kill."""


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.step:
            raise Stop


# ---- batches ----


def test_an_epoch_shows_every_row_once_however_it_is_split() -> None:
    for micro, world in [(8, 1), (3, 1), (1, 1), (2, 2), (1, 3)]:
        seen = []
        for rank in range(world):
            batches = StepBatches(rows=22, batch_size=8, micro_batch_size=micro, seed=1, rank=rank, world_size=world)
            mine = [(batch, batches.counts) for batch in batches]
            assert len(mine) == len(batches)
            assert all(1 <= len(batch) <= micro for batch, _ in mine)
            seen += [row for batch, counts in mine if counts for row in batch]
        assert sorted(seen) == list(range(22))


def test_a_step_has_the_same_rows_however_it_is_split() -> None:
    def steps(micro: int, world: int) -> list[list[int]]:
        ranks = [
            StepBatches(rows=22, batch_size=8, micro_batch_size=micro, seed=1, rank=r, world_size=world)
            for r in range(world)
        ]
        accumulation = ranks[0].accumulation
        found: list[list[int]] = [[] for _ in range(3)]
        for rank in ranks:
            for index, batch in enumerate(rank):
                found[min(index // accumulation, 2)] += batch if rank.counts else []
        return [sorted(rows) for rows in found]

    assert steps(8, 1) == steps(3, 1) == steps(1, 3) == steps(2, 4)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = StepBatches(rows=22, batch_size=8, micro_batch_size=8, seed=seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_rows_of_like_length_share_a_step() -> None:
    lengths = [1 + i % 50 for i in range(400)]
    spread = []
    for grouped in (None, lengths):
        batches = StepBatches(rows=400, batch_size=8, micro_batch_size=8, seed=1, lengths=grouped)
        assert sorted(row for batch in batches for row in batch) == list(range(400))
        spread.append(sum(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches))
    assert spread[1] < spread[0] / 3


# ---- loss and gradient ----


@pytest.mark.parametrize("make", [bert, llama, bart])
def test_accumulated_batches_train_as_one_big_batch(make: Any, tmp_path: Path) -> None:
    found = []
    for micro in (8, 3, 1):  # 22 rows: the last step of an epoch has 6
        model = make()
        fitted = fit(
            options(micro_batch_size=micro), model, data(model.task), ModelLoss(), context(tmp_path / str(micro))
        )
        found.append((weights(model), losses(fitted.history)))
    for other, curve in found[1:]:
        assert distance(found[0][0], other) < 2e-5
        assert curve == pytest.approx(found[0][1], rel=1e-5)


def test_the_loss_is_the_mean_over_the_targets_of_the_step(tmp_path: Path) -> None:
    model, numbers = llama(), data("causal_lm")
    fresh = llama().model
    batch = next(iter(StepBatches(rows=22, batch_size=8, micro_batch_size=8, seed=1)))
    features = [numbers.splits["train"][i] for i in batch]
    nll, tokens = 0.0, 0
    with torch.no_grad():
        for row in features:
            logits = fresh(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(-1)
            for position, label in enumerate(row["labels"][1:]):
                if label != -100:
                    nll, tokens = nll - logits[position, label].item(), tokens + 1
    fitted = fit(options(max_steps=1, micro_batch_size=3), model, numbers, ModelLoss(), context(tmp_path))
    assert losses(fitted.history) == [pytest.approx(nll / tokens, rel=1e-5)]


def test_an_objective_with_means_of_its_own_is_weighted_by_rows(tmp_path: Path) -> None:
    class Squares:
        """Knows nothing of `num_items`; says what it saw."""

        def loss(self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Any = None) -> LossOutput:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            value = logits.square().sum(-1).mean()
            return LossOutput(loss=value, parts={"squares": value, "step": float(step.global_step)})

    found = []
    for micro in (8, 3):
        model = bert()
        fitted = fit(
            options(micro_batch_size=micro), model, data("classification"), Squares(), context(tmp_path / str(micro))
        )
        found.append((weights(model), fitted.history))
    assert distance(found[0][0], found[1][0]) < 2e-5
    for one, two in zip(found[0][1], found[1][1], strict=True):
        assert one["loss"] == pytest.approx(one["squares"], rel=1e-5)
        assert one["squares"] == pytest.approx(two["squares"], rel=1e-4)
        assert one["step"] == pytest.approx(one["step"])
        assert two["step"] == one["step"]


def test_a_micro_batch_without_any_target_changes_nothing(tmp_path: Path) -> None:
    plain = rows("causal_lm", 6)
    silent = plain.map(lambda row: {"labels": [-100] * len(row["input_ids"])})
    found = []
    import datasets

    for extra in (False, True):
        train_rows = datasets.concatenate_datasets([plain, silent]) if extra else plain
        model = llama()
        chosen = options(max_steps=1, batch_size=12, micro_batch_size=1)
        fit(chosen, model, data("causal_lm", train=train_rows), ModelLoss(), context(tmp_path / str(extra)))
        found.append(weights(model))
    assert distance(*found) < 2e-5


def test_the_objective_learns_where_training_stands(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []

    class Watching(ModelLoss):
        def loss(self, model: nn.Module, batch: dict[str, Any], step: Step, num_items: Any = None) -> LossOutput:
            seen.append((step.global_step, step.max_steps, step.epoch))
            return super().loss(model, batch, step, num_items)

    fit(options(max_steps=4), bert(), data("classification"), Watching(), context(tmp_path))
    assert [s[:2] for s in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [s[2] for s in seen] == [0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1]


def test_bf16_trains_and_leaves_the_weights_in_float32(tmp_path: Path) -> None:
    model = bert()
    fitted = fit(options(max_steps=40, precision="bf16"), model, data("classification"), ModelLoss(), context(tmp_path))
    assert {p.dtype for p in model.model.parameters()} == {torch.float32}
    assert losses(fitted.history)[-1] < losses(fitted.history)[0]
    with torch.no_grad():
        assert model.model(torch.tensor([[3, 4]])).logits.dtype is torch.float32
    assert "forward" not in vars(model.model), "accelerate's wrapper is still on the model"


@pytest.mark.parametrize("adapted", [False, True])
def test_gradient_checkpointing_changes_memory_only(adapted: bool, tmp_path: Path) -> None:
    found = []
    for on in (False, True):
        model, run = llama(), context(tmp_path / str(on))
        model = add_lora(model, LoraOptions(r=2), run) if adapted else model
        fit(options(gradient_checkpointing=on), model, data("causal_lm"), ModelLoss(), run)
        assert not getattr(model.model, "is_activation_checkpointing", False)
        found.append(weights(model))
    assert distance(*found) < 1e-6


def test_a_model_that_cannot_recompute_activations_is_trained_as_well(tmp_path: Path) -> None:
    class Plain(PreTrainedModel):
        config_class = BertConfig
        supports_gradient_checkpointing = True  # it says so, but has no layer that does

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.out = torch.nn.Linear(1, 3)

        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, **_: Any) -> Any:
            logits = self.out(input_ids[:, :1].float())
            return SimpleNamespace(loss=torch.nn.functional.cross_entropy(logits, labels), logits=logits)

    model = bert()
    model.model = Plain(BertConfig(attn_implementation="eager"))
    fitted = fit(options(max_steps=2), model, data("classification"), ModelLoss(), context(tmp_path))
    assert fitted.steps == 2
    assert not model.model.training


def test_the_model_is_handed_back_ready_to_use(tmp_path: Path) -> None:
    model = llama()
    model.model.config.use_cache = True
    fit(options(max_steps=1), model, data("causal_lm"), ModelLoss(), context(tmp_path))
    assert model.model.config.use_cache is True
    assert not model.model.training
    assert all(p.grad is None for p in model.model.parameters())


# ---- history and metrics ----


def test_history_has_one_row_per_logged_step(tmp_path: Path) -> None:
    chosen = options(max_steps=7, log_every=3, eval_every=2, checkpoint_every=4)
    fitted = fit(chosen, bert(), data("classification"), ModelLoss(), context(tmp_path))
    assert [row["step"] for row in fitted.history] == [1, 2, 3, 4, 6, 7]
    assert [row["step"] for row in fitted.history if "eval_loss" in row] == [2, 4, 6, 7]
    assert [row["step"] for row in fitted.history if "loss" in row] == [1, 3, 4, 6, 7]
    assert all({"epoch", "learning_rate", "grad_norm"} <= row.keys() for row in fitted.history if "loss" in row)
    assert fitted.history[-1]["epoch"] == pytest.approx(7 / 3)


def test_the_validation_loss_is_the_mean_over_all_rows(tmp_path: Path) -> None:
    for make in (bert, llama):
        model = make()
        numbers = data(model.task)
        chosen = options(max_steps=1, learning_rate=1e-12, eval_every=1, eval_batch_size=3)
        fitted = fit(chosen, model, numbers, ModelLoss(), context(tmp_path / model.task))
        with torch.no_grad():
            out = model.model(**numbers.collate(model)(list(numbers.splits["validation"])))
        assert fitted.history[-1]["eval_loss"] == pytest.approx(out.loss.item(), rel=1e-5)
        if model.task == "classification":
            labels = torch.tensor(numbers.splits["validation"]["labels"])
            assert fitted.history[-1]["eval_accuracy"] == pytest.approx(
                (out.logits.argmax(-1) == labels).float().mean().item()
            )


def test_metrics_count_shared_weights_once(tmp_path: Path) -> None:
    tied, free = llama(tie_word_embeddings=True), llama(tie_word_embeddings=False)
    found = [
        fit(options(max_steps=1), m, data("causal_lm"), ModelLoss(), context(tmp_path / str(i)))
        for i, m in enumerate((tied, free))
    ]
    one, two = (f.metrics for f in found)
    assert two["total_parameters"] - one["total_parameters"] == 40 * 16
    assert one["trainable_parameters"] == one["total_parameters"]
    assert one["optimizer_bytes"] == pytest.approx(2 * 4 * one["total_parameters"], rel=0.01)
    assert one["steps"] == 1
    assert min(one["train_seconds"], one["tokens_per_second"], one["examples_per_second"]) > 0


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    rates = {}
    for schedule in ("linear", "constant", "cosine"):
        chosen = options(max_steps=10, schedule=schedule, warmup_ratio=0.2, learning_rate=1.0e-3)
        fitted = fit(chosen, bert(), data("classification"), ModelLoss(), context(tmp_path / schedule))
        rates[schedule] = [row["learning_rate"] for row in fitted.history]
    assert rates["linear"] == pytest.approx([0, 5e-4, *[1e-3 * (8 - i) / 8 for i in range(8)]])
    assert rates["constant"] == pytest.approx([0, 5e-4] + [1e-3] * 8)
    assert rates["cosine"][6] == pytest.approx(5e-4)


# ---- checkpoints ----


# in an epoch, at its end, after a checkpoint that is not the newest step, and after AdaLoRA has settled its ranks
STOPS = [(kind, step) for kind in ("full", "lora", "adalora", "vera") for step in (2, 3, 5)] + [("adalora", 7)]


@pytest.mark.parametrize(("kind", "stopped_at"), STOPS)
def test_a_resumed_run_is_bit_equal(kind: str, stopped_at: int, tmp_path: Path) -> None:
    numbers = data("classification")
    chosen = options(
        max_steps=8,
        checkpoint_every=2 if stopped_at == 5 else stopped_at,
        micro_batch_size=3,
        eval_every=3,
        log_every=4,
    )

    def prepared(run: Any) -> tuple[LoadedModel, list[Any]]:
        model = bert(dropout=0.2)
        if kind == "lora":
            return add_lora(model, LoraOptions(r=2, dropout=0.1), run), []
        if kind == "vera":
            from fascicle.hf.adapters import add_vera

            return add_vera(model, HfVera(r=4), run), []
        if kind == "adalora":
            from fascicle.hf.adapters import add_adalora

            model = add_adalora(model, HfAdaLora(init_r=4, target_r=2, initial=0.2, final=0.3), 8, run)
            return model, [AdaLoraAllocation(model.model)]
        return model, []

    whole, watching = prepared(run := context(tmp_path / "whole"))
    undisturbed = fit(chosen, whole, numbers, ModelLoss(), run, callbacks=watching)
    killed, watching = prepared(run := context(tmp_path / "killed"))
    with pytest.raises(Stop):
        fit(chosen, killed, numbers, ModelLoss(), run, callbacks=[*watching, StopAt(stopped_at)])
    again, watching = prepared(run := context(tmp_path / "killed", resume=True))
    resumed = fit(chosen, again, numbers, ModelLoss(), run, callbacks=watching)
    assert equal(weights(whole), weights(again))
    assert resumed.history == undisturbed.history
    steady = ("trainable_parameters", "total_parameters", "steps", "optimizer_bytes")
    assert [resumed.metrics[k] for k in steady] == [undisturbed.metrics[k] for k in steady]


def test_a_collator_that_draws_resumes_exactly(tmp_path: Path) -> None:
    numbers = data("classification")
    plain = numbers.collate(None)  # type: ignore[arg-type]

    def drawing(features: list[dict[str, Any]]) -> dict[str, Any]:
        batch = plain(features)
        masked = torch.rand(batch["input_ids"].shape) < 0.3
        return {**batch, "input_ids": batch["input_ids"].masked_fill(masked, 3)}

    numbers.collate = lambda model: drawing
    chosen = options(max_steps=6, checkpoint_every=2)
    whole, again = bert(dropout=0.1), bert(dropout=0.1)
    fit(chosen, whole, numbers, ModelLoss(), context(tmp_path / "whole"))
    with pytest.raises(Stop):
        fit(chosen, bert(dropout=0.1), numbers, ModelLoss(), context(tmp_path / "killed"), callbacks=[StopAt(2)])
    fit(chosen, again, numbers, ModelLoss(), context(tmp_path / "killed", resume=True))
    assert equal(weights(whole), weights(again))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    class Never(ModelLoss):
        def loss(self, *args: Any, **kwargs: Any) -> LossOutput:
            raise AssertionError("trained again")

    first, again = bert(), bert()
    done = fit(options(), first, data("classification"), ModelLoss(), context(tmp_path))
    told = fit(options(), again, data("classification"), Never(), context(tmp_path, resume=True))
    assert equal(weights(first), weights(again))
    assert told == done
    assert not again.model.training


@pytest.mark.parametrize("damage", ["no marker", "truncated", "missing file", "damaged marker"])
def test_an_incomplete_checkpoint_is_ignored_and_deleted(damage: str, tmp_path: Path) -> None:
    chosen = options(max_steps=6, checkpoint_every=2)
    whole, again = bert(), bert()
    fit(chosen, whole, data("classification"), ModelLoss(), context(tmp_path))
    newest, older = tmp_path / "train" / "checkpoint-6", tmp_path / "train" / "checkpoint-4"
    assert {p.name for p in (tmp_path / "train").iterdir()} == {newest.name, older.name}
    if damage == "no marker":
        (newest / "complete.json").unlink()
    elif damage == "truncated":
        with (newest / "optimizer.pt").open("r+b") as file:
            file.truncate(100)
    elif damage == "missing file":
        (newest / "scheduler.pt").unlink()
    else:
        (newest / "complete.json").write_text('{"files": ')
    assert latest(tmp_path / "train") == older
    steps: list[int] = []

    class Watching(ModelLoss):
        def loss(self, model: nn.Module, batch: Any, step: Step, num_items: Any = None) -> LossOutput:
            steps.append(step.global_step)
            return super().loss(model, batch, step, num_items)

    fit(chosen, again, data("classification"), Watching(), context(tmp_path, resume=True))
    assert steps == [4, 5]
    assert equal(weights(whole), weights(again))


def test_a_marker_names_every_file_and_nothing_is_pickled_for_show(tmp_path: Path) -> None:
    fit(options(), bert(), data("classification"), ModelLoss(), context(tmp_path))
    folder = latest(tmp_path / "train")
    assert folder is not None
    marker = read_marker(folder)
    assert marker is not None
    assert marker["step"] == 6
    assert set(marker["files"]) == {p.name for p in folder.iterdir()} - {"complete.json"}
    assert "training_args.bin" not in marker["files"]


def test_a_new_run_does_not_go_on_from_an_old_one(tmp_path: Path) -> None:
    one, two = bert(), bert()
    fit(options(), one, data("classification"), ModelLoss(), context(tmp_path))
    fit(options(max_steps=2), two, data("classification"), ModelLoss(), context(tmp_path))
    assert latest(tmp_path / "train").name == "checkpoint-2"  # type: ignore[union-attr]


def test_checkpoints_of_other_options_are_refused(tmp_path: Path) -> None:
    fit(options(), bert(), data("classification"), ModelLoss(), context(tmp_path))
    with pytest.raises(OutputFolderError, match=r"learning_rate.*run\.overwrite=true"):
        fit(options(learning_rate=1e-3), bert(), data("classification"), ModelLoss(), context(tmp_path, resume=True))
    with pytest.raises(OutputFolderError, match="another model"):
        fit(options(), bert(classes=5), data("classification"), ModelLoss(), context(tmp_path, resume=True))
    fit(options(micro_batch_size=2), bert(), data("classification"), ModelLoss(), context(tmp_path, resume=True))


def test_stages_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    model, run = bert(), context(tmp_path)
    fit(options(max_steps=1), model, data("classification"), ModelLoss(), run, subdir="first")
    fit(options(max_steps=2), model, data("classification"), ModelLoss(), run, subdir="second")
    assert latest(tmp_path / "first").name == "checkpoint-1"  # type: ignore[union-attr]
    assert latest(tmp_path / "second").name == "checkpoint-2"  # type: ignore[union-attr]


# ---- refusals ----


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    class Broken(ModelLoss):
        def loss(self, model: nn.Module, batch: Any, step: Step, num_items: Any = None) -> LossOutput:
            out = super().loss(model, batch, step, num_items)
            out.loss = out.loss * (float("nan") if step.global_step == 2 else 1.0)
            return out

    with pytest.raises(ConfigError, match=r"training\.learning_rate=0\.01: the loss is nan at step 3"):
        fit(options(), bert(), data("classification"), Broken(), context(tmp_path))


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    empty: Data = data("classification", train=rows("classification", 3).select([]))
    with pytest.raises(DataError, match="no rows"):
        fit(options(), bert(), empty, ModelLoss(), context(tmp_path))
    with pytest.raises(DataError, match="no split 'train'"):
        fit(options(), bert(), data("classification", test=rows("classification", 3)), ModelLoss(), context(tmp_path))
    with pytest.raises(ConfigError, match="fp16"):
        fit(options(precision="fp16"), bert(), data("classification"), ModelLoss(), context(tmp_path))
    with pytest.raises(ConfigError, match=r"training\.fsdp"):
        fit(options(fsdp={"version": 2}), bert(), data("classification"), ModelLoss(), context(tmp_path))
    frozen = bert()
    frozen.model.requires_grad_(False)
    with pytest.raises(ConfigError, match="training=none"):
        fit(options(), frozen, data("classification"), ModelLoss(), context(tmp_path))
    unlabelled = rows("classification", 8).remove_columns("labels")
    with pytest.raises(DataError, match="labels"):
        fit(options(), bert(), data("classification", train=unlabelled), ModelLoss(), context(tmp_path))


def test_steps_are_counted_from_epochs_and_rows() -> None:
    assert total_steps(TrainerOptions(epochs=3, batch_size=8), 22) == 9
    assert total_steps(TrainerOptions(epochs=0.5, batch_size=8), 22) == 2
    assert total_steps(TrainerOptions(epochs=3, max_steps=4, batch_size=8), 22) == 4


def test_nothing_is_printed_and_no_service_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(
        HfTrainer(max_steps=3, eval_every=1, log_every=1),
        bert(),
        data("classification"),
        ModelLoss(),
        context(tmp_path),
    )
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert {p.name for p in tmp_path.iterdir()} == {"train", "model"}
    json.loads((tmp_path / "train" / "checkpoint-3" / "trainer_state.json").read_text())
    shutil.rmtree(tmp_path / "train")
