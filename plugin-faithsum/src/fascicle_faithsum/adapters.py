"""Metrics of other packages, where they are installed, with the interface of ours. Light: each package is imported at first use.

None is a requirement: each brings its own weights, and some pin old versions. Scores are mapped into [0, 1]; that identical
texts score 1 is our metrics' promise and not theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from .errors import MetricError
from .metrics import paired
from .text import sentences

__all__ = ["AlignScore", "BERTScore", "MiniCheck", "SummaCConv", "SummaCZS"]


class _Adapter:
    """A metric whose package is imported, and whose model is made, at the first score.

    Subclasses name the package and say how its model is made (`_make`) and asked (`_answers`).
    """

    name: str
    module: str
    install: str

    def __init__(self, model: Any = None) -> None:
        self._model = model

    def __call__(self, sources: Sequence[str], summaries: Sequence[str]) -> list[float]:
        """One score in [0, 1] per pair; 0 for an empty summary, which the package never sees.

        Raises:
            MetricError: the package is missing, texts that cannot be paired, an answer that is not one finite number per pair.
        """
        paired(sources, summaries)
        rows = [i for i, summary in enumerate(summaries) if summary.strip()]
        found = [0.0] * len(summaries)
        if not rows:
            return found
        if self._model is None:
            self._model = self._make(self._imported())
        answers = list(self._answers([sources[i] for i in rows], [summaries[i] for i in rows]))
        if len(answers) != len(rows):
            raise MetricError(f"{self.name}: {self.module} gave {len(answers)} scores for {len(rows)} summaries")
        for i, answer in zip(rows, answers, strict=True):
            value = float(answer)
            if not math.isfinite(value):
                raise MetricError(f"{self.name}: {self.module} gave {value} for summary {i}; expected a finite number")
            found[i] = min(1.0, max(0.0, value))
        return found

    def _imported(self) -> Any:
        try:
            return import_module(self.module)
        except ImportError as error:
            raise MetricError(f"{self.name}: {self.module} cannot be imported ({error}); {self.install}") from error

    def _make(self, module: Any) -> Any:
        raise NotImplementedError

    def _answers(self, sources: list[str], summaries: list[str]) -> Sequence[float]:
        raise NotImplementedError


class SummaCZS(_Adapter):
    """SummaC-ZS (Laban et al. 2022).

    `summac.model_summac.SummaCZS(granularity, model_name, device).score(sources, summaries)["scores"]`.
    Its score is entailment minus contradiction, in [-1, 1]; here (score + 1) / 2.

    >>> SummaCZS().name
    'summac_zs'
    """

    name = "summac_zs"
    module = "summac.model_summac"
    install = "pip install summac"

    def __init__(
        self, model: Any = None, *, model_name: str = "vitc", granularity: str = "sentence", device: str = "cpu"
    ) -> None:
        super().__init__(model)
        self.options = {"granularity": granularity, "model_name": model_name, "device": device}

    def _make(self, module: Any) -> Any:
        return module.SummaCZS(**self.options)

    def _answers(self, sources: list[str], summaries: list[str]) -> Sequence[float]:
        return [(float(x) + 1.0) / 2.0 for x in self._model.score(sources, summaries)["scores"]]


class SummaCConv(_Adapter):
    """SummaC-Conv (Laban et al. 2022).

    `summac.model_summac.SummaCConv(models, bins, granularity, nli_labels, device, start_file, agg)`, asked like
    [`SummaCZS`]. A score outside [0, 1] is cut.

    >>> SummaCConv().name
    'summac_conv'
    """

    name = "summac_conv"
    module = "summac.model_summac"
    install = "pip install summac"

    def __init__(
        self, model: Any = None, *, model_name: str = "vitc", granularity: str = "sentence", device: str = "cpu"
    ) -> None:
        super().__init__(model)
        self.options = {
            "models": [model_name],
            "bins": "percentile",
            "granularity": granularity,
            "nli_labels": "e",
            "device": device,
            "start_file": "default",
            "agg": "mean",
        }

    def _make(self, module: Any) -> Any:
        return module.SummaCConv(**self.options)

    def _answers(self, sources: list[str], summaries: list[str]) -> Sequence[float]:
        scores: Sequence[float] = self._model.score(sources, summaries)["scores"]
        return scores


class AlignScore(_Adapter):
    """AlignScore (Zha et al. 2023).

    `alignscore.AlignScore(model, batch_size, device, ckpt_path, evaluation_mode).score(contexts, claims)`.

    Args:
        model: an object made already; None: made from the rest.
        ckpt_path: the checkpoint, which must be downloaded by hand; it is a pickle that `alignscore` itself loads.

    >>> AlignScore().name
    'alignscore'
    """

    name = "alignscore"
    module = "alignscore"
    install = "pip install git+https://github.com/yuh-zha/AlignScore, and give ckpt_path"

    def __init__(
        self,
        model: Any = None,
        *,
        ckpt_path: str | None = None,
        model_name: str = "roberta-base",
        batch_size: int = 32,
        device: str = "cpu",
        evaluation_mode: str = "nli_sp",
    ) -> None:
        super().__init__(model)
        self.options = {
            "model": model_name,
            "batch_size": batch_size,
            "device": device,
            "ckpt_path": ckpt_path,
            "evaluation_mode": evaluation_mode,
        }

    def _make(self, module: Any) -> Any:
        if self.options["ckpt_path"] is None:
            raise MetricError(
                "alignscore: needs a checkpoint; build adapters.AlignScore(ckpt_path='/path/AlignScore-base.ckpt')"
            )
        return module.AlignScore(**self.options)

    def _answers(self, sources: list[str], summaries: list[str]) -> Sequence[float]:
        scores: Sequence[float] = self._model.score(sources, summaries)
        return scores


class MiniCheck(_Adapter):
    """MiniCheck (Tang et al. 2024), the mean over summary sentences.

    `minicheck.minicheck.MiniCheck(model_name, ...).score(docs=, claims=)` gives (labels, support probabilities, chunks,
    probabilities per chunk); the second is used. A claim is one sentence.

    Args:
        model: an object made already; None: made from the rest.
        model_name: `roberta-large`, `deberta-v3-large`, `flan-t5-large` or `Bespoke-MiniCheck-7B`.
        options: more arguments of `MiniCheck`, such as device or cache_dir.

    >>> MiniCheck().name
    'minicheck'
    """

    name = "minicheck"
    module = "minicheck.minicheck"
    install = "pip install 'minicheck @ git+https://github.com/Liyan06/MiniCheck.git@main'"

    def __init__(self, model: Any = None, *, model_name: str = "flan-t5-large", **options: Any) -> None:
        super().__init__(model)
        self.options = {"model_name": model_name, **options}

    def _make(self, module: Any) -> Any:
        return module.MiniCheck(**self.options)

    def _answers(self, sources: list[str], summaries: list[str]) -> Sequence[float]:
        claims = [sentences(summary) for summary in summaries]
        docs = [source for source, own in zip(sources, claims, strict=True) for _ in own]
        _, support, *_ = self._model.score(docs=docs, claims=[claim for own in claims for claim in own])
        rest = iter(support)
        return [math.fsum(float(next(rest)) for _ in own) / len(own) for own in claims]


class BERTScore(_Adapter):
    """BERTScore precision against the source (Zhang et al. 2020).

    `bert_score.BERTScorer(**options).score(cands, refs)` gives (P, R, F1), and P is used. It truncates what its encoder
    cannot read; `embedding_precision` does not.

    Args:
        model: an object made already; None: made from the rest.
        lang: picks the model; a `model_type` in the options goes before it.
        options: more arguments of `BERTScorer`, such as model_type, num_layers, device.

    >>> BERTScore().name
    'bertscore'
    """

    name = "bertscore"
    module = "bert_score"
    install = "pip install bert-score"

    def __init__(self, model: Any = None, *, lang: str = "en", **options: Any) -> None:
        super().__init__(model)
        self.options = {"lang": lang, **options}

    def _make(self, module: Any) -> Any:
        make: Callable[..., Any] = module.BERTScorer
        return make(**self.options)

    def _answers(self, sources: list[str], summaries: list[str]) -> Sequence[float]:
        precision, _, _ = self._model.score(summaries, sources)
        scores: Sequence[float] = precision.tolist()
        return scores
