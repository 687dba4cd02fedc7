"""Evaluation of a run: the summaries, how faithful they are and how much they copy, and whether the guidance is used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fascicle.errors import ConfigError
from fascicle.hf.evaluation import on_main, rows_of
from fascicle.hf.generation import prompts, references, score_texts
from fascicle.objects import Block, Metrics, Section

from .data import is_guided, unwrapped
from .diagnostics import diagnose
from .metrics import metric

if TYPE_CHECKING:
    from fascicle.context import RunContext
    from fascicle.objects import Data, Decoder, LoadedModel

    from .options import FaithsumFaithfulness, Mode
    from .planted import FactDocument

__all__ = ["evaluate"]

COPYING = ("coverage", "log_density")
ROUGE = ("rouge1", "rouge2", "rougeL")


def evaluate(cfg: FaithsumFaithfulness, model: LoadedModel, data: Data, decoder: Decoder, run: RunContext) -> Metrics:
    """Write summaries under the prior's guidance and under other guidance, and measure them. Answers `fascicle_evaluate`.

    `faithful`, `cued`, `target` (of documents of facts): shares of summaries that state a fact of the document, the cued one,
    the one of the reference; `obeyed`: of summaries that state the fact that guidance was set to. Metrics with a prefix
    (`posterior_rougeL`) are under that guidance. `kl`, `mutual_information`, `shuffled_cost` (nats): is the latent variable used?

    Raises:
        DataError: no such split, or no rows.
        ConfigError: guidance that the model's latent variable does not have.
    """
    model.model.eval()
    return on_main(run, lambda: _Evaluation(cfg, model, data, decoder, run).metrics())


@dataclass
class _Evaluation:
    cfg: FaithsumFaithfulness
    model: LoadedModel
    data: Data
    decoder: Decoder
    run: RunContext

    def __post_init__(self) -> None:
        self.net: Any = unwrapped(self.model.model)
        self.guided = is_guided(self.model.model)
        self.split, self.features = rows_of(self.cfg, self.data, self.model)
        self.documents: list[str] = list(self.data.splits[self.split]["document"])[: len(self.features)]
        self.references = references(self.data, self.split, self.features, self.model) or []
        facts = self.data.extra.get("facts")
        self.facts: list[FactDocument] = facts(self.split)[: len(self.features)] if facts is not None else []
        self.scorers = {name: metric(name) for name in self.cfg.metrics} | (
            {"checker": _checker(self.cfg.checker)} if self.cfg.checker is not None else {}
        )
        vector = {"posterior", "oracle", "shuffled"} & set(self.cfg.modes)
        if self.guided and self.net.config.latent_type == "gaussian" and vector:
            raise ConfigError(
                f"evaluation.modes: got {sorted(vector)}, but a gaussian latent marks no tokens; "
                "expected some of mean, sample, none"
            )

    def metrics(self) -> Metrics:
        texts = self.write("Writing")
        per_row = self.scores(texts)
        if self.facts:
            stated = [document.stated(text) for document, text in zip(self.facts, texts, strict=True)]
            per_row["cued"] = [float(k == d.cue) for d, k in zip(self.facts, stated, strict=True)]
            per_row["target"] = [float(k == d.target) for d, k in zip(self.facts, stated, strict=True)]
        if self.guided:
            for mode in self.cfg.modes:
                found = self.scores(self.write(f"Writing, {mode} guidance", mode))
                per_row |= {f"{mode}_{name}": rows for name, rows in found.items() if name not in COPYING}
            if self.facts and self.net.config.latent_type != "gaussian":
                per_row["obeyed"] = self.obeyed()
            if self.cfg.guided_samples:
                per_row |= {f"reranked_{name}": rows for name, rows in self.scores(self.reranked()).items()}
        values = {name: sum(rows) / len(rows) for name, rows in per_row.items()}
        if self.guided and self.cfg.diagnostic_rows:
            values |= self.diagnostics()
        primary = "faithful" if self.facts else self.cfg.metrics[0] if self.cfg.metrics else "checker"
        neither = (*COPYING, "summary_words")
        good = {name: True for name in per_row if not name.endswith(neither)}
        return Metrics(
            values=values,
            primary=primary,
            higher_is_better=good | {name: False for name in values if name.endswith("_nll")},
            per_example=dict(per_row),
            units={
                name: "nats"
                for name in values
                if name.endswith(("_nll", "_cost")) or name in ("kl", "mutual_information")
            },
            sections=[self.page(texts)] if self.cfg.samples else [],
        )

    # ---- writing --------------------------------------------------------------------------------------------------------

    def write(self, told: str, mode: Mode = "map", gate: _Gate | None = None) -> list[str]:
        """One summary per row, under the guidance of a mode or a gate; `map` is whatever the model's own mode is."""
        asked = prompts(self.features, self.model)
        order = sorted(range(len(asked)), key=lambda i: (-len(asked[i]["input_ids"]), i))
        texts = [""] * len(asked)
        make = gate or (None if mode in ("map", "mean", "sample", "none") else _gates(self.net, mode))
        switch = (
            _switched(self.net, mode)
            if self.guided and mode in ("mean", "sample", "none")
            else contextlib.nullcontext()
        )
        with switch, self.run.progress(told, total=len(asked)) as bar:
            for start in range(0, len(order), self.cfg.batch_size):
                rows = order[start : start + self.cfg.batch_size]
                batch = self.batch(rows)
                inputs = {n: v for n, v in batch.items() if n not in ("labels", "guidance_tags")}
                if make is not None:
                    inputs["guidance"] = make(batch, rows)
                out = self.decoder.generate(self.model, inputs, max_new_tokens=self.cfg.max_new_tokens)
                for i, tokens, length in zip(rows, out.sequences, out.new_tokens, strict=True):
                    texts[i] = self.text(tokens[:length].tolist())
                bar.advance(len(rows))
        return texts

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        device = next(self.model.model.parameters()).device
        made = self.data.collate(self.model)([self.features[i] for i in rows])
        return {name: value.to(device) for name, value in made.items() if isinstance(value, Tensor)}

    def text(self, tokens: list[int]) -> str:
        assert self.model.tokenizer is not None
        return str(self.model.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def obeyed(self) -> list[float]:
        """Guidance set to each fact in turn: the share of facts that the summary then states, per document."""
        hits = [0.0] * len(self.facts)
        count = len(self.facts[0].sentences)
        for k in range(count):
            texts = self.write(f"Writing, guidance on fact {k + 1}", gate=_sentence_gate(k))
            for i, (document, text) in enumerate(zip(self.facts, texts, strict=True)):
                hits[i] += float(document.stated(text) == k) / count
        return hits

    def reranked(self) -> list[str]:
        """Of several summaries under drawn guidance, the one that a metric likes best; the first of equals."""
        best = metric(self.cfg.rerank)
        drawn = [self.write(f"Writing, draw {n + 1}", "sample") for n in range(self.cfg.guided_samples)]
        scores = [best(self.documents, texts) for texts in drawn]
        chosen = [max(range(len(drawn)), key=lambda n: scores[n][i]) for i in range(len(self.documents))]
        return [drawn[n][i] for i, n in enumerate(chosen)]

    # ---- measuring ------------------------------------------------------------------------------------------------------

    def scores(self, texts: Sequence[str]) -> dict[str, list[float]]:
        """Per row: the metrics, ROUGE, how much is copied, length; of documents of facts whether one is stated."""
        rows: dict[str, list[float]] = {}
        if self.facts:
            rows["faithful"] = [float(d.stated(text) is not None) for d, text in zip(self.facts, texts, strict=True)]
            rows["exact"] = [float(text == d.summary) for d, text in zip(self.facts, texts, strict=True)]
            return rows
        for name, scorer in self.scorers.items():
            rows[name] = list(scorer(self.documents, list(texts)))
        for name in COPYING:
            if name not in rows:
                rows[name] = list(metric(name)(self.documents, list(texts)))
        if self.references:
            _, found = score_texts(texts, self.references)
            rows |= {name: found[name] for name in ROUGE}
        rows["summary_words"] = [float(len(text.split())) for text in texts]
        return rows

    def diagnostics(self) -> dict[str, float]:
        count = min(self.cfg.diagnostic_rows, len(self.features))
        batches = [
            self.batch(range(start, min(start + self.cfg.batch_size, count)))
            for start in range(0, count, self.cfg.batch_size)
        ]
        found = diagnose(self.net, batches, seed=self.run.seed)
        if found.collapsed():
            self.run.logger.warning(
                "the guidance has collapsed: KL %.3f nats, another document's guidance costs %.3f nats; try latent_type=sentence, "
                "a smaller objective.beta, or objective.tag_weight above 0",
                found.kl,
                found.shuffled_cost,
            )
        return found.values() | {"collapsed": float(found.collapsed())}

    def page(self, texts: Sequence[str]) -> Section:
        """Some documents, their sentences shaded by the prior's probability."""
        blocks = []
        sentences = self.data.extra["sentences"](self.split)
        for i in range(min(self.cfg.samples, len(texts))):
            weights: list[float | None] = [None] * len(sentences[i])
            if self.guided and self.net.config.latent_type == "sentence":
                batch = self.batch([i])
                found = self.net.induce_guidance(batch["input_ids"], batch["attention_mask"], batch["segment_ids"])
                told = found.prior_probs[0].tolist()
                weights = [*told, *[0.0] * len(weights)][: len(weights)]
            spans = [{"text": f"{s} ", "weight": w} for s, w in zip(sentences[i], weights, strict=True)]
            reference = f" Reference: {self.references[i][0]}" if self.references else ""
            blocks.append(
                Block(
                    kind="spans",
                    title=f"Document {i + 1}",
                    data={"spans": spans, "caption": f"Written: {texts[i]}{reference}"},
                )
            )
        return Section(title="Guidance of some documents", blocks=blocks, plugin="faithsum")


_Gate = Callable[[dict[str, Tensor], Sequence[int]], Tensor]


@contextlib.contextmanager
def _switched(net: Any, mode: str) -> Iterator[None]:
    before = net.config.guidance_mode
    net.config.guidance_mode = mode
    try:
        yield
    finally:
        net.config.guidance_mode = before


def _sentence_gate(k: int) -> _Gate:
    return lambda batch, rows: (batch["segment_ids"] == k).to(torch.float32)


def _gates(net: Any, mode: str) -> _Gate:
    """(B, T): what the recognition network marks, what the tags mark, or what the prior marks in another document."""

    def gate(batch: dict[str, Tensor], rows: Iterable[int]) -> Tensor:
        segments = batch["segment_ids"]
        if mode == "oracle":
            probs = batch["guidance_tags"].float()
        else:
            with torch.no_grad():
                found = net.induce_guidance(
                    batch["input_ids"], batch["attention_mask"], segments, labels=batch["labels"]
                )
            probs = found.posterior_probs if mode == "posterior" else found.prior_probs
        if net.config.latent_type == "bernoulli":
            marked = (probs > 0.5).float()
            return torch.roll(marked, 1, 0) * (segments >= 0) if mode == "shuffled" else marked
        chosen = probs.argmax(-1)  # (B,)
        if mode == "shuffled":
            chosen = torch.minimum(torch.roll(chosen, 1, 0), segments.amax(-1).clamp(min=0))
        return (segments == chosen.unsqueeze(-1)).to(torch.float32)

    return gate


def _checker(folder: str) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    from .checker import Checker

    return Checker.load(folder)
