"""`evaluation=loradrop_e2e`: teacher-forced loss per token over all references; BLEU and slot error of written texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from sacrebleu.metrics.bleu import BLEU

from fascicle.errors import DataError
from fascicle.objects import Block, Metrics, Section

from .e2e import prompt_of
from .slots import parse_mr, slot_errors

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel

    from .options import E2eEvaluation

__all__ = ["evaluate", "token_losses"]


def evaluate(cfg: E2eEvaluation, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Measure a causal model on E2E's test split. Answers `fascicle_evaluate`.

    Raises:
        DataError: the data has no column `mr` and `ref`.
    """
    rows = data.splits["test"]
    if not {"mr", "ref"} <= set(rows.column_names):
        raise DataError(
            f"evaluation=loradrop_e2e needs data with mr and ref (data=loradrop_e2e), got {rows.column_names}"
        )
    sums, counts = token_losses(model, data, cfg.batch_size, run)
    nll = float(sums.sum() / counts.sum())
    values = {"nll": nll, "perplexity": float(torch.tensor(nll, dtype=torch.float64).exp())}
    metrics = Metrics(
        values=values,
        primary="nll",
        higher_is_better={"nll": False, "perplexity": False, "bleu": True, "slot_error": False},
        per_example={"nll": (sums * (len(sums) / counts.sum())).tolist()},  # the mean of these is the mean per token
        units={"nll": "nats per token"},
    )
    if cfg.generate_mrs:
        texts = _written(cfg, model, rows, decoder, run)
        written, block = _scores(texts)
        values.update(written)
        metrics.sections.append(Section(title="E2E: what was written", blocks=[block], plugin="loradrop"))
    return metrics


@torch.no_grad()
def token_losses(model: LoadedModel, data: Data, batch_size: int, run: RunContext) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the negative log-likelihoods and number of target tokens of each test row; (rows,) float64 both."""
    features = data.encode("test", model)
    collate = data.collate(model)
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    sums = torch.zeros(len(order), dtype=torch.float64)
    counts = torch.zeros(len(order), dtype=torch.float64)
    net = model.model.eval()
    with run.progress("Loss on the test set", total=len(order)) as bar:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = {k: v.to(run.device) for k, v in collate([features[i] for i in chosen]).items()}
            labels = batch.pop("labels")[:, 1:]  # (B, L-1)
            logits = net(**batch).logits[:, :-1].float()  # (B, L-1, V)
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
            )
            sums[chosen] = losses.double().sum(1).cpu()
            counts[chosen] = (labels != -100).double().sum(1).cpu()
            bar.advance(len(chosen))
    return sums, counts


def _written(
    cfg: E2eEvaluation, model: LoadedModel, rows: Any, decoder: Decoder, run: RunContext
) -> list[tuple[str, str, list[str]]]:
    """(meaning representation, text, references), one for each of the first distinct ones."""
    references: dict[str, list[str]] = {}
    for row in rows:
        references.setdefault(row["mr"], []).append(row["ref"])
    chosen = list(references)[: cfg.generate_mrs]
    tokenizer: Any = model.tokenizer
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    texts: list[str] = []
    try:
        with run.progress("Writing", total=len(chosen)) as bar:
            for start in range(0, len(chosen), cfg.batch_size):
                prompts = [prompt_of(mr) for mr in chosen[start : start + cfg.batch_size]]
                inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
                inputs = {key: inputs[key].to(run.device) for key in ("input_ids", "attention_mask")}
                written = decoder.generate(model, inputs, max_new_tokens=cfg.max_new_tokens)
                texts += tokenizer.batch_decode(written.sequences, skip_special_tokens=True)
                bar.advance(len(prompts))
    finally:
        tokenizer.padding_side = side
    return [(mr, text.strip(), references[mr]) for mr, text in zip(chosen, texts, strict=True)]


def _scores(texts: list[tuple[str, str, list[str]]]) -> tuple[dict[str, float], Block]:
    most = max(len(refs) for _, _, refs in texts)
    streams: list[list[str | None]] = [
        [refs[k] if k < len(refs) else None for _, _, refs in texts] for k in range(most)
    ]
    bleu = BLEU().corpus_score([text for _, text, _ in texts], streams)  # type: ignore[arg-type]
    slots = missed = added = human_slots = human_wrong = 0
    rows = []
    for mr, text, refs in texts:
        n, m, a = slot_errors(parse_mr(mr), text)
        slots, missed, added = slots + n, missed + m, added + a
        for ref in refs:
            hn, hm, ha = slot_errors(parse_mr(mr), ref)
            human_slots, human_wrong = human_slots + hn, human_wrong + hm + ha
        rows.append([mr, text, m, a])
    values = {
        "bleu": float(bleu.score),
        "slot_error": (missed + added) / slots,
        "slot_missed": missed / slots,
        "slot_added": added / slots,
        "slot_error_of_references": human_wrong / human_slots,
    }
    human = 100 * values["slot_error_of_references"]
    caption = f"The first rows of {len(texts)}. The slot measure finds {human:.1f} % errors in the human references."
    data = {"columns": ["meaning", "text", "missed", "added"], "rows": rows[:12], "caption": caption}
    return values, Block(kind="table", data=data)
