"""Evaluations of written text: against references, and against the clock."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..objects import Block, Metrics, Section
from .decoding import GenerateDecoder
from .evaluation import rows_of
from .objective import IGNORED
from .training_options import Greedy

if TYPE_CHECKING:
    from ..context import RunContext
    from ..objects import Data, Decoder, LoadedModel
    from ..objects import Generation as Written
    from .training_options import DecodingSpeed, Generation

__all__ = ["decoding_speed", "generation", "prompts", "references", "score_texts"]


def generation(cfg: Generation, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Write a text per row; ROUGE, BLEU, chrF (0 to 100) and exact match where there are references, lengths and speed always.

    Raises:
        DataError: no such split, or no rows.
    """
    split, features = rows_of(cfg, data, model)
    asked = prompts(features, model)
    right = references(data, split, features, model)
    order = sorted(range(len(asked)), key=lambda i: (-len(asked[i]["input_ids"]), i))
    texts, lengths = [""] * len(asked), [0] * len(asked)
    seconds = 0.0
    with run.progress("Writing", total=len(asked)) as bar:
        for start in range(0, len(order), cfg.batch_size):
            indices = order[start : start + cfg.batch_size]
            batch = _batch([asked[i] for i in indices], model, data)
            out = decoder.generate(model, batch, max_new_tokens=cfg.max_new_tokens)
            for i, tokens, length in zip(indices, out.sequences, out.new_tokens, strict=True):
                texts[i], lengths[i] = _text(model, tokens[:length].tolist()), length
            seconds += out.seconds
            bar.advance(len(indices))
    values = {"new_tokens": sum(lengths) / len(lengths), "tokens_per_second": sum(lengths) / max(seconds, 1e-9)}
    per_example: dict[str, Iterable[float]] = {"new_tokens": [float(n) for n in lengths]}
    primary = "tokens_per_second"
    if right is not None:
        scores, per_row = score_texts(texts, right, stemmer=cfg.stemmer)
        values |= scores
        per_example |= per_row
        wanted = str(data.extra.get("primary", "rougeL"))
        primary = wanted if wanted in values else "rougeL"
    return Metrics(
        values=values,
        primary=primary,
        higher_is_better={name: True for name in values if name != "new_tokens"},
        per_example=per_example,
        units={"tokens_per_second": "tokens/s"},
        sections=[_samples(cfg.samples, asked, texts, right, model)],
    )


