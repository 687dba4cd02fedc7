"""Answer of `fascicle_decoder`: Ouroboros as a run's decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fascicle.hf.decoding import clock
from fascicle.objects import Generation
from fascicle.sources import resolve

from .engine import OuroborosEngine, empty_pool
from .pool import PhrasePool, tokenizer_fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from fascicle.context import RunContext
    from fascicle.objects import LoadedModel, Section

    from .options import Ouroboros
    from .stats import Stats

__all__ = ["OuroborosDecoder", "decoder"]


def decoder(cfg: Ouroboros, run: RunContext) -> OuroborosDecoder:
    """The decoder of a run.

    Raises:
        SourceError: no source of the draft model exists.

    Example:
        >>> from types import SimpleNamespace
        >>> from fascicle_ouroboros.options import Ouroboros
        >>> decoder(Ouroboros(), SimpleNamespace(seed=1)).name
        'ouroboros'
    """
    if cfg.draft:
        resolve(cfg.draft, "decoding.draft")  # a missing draft is told before anything is trained
    return OuroborosDecoder(cfg, run)


class OuroborosDecoder:
    """Writes with an [`OuroborosEngine`]; rows one by one, with one pool.

    What a checkpoint says of sampling, lengths and penalties is overruled by the option; its special tokens are kept.

    Args:
        options: how to draft and how to choose tokens.
        run: its seed gives the draws, its device and dtype the draft model's.
    """

    def __init__(self, options: Ouroboros, run: RunContext) -> None:
        self.options, self.run = options, run
        self.name = "ouroboros"
        self.stats: list[Stats] = []
        """One for each row that was written."""
        self._calls = 0
        self._tokenizer: Any = None
        self._engine: OuroborosEngine | None = None
        self._draft: LoadedModel | None = None

    def generate(self, model: LoadedModel, inputs: dict[str, Tensor], *, max_new_tokens: int) -> Generation:
        """Continue `inputs`; see `fascicle.Decoder`.

        `stats` has `tokens_per_forward`: new tokens per row and forward pass of the target.

        Raises:
            VocabularyError: a draft model whose vocabulary is not the target's.
            PoolError: a pool of another tokenizer.
        """
        engine = self._engine_of(model)
        self._tokenizer = model.tokenizer
        config = self._settings(model, max_new_tokens)
        self._calls += 1
        seed = (self.run.seed * 1_000_003 + self._calls) % 2**62
        rows: list[list[int]] = []
        counted: list[Stats] = []
        seconds = 0.0
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        size = len(ids) if self.options.keep_pool and engine.target_how.mode != "plain" else 1
        for first in range(0, len(ids), size):
            if not self.options.keep_pool:
                engine.pool = self._pool(model)
            some, shown = ids[first : first + size], mask[first : first + size]
            kept = shown.bool().any(0)  # the others are padding in all of them
            some, shown = some[:, kept], shown[:, kept]
            start = clock(ids.device)
            out = engine.generate(some, attention_mask=shown, generation_config=config, seed=(seed + first) % 2**62)
            seconds += clock(ids.device) - start
            rows += [
                row[some.shape[1] : some.shape[1] + stats.emitted].tolist()
                for row, stats in zip(out, engine.row_stats, strict=True)
            ]
            counted += engine.row_stats
        self.stats += counted
        longest = max((len(row) for row in rows), default=0)
        padded = [row + [config.pad_token_id] * (longest - len(row)) for row in rows]
        forwards = sum(s.target_forwards for s in counted)
        return Generation(
            sequences=torch.tensor(padded, dtype=torch.int64).reshape(len(rows), longest),
            new_tokens=[len(row) for row in rows],
            seconds=seconds,
            target_forwards=forwards,
            stats={
                "tokens_per_forward": sum(map(len, rows)) / max(1, forwards),
                "draft_forwards": sum(s.draft_forwards for s in counted),
                "target_tokens_fed": sum(s.target_tokens_fed for s in counted),
            },
        )

    def sections(self) -> list[Section]:
        """Accepted tokens by source and by depth, and where the time went."""
        from .views import sections

        return sections(self.stats, self._tokenizer) if self.stats else []

    def _engine_of(self, model: LoadedModel) -> OuroborosEngine:
        if self._engine is None or self._engine.given is not model.model:
            draft = self._assistant().model if self.options.draft else None
            self._engine = OuroborosEngine(model.model, draft, pool=self._pool(model), options=self.options)
        return self._engine

    def _pool(self, model: LoadedModel) -> PhrasePool:
        if self.options.pool is None:
            return empty_pool(self.options)
        return PhrasePool.load(self.options.pool, tokenizer_fingerprint(model.tokenizer))

    def _assistant(self) -> LoadedModel:
        if self._draft is None:
            from fascicle.hf.model_options import HfCausalLm
            from fascicle.hf.models import load_model

            self._draft = load_model(HfCausalLm(sources=self.options.draft), self.run)
            self._draft.model.eval()
        return self._draft

    def _settings(self, model: LoadedModel, max_new_tokens: int) -> Any:
        import transformers

        make: Any = transformers.GenerationConfig
        own: Any = model.model.generation_config
        tokenizer: Any = model.tokenizer
        eos = own.eos_token_id if own.eos_token_id is not None else getattr(tokenizer, "eos_token_id", None)
        first = eos[0] if isinstance(eos, list) else eos
        pads = [getattr(tokenizer, "pad_token_id", None), own.pad_token_id, first, 0]
        o = self.options
        draws = {"do_sample": True, "temperature": o.temperature, "top_p": o.top_p, "top_k": o.top_k}
        return make(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min(o.min_new_tokens, max_new_tokens) or None,
            min_length=None if o.min_new_tokens else 0,  # both at once make transformers warn
            num_beams=1,
            repetition_penalty=o.repetition_penalty,
            no_repeat_ngram_size=o.no_repeat_ngram_size,
            eos_token_id=eos,
            pad_token_id=next(pad for pad in pads if pad is not None),
            use_cache=True,
            **(draws if o.do_sample else {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}),
        )
