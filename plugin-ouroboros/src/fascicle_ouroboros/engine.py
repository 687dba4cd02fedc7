"""Ouroboros on any Hugging Face decoder: three ways in, one loop.

    generate(model, inputs, draft=small)                    one line
    engine = OuroborosEngine(model, draft=small)            keeps pool and statistics
    engine.generate(**inputs, max_new_tokens=100)
    model.generate(**inputs, custom_generate=engine)        transformers calls the engine as its decoding loop

transformers prepares prompts, processors and criteria in all three; the engine replaces the loop alone.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.utils import GenerateDecoderOnlyOutput

from . import cache as kv
from .calibration import pass_costs
from .controller import Controller, FixedController
from .errors import UnsupportedError
from .models import check_vocabulary, decoder_of, room_of, vocabulary
from .options import DraftingOptions
from .packed import Packed
from .pool import PhrasePool
from .rounds import Drafting, Rounds, together
from .sampling import Coupled, Greedy, GumbelNoise, Leviathan, row_seed
from .state import ModelState, verification
from .stats import Stats
from .stopping import TEXT_FREE, Text, TokenQueue, stop_string_criteria

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import GenerationConfig

    from .packed import PackedRow
    from .sampling import Picker

__all__ = ["OuroborosEngine", "empty_pool", "generate"]

logger = logging.getLogger(__name__)

_UNDERSTOOD = {"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep", "cache_position"}


def generate(
    model: Any,
    inputs: Tensor | Mapping[str, Any] | None = None,
    draft: Any = None,
    *,
    pool: PhrasePool | None = None,
    options: DraftingOptions | None = None,
    **hf: Any,
) -> Any:
    """Continue `inputs` as `model.generate(**inputs, **hf)` would, in fewer passes of `model`.

    Args:
        model: a decoder-only language model.
        inputs: token ids (B, L), or what a tokenizer returns.
        draft: a smaller model with the same tokenizer; None drafts with phrases alone.
        pool: phrases of earlier texts; it learns on.
        options: how to draft.
        hf: whatever `generate` takes, as `max_new_tokens`, `do_sample`, `streamer`, `stop_strings` with `tokenizer`; and `seed`.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> net = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).eval()
        >>> ids = torch.tensor([[1, 5, 9]])
        >>> bool((generate(net, ids, max_new_tokens=8) == net.generate(ids, max_new_tokens=8, do_sample=False)).all())
        True
    """
    return OuroborosEngine(model, draft, pool=pool, options=options).generate(inputs, **hf)


class OuroborosEngine:
    """Decodes with one target; keeps the phrase pool from text to text, and the statistics of the last call.

    Args:
        target: the model whose text is written.
        draft: a smaller model with the same tokenizer, or None.
        pool: phrases to start from; an empty one by default.
        options: how to draft.
        controller: decides how much to draft in each round; by default as `options` say.
        costs: folder where an adaptive engine keeps what passes cost on this machine, for other processes. None: it measures once
            in a process, when the first text is begun, which takes about two seconds, or the time of some twenty tokens if that is
            more.

    Raises:
        UnsupportedError: an encoder-decoder, or a model with prompt-learning adapters.
        VocabularyError: a draft with another vocabulary.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> engine = OuroborosEngine(LlamaForCausalLM(LlamaConfig(vocab_size=32, eos_token_id=None, **sizes)).eval())
        >>> engine.generate(torch.tensor([[1, 5, 9]]), max_new_tokens=8).shape
        torch.Size([1, 11])
        >>> engine.stats.emitted, engine.stats.mode
        (8, 'tree')
    """

    def __init__(
        self,
        target: Any,
        draft: Any = None,
        *,
        pool: PhrasePool | None = None,
        options: DraftingOptions | None = None,
        controller: Any = None,
        costs: str | os.PathLike[str] | None = None,
    ) -> None:
        self.options = options or DraftingOptions()
        self.given = target
        self.target = decoder_of(target, "target")
        self.draft = None if draft is None else decoder_of(draft, "draft")
        self.pool = pool if pool is not None else empty_pool(self.options)
        self.target_how = self.draft_how = verification(self.target)
        if self.target_how.mode != "tree":
            logger.warning("Ouroboros verifies with %s: %s", self.target_how.mode, self.target_how.reason)
        if self.draft is not None:
            check_vocabulary(self.target, self.draft)
            how = verification(self.draft)
            if how.mode == "plain":
                logger.warning("The draft model is not used: %s", how.reason)
                self.draft = None
            else:
                self.draft_how = how
        self.costs = costs
        self._given_controller: Any = controller
        self._controllers: dict[int, Any] = {}
        self._spent = (0, 0.0)
        self.row_stats: list[Stats] = []
        """Statistics of the last call, one for each row."""

    @property
    def controller(self) -> Any:
        """Decides how much to draft. An adaptive one measures the model when it is first asked for."""
        return self._controller_of(1)

    @property
    def stats(self) -> Stats:
        """Statistics of the last row of the last call."""
        return self.row_stats[-1] if self.row_stats else Stats()

    def generate(
        self,
        inputs: Tensor | Mapping[str, Any] | None = None,
        *,
        streamer: Any = None,
        tokenizer: Any = None,
        stop_strings: str | list[str] | None = None,
        seed: int | None = None,
        generation_config: GenerationConfig | None = None,
        stopping_criteria: Any = None,
        **hf: Any,
    ) -> Any:
        """Continue `inputs`; the arguments of `target.generate`, with their meaning.

        Args:
            inputs: token ids (B, L), or what a tokenizer returns; or give `input_ids=` and `attention_mask=`.
            streamer: is given each token as it is verified; batch of 1.
            tokenizer: needed for `stop_strings`.
            stop_strings: text that ends the writing.
            seed: of the draws when sampling. None takes one from torch's generator.
            generation_config: as in transformers.
            stopping_criteria: as in transformers; asked after each token.
            hf: the rest.

        Raises:
            UnsupportedError: a way of generating that is not token by token.
        """
        if inputs is not None and not isinstance(inputs, Tensor):
            hf = {**inputs, **hf}
            inputs = None
        config = generation_config if generation_config is not None else self.target.generation_config
        if stop_strings is None and getattr(config, "stop_strings", None) is not None:
            stop_strings = config.stop_strings
        if getattr(config, "stop_strings", None) is not None:
            generation_config = copy.deepcopy(config)
            generation_config.stop_strings = None
        criteria = [*(stopping_criteria or ()), *stop_string_criteria(stop_strings, tokenizer)]
        if streamer is not None:
            streamer.put(hf["input_ids"].cpu() if inputs is None else inputs.cpu())
        result = self.target.generate(
            inputs,
            generation_config=generation_config,
            stopping_criteria=StoppingCriteriaList(criteria),
            custom_generate=self,
            ouroboros_streamer=streamer,
            ouroboros_seed=seed,
            **hf,
        )
        if streamer is not None:
            streamer.end()
        return result

    def stream(self, inputs: Tensor | Mapping[str, Any] | None = None, **hf: Any) -> Iterator[int]:
        """The tokens of `generate(inputs, **hf)`, each as soon as it is verified. Closing the iterator ends the writing.

        Example:
            >>> from transformers import LlamaConfig, LlamaForCausalLM
            >>> sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
            >>> engine = OuroborosEngine(
            ...     LlamaForCausalLM(LlamaConfig(vocab_size=32, eos_token_id=None, **sizes)).eval()
            ... )
            >>> len(list(engine.stream(torch.tensor([[1, 5, 9]]), max_new_tokens=4)))
            4
        """
        own = hf.pop("stopping_criteria", None) or ()

        def write(streamer: TokenQueue, stop: Any) -> None:
            self.generate(inputs, streamer=_NoEnd(streamer), stopping_criteria=[*own, stop], **hf)

        yield from TokenQueue.run(write)

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        ouroboros_streamer: Any = None,
        ouroboros_seed: int | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """The decoding loop, as `model.generate(..., custom_generate=engine)` calls it.

        Raises:
            UnsupportedError: see the message; nothing is ignored silently.
        """
        if model is not self.target:
            raise UnsupportedError(
                f"this engine decodes with its own {type(self.target).__name__}, but another model called it: make an engine for it"
            )
        if _argument_of_generate("assistant_model") is not None:
            raise UnsupportedError(
                "assistant_model= is not used: give the draft to the engine, OuroborosEngine(target, draft)"
            )
        streamer = ouroboros_streamer or _argument_of_generate("streamer")
        _check_request(generation_config)
        seed = ouroboros_seed
        if generation_config.do_sample and seed is None:
            seed = int(torch.randint(2**62, ()))
        user = model_kwargs.get("past_key_values")
        mode = self.target_how.mode
        self.row_stats = []
        if mode == "plain" or not _takes_over(user, generation_config):
            if mode != "plain":
                logger.warning("Plain decoding: the cache in use (%s) cannot be shortened.", type(user).__name__)
            result = self._plain(
                input_ids, logits_processor, stopping_criteria, generation_config, streamer, seed, model_kwargs
            )
        else:
            _check_inputs(generation_config, model_kwargs, input_ids, logits_processor)
            result = self._rows(
                input_ids, logits_processor, stopping_criteria, generation_config, streamer, seed, model_kwargs
            )
        if streamer is not None and streamer is not ouroboros_streamer:
            streamer.end()
        return result

    # ---- rows ----

    def _rows(
        self,
        input_ids: Tensor,
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        config: GenerationConfig,
        streamer: Any,
        seed: int | None,
        given: dict[str, Any],
    ) -> Any:
        user = given.get("past_key_values")
        mask = given.get("attention_mask")
        positions = given.get("position_ids")
        texts: list[Text] = []
        size = self._together()
        for first in range(0, len(input_ids), size):
            group = range(first, min(first + size, len(input_ids)))
            packs = [
                Packed(model, how) if model is not None and len(group) > 1 else None
                for model, how in ((self.target, self.target_how), (self.draft, self.draft_how))
            ]
            rounds = []
            for row in group:
                text = Text(
                    input_ids[row : row + 1],
                    processors,
                    criteria,
                    streamer,
                    keep_scores=bool(config.return_dict_in_generate and config.output_scores),
                    keep_logits=bool(config.return_dict_in_generate and config.output_logits),
                )
                seen = torch.ones_like(input_ids[row], dtype=torch.bool) if mask is None else mask[row].bool()
                where = (
                    () if positions is None else positions[row % len(positions)][seen[-positions.shape[1] :]].tolist()
                )
                tokens = input_ids[row][seen].tolist()
                state: Any = (
                    ModelState(self.target, self.target_how, where) if packs[0] is None else packs[0].row(where)
                )
                if user is not None and user.get_seq_length():
                    state.resume(user, tokens)
                controller = self._controller_of(len(group))
                rounds.append(self._rounds(text, tokens, state, packs[1], controller, seed, row, config))
                texts.append(text)
            if len(rounds) > 1:
                together(rounds)
            else:
                rounds[0].run()
        returned = getattr(user, "_is_user_defined", False) or config.return_dict_in_generate
        if user is not None and returned and len(input_ids) == 1:
            kv.read(state.cache, user, len(state.cached))
        return _result(texts, config, user if len(input_ids) == 1 else None, input_ids)

    def _together(self) -> int:
        """Rows that are verified in one pass, at most."""
        hows = [self.target_how] if self.draft is None else [self.target_how, self.draft_how]
        return self.options.batch_rows if all(how.mode == "tree" for how in hows) else 1

    def _rounds(
        self,
        text: Text,
        seen: list[int],
        target: ModelState | PackedRow,
        drafts: Packed | None,
        controller: Any,
        seed: int | None,
        row: int,
        config: GenerationConfig,
    ) -> Rounds:
        stats = Stats(mode=self.target_how.mode)
        (stats.calibration_forwards, stats.calibration_seconds), self._spent = self._spent, (0, 0.0)
        self.row_stats.append(stats)
        picker: Picker = Greedy()
        if config.do_sample:
            assert seed is not None
            picker = (Leviathan if self.options.sampling == "leviathan" else Coupled)(row_seed(seed, row))
        size = vocabulary(self.target)
        draft, processors = None, []
        if self.draft is not None and max(seen) < vocabulary(self.draft):
            draft = ModelState(self.draft, self.draft_how) if drafts is None else drafts.row()
            if config.do_sample:
                processors = [p for p in text.processors if type(p).__name__ in TEXT_FREE]
        drafting = Drafting(
            vocabulary=size if draft is None else min(size, vocabulary(self.draft)),
            phrases=self.options.phrases,
            draft_phrases=self.options.draft_phrases,
            learn=frozenset(self.options.learn),
            ends=_ends(config),
            room=room_of(self.target, self.draft),
            processors=processors,
        )
        return Rounds(text, seen, target, draft, self.pool, controller, picker, stats, drafting)

    def _controller_of(self, rows: int) -> Any:
        """The controller of texts that are written `rows` at a time: what a pass costs depends on the company."""
        if self._given_controller is not None:
            return self._given_controller
        if rows not in self._controllers:
            self._controllers[rows] = self._new_controller(rows)
        return self._controllers[rows]

    def _new_controller(self, rows: int) -> Any:
        o = self.options
        gamma = o.gamma if self.draft is not None else 0
        if not o.adaptive or self.target_how.mode == "plain" or not o.nodes:
            return FixedController(
                gamma=gamma, phrases=o.phrases, length=o.phrase_len, nodes=o.nodes, beside=min(o.beside, o.phrases)
            )
        cost = pass_costs(self.target, self.target_how, o.nodes + 1, self.costs, rows)
        spent = [cost.spent]
        draft_cost = None
        if self.draft is not None and gamma:
            draft_cost = pass_costs(self.draft, self.draft_how, 1, self.costs, rows)
            spent.append(draft_cost.spent)
        self._spent = sum(forwards for forwards, _ in spent), sum(seconds for _, seconds in spent)
        nodes = min(o.nodes, cost.sizes[-1] - 1) if rows > 1 else o.nodes
        return Controller(
            cost,
            draft_cost,
            phrases=o.phrases,
            length=o.phrase_len,
            gamma=gamma or 1,
            nodes=nodes,
            beside=o.beside if self.target_how.mode == "tree" else 0,
        )

    # ---- plain decoding ----

    def _plain(
        self,
        input_ids: Tensor,
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        config: GenerationConfig,
        streamer: Any,
        seed: int | None,
        given: dict[str, Any],
    ) -> Any:
        """transformers' own loop; with the coupled rule's noise when sampling, so that a seed gives the text it always gives."""
        if config.do_sample:
            assert seed is not None
            mask = given.get("attention_mask")
            padding = [0] * len(input_ids) if mask is None else (mask == 0).sum(1).tolist()
            processors = LogitsProcessorList([*processors, GumbelNoise(seed, padding)])
            config = copy.copy(config)
            config.do_sample = False
        stats = Stats(mode="plain")
        self.row_stats.append(stats)
        forwards = [0]

        def count(*_: Any) -> None:
            forwards[0] += 1

        handle = self.target.register_forward_hook(count)
        try:
            out = self.target._sample(
                input_ids,
                logits_processor=processors,
                stopping_criteria=criteria,
                generation_config=config,
                streamer=_NoEnd(streamer) if streamer is not None else None,
                **given,
            )
        finally:
            handle.remove()
        sequences = out if isinstance(out, Tensor) else out.sequences
        stats.rounds = stats.target_forwards = forwards[0]
        stats.emitted = sequences[:, input_ids.shape[1] :].numel()
        return out


class _NoEnd:
    """A streamer whose end is announced by whoever was given it."""

    def __init__(self, streamer: Any) -> None:
        self.put: Callable[[Tensor], None] = streamer.put

    def end(self) -> None:
        """Not yet."""


def empty_pool(options: DraftingOptions) -> PhrasePool:
    """A pool of the options' sizes.

    Example:
        >>> empty_pool(DraftingOptions(phrase_len=6)).phrase_len
        6
    """
    return PhrasePool(
        phrase_len=options.phrase_len, orders=options.orders, per_key=options.per_key, max_phrases=options.max_phrases
    )


def _check_request(config: GenerationConfig) -> None:
    mode = config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        raise UnsupportedError(
            f"expected greedy decoding or sampling (num_beams=1, no other drafting), got {mode.value}"
        )
    if not config.do_sample and config.num_return_sequences != 1:
        raise UnsupportedError("num_return_sequences > 1 needs do_sample=True: greedy decoding has one text")


def _check_inputs(
    config: GenerationConfig, given: dict[str, Any], ids: Tensor, processors: LogitsProcessorList
) -> None:
    if given.get("inputs_embeds") is not None or ids.shape[1] == 0:
        raise UnsupportedError(
            "expected input_ids of at least one token: phrases are drafted from tokens, not from embeddings"
        )
    unknown = sorted(k for k, v in given.items() if v is not None and k not in _UNDERSTOOD)
    if unknown:
        raise UnsupportedError(
            f"model inputs that a draft would not be given: {', '.join(unknown)}; leave them out or decode plainly"
        )
    if config.return_dict_in_generate and (config.output_attentions or config.output_hidden_states):
        raise UnsupportedError(
            "output_attentions and output_hidden_states are not kept for drafted tokens; ask for scores or logits"
        )
    if len(ids) > 1 and any(type(p).__name__ == "PrefixConstrainedLogitsProcessor" for p in processors):
        raise UnsupportedError("prefix_allowed_tokens_fn with a batch: give the rows one by one")
    user, mask = given.get("past_key_values"), given.get("attention_mask")
    past = 0 if user is None else user.get_seq_length()
    if past and len(ids) > 1:
        raise UnsupportedError("past_key_values with a batch: give the rows one by one")
    if past and mask is not None and not bool(mask[:, :past].all()):
        raise UnsupportedError("past_key_values with padding: expected a cache of text alone")
    if past >= ids.shape[1]:
        raise UnsupportedError(
            f"past_key_values holds {past} tokens, input_ids {ids.shape[1]}: expected at least one token more"
        )


def _takes_over(user: Any, config: GenerationConfig) -> bool:
    """Whether the engine can work with its own cache instead of this one, and fill this one afterwards."""
    if user is None:
        return bool(config.use_cache)
    if not isinstance(user, DynamicCache) or getattr(user, "offloading", False) or not user.is_croppable:
        return False
    past = user.get_seq_length()
    layers: list[Any] = list(user.layers)
    return all(layer.keys is None or layer.keys.numel() == 0 or layer.keys.shape[-2] == past for layer in layers)


def _ends(config: GenerationConfig) -> frozenset[int]:
    eos = config.eos_token_id
    return frozenset(eos if isinstance(eos, list) else [] if eos is None else [int(eos)])


def _argument_of_generate(name: str) -> Any:
    """An argument of the `model.generate` that called the engine, which transformers does not pass on to a loop not its own."""
    frame: Any = sys._getframe(1)
    for _ in range(3):  # the engine's `__call__`, torch's no_grad around it, transformers' `generate`
        frame = frame.f_back
        if frame is None:
            return None
        if frame.f_code.co_name == "generate" and frame.f_globals.get("__name__", "").startswith("transformers."):
            return frame.f_locals.get(name)
    return None


def _result(texts: list[Text], config: GenerationConfig, cache: Any, ids: Tensor) -> Any:
    longest = max(len(text.tokens) for text in texts)
    pad = getattr(config, "_pad_token_tensor", None)
    fill = 0 if pad is None else int(pad)
    rows = [text.tokens + [fill] * (longest - len(text.tokens)) for text in texts]
    sequences = torch.tensor(rows, dtype=ids.dtype, device=ids.device)
    if not config.return_dict_in_generate:
        return sequences
    if len(texts) > 1 and (config.output_scores or config.output_logits):
        raise UnsupportedError("output_scores and output_logits with a batch: give the rows one by one")
    output: Any = GenerateDecoderOnlyOutput
    return output(sequences=sequences, scores=texts[0].scores, logits=texts[0].logits, past_key_values=cache)
