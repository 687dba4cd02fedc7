"""The core's decoders, all through transformers' `generate`: greedy, sampling, beam search, assisted, prompt lookup."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ConfigError
from ..objects import Generation
from .training_options import Assisted, Beam, Greedy, PromptLookup, Sample

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..context import RunContext
    from ..objects import LoadedModel, Section

__all__ = ["GenerateDecoder", "clock", "counted", "decoder"]

_NAMES = {Greedy: "greedy", Sample: "sample", Beam: "beam", Assisted: "assisted", PromptLookup: "prompt_lookup"}


def decoder(cfg: Greedy | Sample | Beam | Assisted | PromptLookup, run: RunContext) -> GenerateDecoder:
    """Answer of `fascicle_decoder`.

    Raises:
        SourceError: no source of a draft model exists.

    >>> from types import SimpleNamespace
    >>> decoder(Greedy(), SimpleNamespace(seed=1)).name
    'greedy'
    """
    if isinstance(cfg, Assisted):
        from ..sources import resolve

        resolve(cfg.draft, "decoding.draft")  # a missing draft is told before anything is trained
    return GenerateDecoder(cfg, run)


class GenerateDecoder:
    """Writes with `model.generate`; one object per run.

    What a checkpoint says of sampling, beams, lengths and penalties is overruled by the option; its special tokens are kept.
    Assisted decoding and prompt lookup write row by row, as transformers requires.

    Args:
        options: how to write.
        run: its seed gives the draws, its device and dtype the draft model's.
    """

    def __init__(self, options: Greedy | Sample | Beam | Assisted | PromptLookup, run: RunContext) -> None:
        self.options, self.run = options, run
        self.name = _NAMES[type(options)]
        self._calls = 0
        self._draft: LoadedModel | None = None

    def generate(self, model: LoadedModel, inputs: dict[str, Tensor], *, max_new_tokens: int) -> Generation:
        """Continue `inputs`; see `fascicle.Decoder`.

        `stats` has `tokens_per_forward`: new tokens per row and forward pass of the target.

        Raises:
            ConfigError: a draft model whose vocabulary is not the target's.
        """
        net: Any = model.model
        settings = self._settings(model, max_new_tokens)
        more = {"assistant_model": self._assistant(model)} if isinstance(self.options, Assisted) else {}
        rows = _single_rows(inputs) if isinstance(self.options, Assisted | PromptLookup) else [inputs]
        self._calls += 1
        written: list[list[int]] = []
        forwards = row_forwards = 0
        seconds = 0.0
        with torch.no_grad(), self._draws(_device(model)), counted(model.model) as count:
            for row in rows:
                before = count[0]
                start = clock(_device(model))
                out = net.generate(**row, generation_config=settings, **more)
                seconds += clock(_device(model)) - start
                prompt = 1 if _is_encoder_decoder(model) else row["input_ids"].shape[1]
                written += [
                    _until_end(tokens[:max_new_tokens], settings.eos_token_id) for tokens in out[:, prompt:].tolist()
                ]
                forwards += count[0] - before
                row_forwards += (count[0] - before) * len(out)
        lengths = [len(tokens) for tokens in written]
        longest = max(lengths, default=0)
        padded = [tokens + [settings.pad_token_id] * (longest - len(tokens)) for tokens in written]
        return Generation(
            sequences=torch.tensor(padded, dtype=torch.int64).reshape(len(written), longest),
            new_tokens=lengths,
            seconds=seconds,
            target_forwards=forwards,
            stats={"tokens_per_forward": sum(lengths) / max(1, row_forwards)},
        )

    def sections(self) -> list[Section]:
        """Nothing to show."""
        return []

    def _settings(self, model: LoadedModel, max_new_tokens: int) -> Any:
        import transformers

        net: Any = model.model
        make: Any = transformers.GenerationConfig
        own = net.generation_config
        options = self.options
        eos = own.eos_token_id if own.eos_token_id is not None else getattr(model.tokenizer, "eos_token_id", None)
        pad = next(
            (
                p
                for p in (getattr(model.tokenizer, "pad_token_id", None), own.pad_token_id, _first(eos))
                if p is not None
            ),
            0,
        )
        chosen: dict[str, Any] = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
        if isinstance(options, Sample):
            chosen |= {
                "do_sample": True,
                "temperature": options.temperature,
                "top_p": options.top_p,
                "top_k": options.top_k,
            }
        if isinstance(options, Beam):
            beams = {"num_beams": options.num_beams, "length_penalty": options.length_penalty}
            chosen |= {**beams, "early_stopping": options.early_stopping}
        if isinstance(options, PromptLookup):
            chosen |= {"prompt_lookup_num_tokens": options.num_tokens, "max_matching_ngram_size": options.max_ngram}
        return make(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min(options.min_new_tokens, max_new_tokens) or None,
            min_length=None if options.min_new_tokens else 0,  # both at once make transformers warn
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            eos_token_id=eos,
            pad_token_id=pad,
            use_cache=True,
            **chosen,
        )

    def _assistant(self, model: LoadedModel) -> nn.Module:
        assert isinstance(self.options, Assisted)
        if self._draft is None:
            from .model_options import HfCausalLm
            from .models import load_model

            self._draft = load_model(HfCausalLm(sources=self.options.draft), self.run)
            _same_vocabulary(model.model, self._draft.model, self.options.draft)
        settings: Any = self._draft.model.generation_config
        settings.num_assistant_tokens = self.options.num_assistant_tokens
        settings.num_assistant_tokens_schedule = self.options.schedule
        settings.assistant_confidence_threshold = self.options.confidence_threshold
        return self._draft.model

    @contextlib.contextmanager
    def _draws(self, device: torch.device) -> Iterator[None]:
        """Random draws that follow from the seed and the number of the call alone."""
        if not isinstance(self.options, Sample):
            yield
            return
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((self.run.seed * 1_000_003 + self._calls) % 2**63)
            yield


@contextlib.contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """Count the forward passes of a model while the block runs; the one number of the list is the count.

    >>> from torch import nn
    >>> layer = nn.Linear(1, 1)
    >>> with counted(layer) as count:
    ...     _ = layer(layer(torch.ones(1)))
    >>> count
    [2]
    """
    count = [0]

    def add(*_: Any) -> None:
        count[0] += 1

    base = getattr(model, "get_base_model", None)  # PEFT generates with the model inside
    inner: nn.Module = base() if callable(base) else model
    handle = inner.register_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()


def _single_rows(inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Row by row, without the padding that the mask names."""
    mask = inputs.get("attention_mask")
    rows = []
    for i in range(len(inputs["input_ids"])):
        row = {name: value[i : i + 1] for name, value in inputs.items()}
        if mask is not None:
            kept = mask[i].bool()
            row = {name: v[:, kept] if v.shape[1:2] == kept.shape else v for name, v in row.items()}
        rows.append(row)
    return rows


def _until_end(tokens: list[int], eos: int | list[int] | None) -> list[int]:
    """The tokens up to the first end token, with it."""
    ends = set(eos) if isinstance(eos, list) else {eos}
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: end + 1]


def _same_vocabulary(target: Any, draft: Any, sources: list[str]) -> None:
    sizes = [getattr(m.config, "vocab_size", None) for m in (target, draft)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"decoding.draft: {sources} has a vocabulary of {sizes[1]}, the model one of {sizes[0]}; expected a draft with the "
            "model's own tokenizer"
        )


def _is_encoder_decoder(model: LoadedModel) -> bool:
    return bool(getattr(getattr(model.model, "config", None), "is_encoder_decoder", False))


def _device(model: LoadedModel) -> torch.device:
    return next(model.model.parameters()).device


def clock(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked.

    >>> clock(torch.device("cpu")) <= clock(torch.device("cpu"))
    True
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _first(ids: int | list[int] | None) -> int | None:
    return ids[0] if isinstance(ids, list) else ids
