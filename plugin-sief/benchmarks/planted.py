"""What the focusing loss and its controls do where the evidence is known: planted documents, and a model of two bags of words.

A pair is named in two sentences, one of which holds a trigger of its relation, the evidence; a third sentence holds a topic, which
points to the right relation in `--cue` of the cases. The model knows nothing of this package: it reads the mean of the sentences
that name the pair and the mean of all, each four times as large, through a small network. Each loss trains it on the same documents
under several seeds; the threshold is chosen on other documents, the rest measured on new ones. Prints a table in Markdown, means
and standard deviations over the seeds.

    python benchmarks/planted.py --cue 0.6 --triggers 20 --seeds 3

| column | what |
|---|---|
| F1 | micro F1 |
| distractor out | true positives lost when the distractor is removed; low is good |
| evidence out | true positives lost when the evidence is removed; high is good |
| evidence alone | true positives kept when the document is its evidence alone; high is good |
| exempt | gold cells that the loss left alone, of all, in the last epoch |
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from dataclasses import astuple, dataclass, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch import nn

from fascicle.hf.model_options import Tiny
from fascicle.hf.tiny import tiny_tokenizer
from fascicle.objects import Step
from fascicle_sief.document import drop_sentences
from fascicle_sief.evaluation import tune
from fascicle_sief.features import DocumentEncoder, collate
from fascicle_sief.inference import ModelScorer
from fascicle_sief.objective import Focusing, Mode
from fascicle_sief.planted import RELATIONS, planted_documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fascicle_sief.document import Document
    from fascicle_sief.planted import Planted

MODES: tuple[Mode, ...] = get_args(Mode)


class TwoBags(nn.Module):
    """Mean of the sentences that name the pair, and of all sentences, into a small network."""

    def __init__(self, vocabulary: int, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.answer = nn.Sequential(
            nn.Dropout(0.1),
            nn.Linear(2 * width, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, len(RELATIONS) + 1),
        )

    def forward(
        self,
        input_ids: Tensor,
        sentence_ids: Tensor,
        mention_entities: Tensor,
        mention_sentences: Tensor,
        pairs: Tensor,
        **_: Tensor,
    ) -> SimpleNamespace:
        """(N, R + 1) logits."""
        at = torch.arange(int(sentence_ids.max()) + 1)
        inside = (sentence_ids[:, None] == at[:, None]).float()  # (B, S, L)
        words = inside.sum(-1, keepdim=True)
        sentences = inside @ self.words(input_ids) / words.clamp(min=1)  # (B, S, D)
        b = pairs[:, 0]
        naming = [
            (mention_entities[b] == pairs[:, k, None])[..., None] & (mention_sentences[b, :, None] == at)
            for k in (1, 2)
        ]
        both = naming[0].any(1) & naming[1].any(1)  # (N, S): sentences that name head and tail
        bags = [_mean(both.float(), sentences[b]), _mean((words[b, :, 0] > 0).float(), sentences[b])]
        return SimpleNamespace(logits=self.answer(4 * torch.cat(bags, -1)))


def _mean(chosen: Tensor, values: Tensor) -> Tensor:
    """(N, D) means of the chosen (N, S) of values (N, S, D)."""
    return (chosen[:, None] @ values)[:, 0] / chosen.sum(1, keepdim=True).clamp(min=1)


@functools.cache
def encoder() -> DocumentEncoder:
    """One for all runs: it remembers the sentences it has cut, and all losses read the same ones."""
    return DocumentEncoder(tiny_tokenizer(Tiny()), RELATIONS, markers=False)


@dataclass(frozen=True)
class Outcome:
    """What one trained model does; shares."""

    f1: float
    distractor_out: float
    evidence_out: float
    evidence_alone: float
    exempt: float


@dataclass(frozen=True)
class Study:
    """Size of the experiment; the documents of a seed are the same for all losses."""

    cue: float = 0.6
    triggers: int = 20
    train: int = 1500
    test: int = 2000
    epochs: int = 30

    def run(self, mode: Mode, seed: int) -> Outcome:
        """Train and measure one model."""
        encode = encoder()
        train, validation, test = (
            planted_documents(count, seed=3 * seed + part, cue=self.cue, triggers=self.triggers)
            for part, count in enumerate((self.train, self.train // 3, self.test))
        )
        model, exempt = self._trained(encode, [p.document for p in train], mode, seed)
        scorer = ModelScorer(model, encode, batch_pieces=30_000)
        scorer.threshold = tune(scorer, [p.document for p in validation])
        return _measured(scorer, test, exempt)

    def _trained(
        self, encode: DocumentEncoder, documents: Sequence[Document], mode: Mode, seed: int, batch: int = 50
    ) -> tuple[nn.Module, float]:
        """The model, and the share of gold cells that were exempt in the last epoch."""
        torch.manual_seed(seed)
        rows = [encode(document, i) for i, document in enumerate(documents)]
        model = TwoBags(len(encode.tokenizer)).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        focusing = Focusing(mode, negatives=None, seed=seed)
        steps = self.epochs * (len(rows) // batch)
        exempt: list[float] = []
        for step in range(steps):
            if step % (len(rows) // batch) == 0:
                order, exempt = torch.randperm(len(rows)).tolist(), []
            at = batch * (step % (len(rows) // batch))
            features = collate([rows[i] for i in order[at : at + batch]], encode.pad_id, len(RELATIONS))
            out = focusing.loss(model, features, Step(step, steps, 0.0))
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            exempt.append(float(out.parts.get("exempt_rate", 0.0)) if mode == "focusing" else 0.0)
        return model, statistics.fmean(exempt)


def _probabilities(scorer: ModelScorer, documents: Sequence[Document]) -> np.ndarray:
    """(D, R): each document has one pair."""
    return np.concatenate(scorer.probabilities(documents))


def _gold(documents: Sequence[Document]) -> np.ndarray:
    """(D, R) bool."""
    return np.array([[any(r.type == name for r in d.relations) for name in RELATIONS] for d in documents])


def _measured(scorer: ModelScorer, planted: Sequence[Planted], exempt: float) -> Outcome:
    documents = [p.document for p in planted]
    gold = _gold(documents)
    said = _probabilities(scorer, documents) > scorer.threshold
    right = said & gold
    found = right.any(1)  # true positives: a document has at most one
    true = [p for p, hit in zip(planted, found, strict=True) if hit]

    def kept(removed: Sequence[set[int]]) -> float:
        views = [drop_sentences(p.document, gone).document for p, gone in zip(true, removed, strict=True)]
        return float((_probabilities(scorer, views) > scorer.threshold)[right[found]].mean())

    evidence = [{p.evidence} for p in true if p.evidence is not None]
    return Outcome(
        f1=2 * right.sum() / (said.sum() + gold.sum()),
        distractor_out=1 - kept([{p.distractor} for p in true]),
        evidence_out=1 - kept(evidence),
        evidence_alone=kept([set(range(len(p.document))) - e for p, e in zip(true, evidence, strict=True)]),
        exempt=exempt,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cue", type=float, default=Study.cue)
    parser.add_argument("--triggers", type=int, default=Study.triggers)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=Study.train)
    parser.add_argument("--test", type=int, default=Study.test)
    parser.add_argument("--epochs", type=int, default=Study.epochs)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    args = parser.parse_args()
    study = Study(args.cue, args.triggers, args.train, args.test, args.epochs)
    sys.stdout.write(f"{study}, {args.seeds} seeds\n\n")
    names = [field.name.replace("_", " ") for field in fields(Outcome)]
    sys.stdout.write(f"| loss | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|\n")
    for mode in args.modes:
        outcomes = [study.run(mode, seed) for seed in range(args.seeds)]
        columns = zip(*map(astuple, outcomes), strict=True)
        cells = [f"{statistics.fmean(c):.3f} ± {statistics.stdev(c) if len(c) > 1 else 0.0:.3f}" for c in columns]
        sys.stdout.write(f"| {mode} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