def decoding_speed(cfg: DecodingSpeed, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Write each prompt by the decoder and by plain greedy decoding, in turns that swap their order, one prompt at a time.

    `speedup` is the median over the repeats of the ratio of tokens per second; `identical` the share of prompts on which both wrote
    the same; `departure_margin` the largest difference, in logits, between the plain token and the other one where a text first
    departs: 1 and 0 for a lossless decoder in float64; in lower precision it departs only where the margin is a rounding error.

    Raises:
        DataError: no such split, or no rows.
    """
    _, features = rows_of(cfg, data, model)
    asked = [_batch([row], model, data) for row in prompts(features, model)]
    both: dict[str, Decoder] = {"decoder": decoder, "greedy": GenerateDecoder(_greedy_like(decoder), run)}
    runs: dict[str, list[list[Written]]] = {name: [] for name in both}
    with run.progress("Timing", total=cfg.repeats * len(asked)) as bar:
        for batch in asked[: cfg.warmup]:
            for one in both.values():
                one.generate(model, batch, max_new_tokens=cfg.max_new_tokens)
        for repeat in range(cfg.repeats):
            written: dict[str, list[Written]] = {name: [] for name in both}
            for number, batch in enumerate(asked):
                for name in sorted(both, reverse=bool((repeat + number) % 2)):
                    written[name].append(both[name].generate(model, batch, max_new_tokens=cfg.max_new_tokens))
                bar.advance()
            for name, out in written.items():
                runs[name].append(out)
    speeds = {
        name: [_tokens(out) / max(sum(w.seconds for w in out), 1e-9) for out in outs] for name, outs in runs.items()
    }
    ratios = [ours / plain for ours, plain in zip(speeds["decoder"], speeds["greedy"], strict=True)]
    first = {name: outs[0] for name, outs in runs.items()}
    same = [
        float(a.sequences.tolist() == b.sequences.tolist())
        for a, b in zip(first["decoder"], first["greedy"], strict=True)
    ]
    values = {
        "speedup": statistics.median(ratios),
        "tokens_per_second": statistics.median(speeds["decoder"]),
        "greedy_tokens_per_second": statistics.median(speeds["greedy"]),
        "identical": statistics.mean(same),
        "departure_margin": max(_departures(model, asked, first["decoder"], first["greedy"]), default=0.0),
        "new_tokens": _tokens(first["decoder"]) / len(asked),
    }
    forwards = [w.target_forwards for w in first["decoder"]]
    if all(forwards):
        values["tokens_per_forward"] = _tokens(first["decoder"]) / sum(n for n in forwards if n)
    table = {
        "columns": ["repeat", decoder.name, "greedy", "ratio"],
        "rows": [[i + 1, round(a, 2), round(b, 2), round(r, 3)] for i, (a, b, r) in enumerate(_zip(speeds, ratios))],
        "caption": "Tokens per second; both wrote each prompt in turns.",
    }
    return Metrics(
        values=values,
        primary="speedup",
        higher_is_better={
            **dict.fromkeys(("speedup", "tokens_per_second", "tokens_per_forward", "identical"), True),
            "departure_margin": False,
        },
        per_example={"identical": same},
        units={"speedup": "×", "tokens_per_second": "tokens/s", "greedy_tokens_per_second": "tokens/s"},
        sections=[
            Section(title="Decoding speed", blocks=[Block(kind="table", title="Repeats", data=table)], plugin="hf")
        ],
    )


def _departures(
    model: LoadedModel, asked: list[dict[str, Tensor]], ours: Sequence[Written], plain: Sequence[Written]
) -> Iterable[float]:
    """By how many logits the target prefers the plain token where a text first departs; one number for each text that does."""
    for batch, a, b in zip(asked, ours, plain, strict=True):
        other, own = a.sequences[0].tolist(), b.sequences[0].tolist()
        if other == own:
            continue
        same = next((i for i, (o, p) in enumerate(zip(other, own, strict=False)) if o != p), min(len(other), len(own)))
        logits = _logits(model, batch, own[:same])
        if same == min(len(other), len(own)):  # stopped without an end token: no rounding does that
            yield float(logits.max() - logits.min())
        else:
            yield abs(float(logits[own[same]] - logits[other[same]]))


def _logits(model: LoadedModel, batch: dict[str, Tensor], written: list[int]) -> Tensor:
    """Of the token after `written`: (V,), in float64."""
    net: Any = model.model
    begun = torch.tensor([written], dtype=torch.int64, device=batch["input_ids"].device)
    with torch.no_grad():
        if model.task == "causal_lm":
            logits = net(input_ids=torch.cat([batch["input_ids"], begun], dim=1)).logits
        else:
            start = torch.full_like(batch["input_ids"][:, :1], net.config.decoder_start_token_id)
            logits = net(**batch, decoder_input_ids=torch.cat([start, begun], dim=1)).logits
    return torch.as_tensor(logits[0, -1]).double()


# ---- prompts and references ---------------------------------------------------------------------------------------------


def prompts(features: Any, model: LoadedModel) -> list[dict[str, Any]]:
    """The rows without their answers: of a decoder-only model's, the tokens before the first label, or all if all are labels."""
    rows = []
    for row in features:
        asked = {name: value for name, value in row.items() if name != "labels" and not name.startswith("decoder_")}
        size = _prompt_length(row)
        if model.task == "causal_lm" and size < len(row["input_ids"]):
            full = len(row["input_ids"])
            asked = {name: v[:size] if isinstance(v, list) and len(v) == full else v for name, v in asked.items()}
        rows.append(asked)
    return rows


def references(data: Data, split: str, features: Any, model: LoadedModel) -> list[list[str]] | None:
    """Right answers per row: `data.extra["references"](split)` where the data has it, else the labels as text; None if neither."""
    offered = data.extra.get("references")
    if callable(offered):
        told = offered(split)
        if told is None:
            return None
        return [[text] if isinstance(text, str) else list(text) for text in list(told)[: len(features)]]
    if "labels" not in features.column_names:
        return None
    if model.task == "causal_lm" and any(_prompt_length(row) == len(row["input_ids"]) for row in features):
        return None  # the labels are the prompt
    return [[_text(model, [t for t in labels if t != IGNORED])] for labels in features["labels"]]


def _prompt_length(row: dict[str, Any]) -> int:
    """Tokens before the first label; all of them where the row has no labels, or nothing else."""
    labels, size = row.get("labels"), len(row["input_ids"])
    if not isinstance(labels, list):
        return size
    return next((i for i, label in enumerate(labels) if label != IGNORED), size) or size


def _batch(rows: list[dict[str, Any]], model: LoadedModel, data: Data) -> dict[str, Tensor]:
    """Prompts as a batch: padded on the left for decoder-only models, by the data's own collator for encoder-decoders."""
    device = next(model.model.parameters()).device
    if model.task == "causal_lm":
        batch = _left_padded(rows, model)
    else:
        batch = {name: value for name, value in data.collate(model)(rows).items() if name != "labels"}
    return {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}


def _left_padded(rows: list[dict[str, Any]], model: LoadedModel) -> dict[str, Tensor]:
    pad = getattr(model.tokenizer, "pad_token_id", None)
    pad = pad if pad is not None else getattr(model.tokenizer, "eos_token_id", None) or 0
    longest = max(len(row["input_ids"]) for row in rows)
    ids = [[pad] * (longest - len(row["input_ids"])) + list(row["input_ids"]) for row in rows]
    mask = [[0] * (longest - len(row["input_ids"])) + [1] * len(row["input_ids"]) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}  # (B, L)


def _text(model: LoadedModel, tokens: list[int]) -> str:
    if model.tokenizer is None:
        return " ".join(str(t) for t in tokens)
    return str(model.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


# ---- scores -------------------------------------------------------------------------------------------------------------


def score_texts(
    texts: Sequence[str], right: Sequence[Sequence[str]], *, stemmer: bool = True
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """ROUGE F (best reference), BLEU and chrF from 0 to 100, exact match from 0 to 1; and per text those that are means over texts.

    >>> scores, _ = score_texts(["the cat sat"], [["the cat sat", "a cat sat"]])
    >>> scores["rougeL"], scores["exact_match"]
    (100.0, 1.0)
    """
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(kinds, use_stemmer=stemmer)
    per_row: dict[str, list[float]] = {kind: [] for kind in kinds}
    for text, refs in zip(texts, right, strict=True):
        found = scorer.score_multi([_by_sentence(ref) for ref in refs], _by_sentence(text))
        for kind in kinds:
            per_row[kind].append(100 * found[kind].fmeasure)
    per_row["exact_match"] = [
        float(any(t.strip() == r.strip() for r in refs)) for t, refs in zip(texts, right, strict=True)
    ]
    most = max(len(refs) for refs in right)
    streams: Any = [[refs[k] if k < len(refs) else None for refs in right] for k in range(most)]
    values = {name: sum(scores) / len(scores) for name, scores in per_row.items()}
    values["bleu"] = sacrebleu.corpus_bleu(list(texts), streams).score
    values["chrf"] = sacrebleu.corpus_chrf(list(texts), streams).score
    return values, per_row


def _by_sentence(text: str) -> str:
    """A sentence per line, as ROUGE-Lsum wants them; by punctuation, since rouge_score's own splitter needs a download."""
    return re.sub(r"(?<=[.!?])\s+", "\n", text.strip())


def _samples(
    count: int, asked: list[dict[str, Any]], texts: list[str], right: list[list[str]] | None, model: LoadedModel
) -> Section:
    blocks = []
    for i in range(min(count, len(texts))):
        prompt = _text(model, asked[i]["input_ids"])
        told = f"Prompt: {_clipped(prompt)}\n\nWritten: {texts[i]}"
        told += f"\n\nReference: {right[i][0]}" if right and right[i] else ""
        blocks.append(Block(kind="text", title=f"Row {i + 1}", data={"text": told}))
    return Section(title="Samples", blocks=blocks, plugin="hf")


def _clipped(text: str, longest: int = 1500) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]} [...] {text[-longest // 2 :]}"


def _greedy_like(decoder: Decoder) -> Greedy:
    """Plain greedy decoding under the decoder's own constraints, so that both may write the same."""
    options = getattr(decoder, "options", None)
    names = ("min_new_tokens", "repetition_penalty", "no_repeat_ngram_size")
    return Greedy(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def _tokens(out: Sequence[Written]) -> int:
    return sum(sum(w.new_tokens) for w in out)


def _zip(speeds: dict[str, list[float]], ratios: list[float]) -> list[tuple[float, float, float]]:
    return list(zip(speeds["decoder"], speeds["greedy"], ratios, strict=True))
