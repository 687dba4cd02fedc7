"""A small checker of summaries, trained on site: what each token of a claim finds in the source, compared by a small network.

MiniLM stays as it is. Each token of a claim reads the source where the source is most like it; what it is, what it found, their
difference and product (after ESIM, Chen et al. 2017) go through one layer, and the claim is judged by the mean and the maximum over
its tokens. Our choice throughout: a MiniLM that reads source and claim at once learnt nothing from the pairs that are at hand. A
summary's score is the mean over its sentences, as in SummaC (Laban et al. 2022). Trained on SummEdits, on entailment and paraphrase
pairs and on corruptions ([`checker_pairs`][fascicle_faithsum.checker_pairs]).

Legend: B claims, N tokens of a claim, T of a source, D width of the encoder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fascicle.hf.tiny import state_fingerprint

from .checker_pairs import TOP, domains, retrieve
from .errors import MetricError
from .states import TextStates
from .text import checked, normalize, provenance, sentences, tokens

if TYPE_CHECKING:
    from torch import Tensor

    from .checker_pairs import Pair

__all__ = ["Checker", "CheckerReport", "ClaimHead", "balanced_accuracy", "best_threshold", "train_checker"]

CARD, HEADS = "checker.json", "heads.safetensors"
SHARPNESS = 15.0
"""Of the softmax over cosines, by which a claim's token reads the source."""
Match = tuple["Tensor", "Tensor", "Tensor"]
"""A claim's states (N, D), what each token found (N, D), and the cosine of its nearest source token (N, 1); float16."""


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


class ClaimHead(nn.Module):
    """The log-odds that claims are supported, by one head.

    Args:
        width: D.
        hidden: width of the one layer.
        dropout: of what the layers read, in training.

    >>> ClaimHead(8)(torch.zeros(2, 5, 8), torch.zeros(2, 5, 8), torch.zeros(2, 5, 1), torch.ones(2, 5).bool()).shape
    torch.Size([2])
    """

    def __init__(self, width: int, hidden: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        self.token = nn.Linear(4 * width + 1, hidden)
        self.claim = nn.Linear(2 * hidden + 2, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, claim: Tensor, found: Tensor, nearest: Tensor, mask: Tensor) -> Tensor:
        """(B,) log-odds; claim and found (B, N, D), nearest (B, N, 1), mask (B, N) bool, a token at least in each row."""
        compared = torch.cat([claim, found, claim - found, claim * found, 10 * nearest], -1)
        states = F.gelu(self.token(self.dropout(compared)))  # (B, N, hidden)
        there = mask[..., None]
        share = there / there.sum(1, keepdim=True)
        mean, most = (states * share).sum(1), states.masked_fill(~there, -torch.inf).amax(1)
        usual, least = (nearest * share).sum(1), nearest.masked_fill(~there, torch.inf).amin(1)
        odds: Tensor = self.claim(torch.cat([self.dropout(mean), self.dropout(most), usual, least], -1)).squeeze(-1)
        return odds


class Checker:
    """Probability that the source supports a summary: a metric like the others, in [0, 1], 1 for a text that is its own summary.

    A summary sentence whose words stand in the source in one run is supported by definition and not shown to the heads.

    Args:
        heads: their log-odds are averaged.
        states: the encoder.
        threshold: probability from which on a claim counts as supported.
        card: what is known about the training.
    """

    name = "checker"

    def __init__(
        self,
        heads: Sequence[ClaimHead],
        states: TextStates,
        *,
        threshold: float = 0.5,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        if not heads:
            raise MetricError("heads: expected at least one, got none")
        self.heads = nn.ModuleList(heads).eval()
        self.states, self.threshold = states, threshold
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
                    asked.append((i, source, claim))
        for (i, _, _), p in zip(asked, self.probabilities([(s, c) for _, s, c in asked]), strict=True):
            scores[i].append(p)
        return [math.fsum(found) / len(found) if found else 0.0 for found in scores]

    def claims(self, source: str, summary: str) -> list[dict[str, Any]]:
        """Each sentence of the summary with its `probability`, whether it is `supported`, and the `context` that is most like it.

        Raises:
            MetricError: as for a score.
        """
        rows = []
        for claim in sentences(checked(summary, "summary")):
            p = self([source], [claim])[0]
            context = retrieve(source, claim, TOP)
            rows.append({"claim": claim, "probability": p, "supported": p >= self.threshold, "context": context})
        return rows

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """p(supported) of each (source, claim), to six digits, so that batch mates do not show; 0 for a claim without a token."""
        return _probabilities(self.heads, _matches(self.states, pairs))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """The heads as safetensors and the card, whole or not at all; a checker that was there is replaced. The encoder is named.

        Raises:
            MetricError: the folder holds something else.
        """
        target = Path(folder).absolute()
        _check_free(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
        layer: Any = self.heads[0].token
        source = self.states.source
        card = {
            **self.card,
            "heads": len(self.heads),
            "width": (layer.in_features - 1) // 4,
            "hidden": layer.out_features,
            "layer": self.states.layer,
            # an encoder in memory has no place to name; what is known of an earlier one stays
            "encoder": self.card.get("encoder") if source is None or isinstance(source, tuple) else str(source),
            "encoder_fingerprint": state_fingerprint(self.states.model),
            "threshold": self.threshold,
        }
        try:
            temporary.mkdir()
            save_file({name: value.contiguous() for name, value in self.heads.state_dict().items()}, temporary / HEADS)
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
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        encoder: str | Path | tuple[Any, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> Checker:
        """A saved checker.

        Args:
            encoder: where its encoder is now, where that is not the place it was trained with.

        Raises:
            MetricError: the folder is none of a checker, its card is not readable, or the encoder is not its own.
            SourceError: the encoder is nowhere.
        """
        path = Path(folder)
        try:
            card = json.loads((path / CARD).read_text(encoding="utf-8"))
            heads = [ClaimHead(int(card["width"]), int(card["hidden"])) for _ in range(int(card["heads"]))]
            nn.ModuleList(heads).load_state_dict(load_file(path / HEADS))
            threshold, layer, known = float(card["threshold"]), int(card["layer"]), str(card["encoder_fingerprint"])
            named = card["encoder"]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise MetricError(
                f"{path} holds no checker: {CARD}: {error!r}; train one with `fascicle faithsum train-checker --out {path}`"
            ) from error
        states = _states(encoder or named, layer, device)
        if state_fingerprint(states.model) != known:
            raise MetricError(
                f"{path}: the encoder {states.source or 'MiniLM'} has other weights than the one the checker was trained with; "
                "give that one as encoder="
            )
        for head in heads:
            head.to(device)
        return cls(heads, states, threshold=threshold, card=card)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a checker learns."""

    seed: int = 0
    heads: int = 3
    """Heads that are trained apart, each from its own seed, and averaged."""
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3
    """Peak, after a warm-up over a tenth of the steps; then down to 0 in a line."""
    weight_decay: float = 0.01
    hidden: int = 128
    dropout: float = 0.2
    layer: int = 5
    """Hidden layer of the encoder whose states are compared."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("heads", "epochs", "batch_size", "hidden"):
            if getattr(self, name) < 1:
                raise MetricError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0 or not 0 <= self.dropout < 1:
            raise MetricError(
                f"expected learning_rate > 0 and 0 <= dropout < 1, got {self.learning_rate} and {self.dropout}"
            )


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
    states = _states(None if base is None else str(Path(base).absolute()), options.layer, options.device)
    matches = _matches(states, [(p.source, p.claim) for p in pairs], tell=True)
    learned = [(match, float(p.supported)) for match, p in zip(matches, pairs, strict=True) if len(match[0])]
    heads, losses = [], []
    with torch.random.fork_rng(devices=[]):
        for number in range(options.heads):
            torch.manual_seed(options.seed * 1000 + number)
            head = ClaimHead(states.model.config.hidden_size, options.hidden, options.dropout).to(options.device)
            losses.append(_fit(head, learned, options, number))
            heads.append(head.cpu())
    checker = Checker([head.to(options.device) for head in heads], states)
    if validation:
        asked = [(p.source, p.claim) for p in validation]
        checker.threshold = best_threshold(checker.probabilities(asked), [p.supported for p in validation])
    checker.card = {
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


# ---- what a claim finds in its source ------------------------------------------------------------------------------------


def _states(source: str | Path | tuple[Any, Any] | None, layer: int, device: str | torch.device) -> TextStates:
    return TextStates(source, layer=layer, pieces=None, device=device, used_by="the checker's encoder")


def _matches(states: TextStates, pairs: Sequence[tuple[str, str]], *, tell: bool = False) -> list[Match]:
    """Each claim beside what it found; sources of several claims are read once."""
    by_source: dict[str, list[int]] = {}
    for i, (source, _) in enumerate(pairs):
        by_source.setdefault(normalize(source), []).append(i)
    found: dict[int, Match] = {}
    for source, rows in by_source.items():
        article = states.of_source(source)
        claims = states.encode([normalize(pairs[i][1]) for i in rows])
        for i, claim in zip(rows, claims, strict=True):
            found[i] = _match(claim, article)
        if tell:
            _progress("reading", len(found), len(pairs))
    return [found[i] for i in range(len(pairs))]


def _match(claim: Tensor, source: Tensor) -> Match:
    """(N, D), (T, D), of length 1 -> what the comparison reads. Both become rows of mean 0 and deviation 1."""
    if not len(claim) or not len(source):
        nothing = claim.new_zeros(0, claim.shape[1]).half()
        return nothing, nothing, nothing[:, :1]
    size = claim.shape[-1:]
    cosines = claim @ source.T  # (N, T)
    read = (SHARPNESS * cosines).softmax(-1) @ F.layer_norm(source, size)
    return F.layer_norm(claim, size).half(), read.half(), cosines.amax(-1, keepdim=True).half()


def _batch(matches: Sequence[Match], device: str | torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    claim, found, nearest = (
        nn.utils.rnn.pad_sequence([match[part].float() for match in matches], batch_first=True).to(device)
        for part in range(3)
    )
    lengths = torch.tensor([len(match[0]) for match in matches], device=device)
    return claim, found, nearest, torch.arange(claim.shape[1], device=device) < lengths[:, None]


def _probabilities(heads: Any, matches: Sequence[Match], batch_size: int = 64) -> list[float]:
    order = sorted((i for i in range(len(matches)) if len(matches[i][0])), key=lambda i: len(matches[i][0]))
    found = [0.0] * len(matches)
    device = next(heads.parameters()).device
    for start in range(0, len(order), batch_size):
        at = order[start : start + batch_size]
        with torch.inference_mode():
            batch = _batch([matches[i] for i in at], device)
            odds = torch.stack([head(*batch) for head in heads]).mean(0)  # (B,)
        for i, value in zip(at, odds.double().sigmoid().tolist(), strict=True):
            found[i] = round(value, 6)
    return found


# ---- training ------------------------------------------------------------------------------------------------------------


def _fit(head: ClaimHead, pairs: Sequence[tuple[Match, float]], options: TrainingOptions, number: int) -> list[float]:
    """Mean loss of each epoch."""
    head.train()
    parameters = list(head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(pairs) / options.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm(max(1, steps // 10), steps))
    rng = random.Random(options.seed * 1000 + number)  # noqa: S311 - an order, no secret
    losses = []
    for epoch in range(options.epochs):
        total = 0.0
        for at in _batches(pairs, options.batch_size, rng):
            labels = torch.tensor([pairs[i][1] for i in at], device=options.device)
            odds = head(*_batch([pairs[i][0] for i in at], options.device))
            loss = F.binary_cross_entropy_with_logits(odds, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(at)
        losses.append(total / len(pairs))
        what = f"head {number + 1}/{options.heads}, loss {losses[-1]:.4f}, epoch"
        _progress(what, epoch + 1, options.epochs)
    head.eval()
    return losses


def _warm(warmup: int, steps: int) -> Callable[[int], float]:
    return lambda step: min((step + 1) / warmup, max(0.0, 1 - step / steps))


def _batches(pairs: Sequence[tuple[Match, float]], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Every index once; batches of like length, in random order: shuffled, then sorted within pieces of 32 batches."""
    order = rng.sample(range(len(pairs)), len(pairs))
    batches = []
    for start in range(0, len(order), 32 * size):
        piece = sorted(order[start : start + 32 * size], key=lambda i: len(pairs[i][0][0]))
        batches += [piece[i : i + size] for i in range(0, len(piece), size)]
    rng.shuffle(batches)
    yield from batches


def _scores(checker: Checker, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Balanced accuracy over all and by domain, where both labels occur."""
    found = checker.probabilities([(p.source, p.claim) for p in pairs])
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


def _progress(what: str, seen: int, total: int) -> None:
    if sys.stderr.isatty() or seen == total:
        end = "\n" if seen == total else "\r"
        sys.stderr.write(f"{what} {seen}/{total}{end}")
        sys.stderr.flush()
