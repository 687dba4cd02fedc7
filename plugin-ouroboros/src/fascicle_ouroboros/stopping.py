"""The text while it is written: processors once for each token, every stopping criterion after each token, streaming.

The order is that of transformers' sampling loop: processors, choice, append, criteria, streamer. Since it is kept token by token,
inside a verified block as well, stateful processors, stop strings, time limits and criteria of one's own mean what they always do.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StopStringCriteria

from .errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LogitsProcessorList, StoppingCriteriaList

__all__ = ["TEXT_FREE", "Text", "TokenQueue", "stop_string_criteria"]

TEXT_FREE = (
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "MinPLogitsWarper",
    "TypicalLogitsWarper",
    "EpsilonLogitsWarper",
    "EtaLogitsWarper",
    "TopHLogitsWarper",
    "SuppressTokensLogitsProcessor",
)
"""Processors that depend on the scores alone: the draft may apply them to text that is never written."""


class Text:
    """One row that is being written.

    Args:
        input_ids: (1, L) the prompt as processors and criteria shall see it.
        processors: applied to the target's logits, in order.
        criteria: asked after each token.
        streamer: is given each token.
        keep_scores, keep_logits: remember what each token was chosen from.

    Example:
        >>> from transformers import LogitsProcessorList, MaxLengthCriteria, StoppingCriteriaList
        >>> text = Text(torch.tensor([[4, 5]]), LogitsProcessorList(), StoppingCriteriaList([MaxLengthCriteria(4)]))
        >>> text.append(6), text.append(7), text.tokens
        (False, True, [4, 5, 6, 7])
    """

    def __init__(
        self,
        input_ids: Tensor,
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        streamer: Any = None,
        *,
        keep_scores: bool = False,
        keep_logits: bool = False,
    ) -> None:
        self.tokens: list[int] = input_ids[0].tolist()
        self.prompt = len(self.tokens)
        self.processors, self.criteria, self.streamer = processors, criteria, streamer
        self.scores: tuple[Tensor, ...] | None = () if keep_scores else None
        self.logits: tuple[Tensor, ...] | None = () if keep_logits else None
        self.stopped = False
        self._ids = input_ids.clone()
        lengths = [c.max_length for c in criteria if hasattr(c, "max_length")]
        self.max_length: int | None = min(lengths) if lengths else None

    @property
    def ids(self) -> Tensor:
        """(1, L) the text so far."""
        return self._ids[:, : len(self.tokens)]

    @property
    def plain(self) -> bool:
        """Whether a token may be chosen from the raw logits without anybody noticing."""
        return not self.processors and self.scores is None and self.logits is None

    def process(self, row: Tensor) -> Tensor:
        """Processed scores (V,) of the next token; to be asked once for each token that is appended."""
        logits = row.to(copy=True, dtype=torch.float32, device=self._ids.device)[None]
        process: Any = self.processors
        scores: Tensor = process(self.ids, logits)
        if self.scores is not None:
            self.scores += (scores,)
        if self.logits is not None:
            self.logits += (logits,)
        return scores[0]

    def append(self, token: int) -> bool:
        """Write one token; True where the text ends with it."""
        at = len(self.tokens)
        if at == self._ids.shape[1]:
            self._ids = torch.cat([self._ids, torch.zeros_like(self._ids[:, :1]).expand(-1, max(64, at))], dim=1)
        self._ids[0, at] = token
        self.tokens.append(token)
        self.stopped = bool(self.criteria(self.ids, self.scores).all())
        if self.streamer is not None:
            self.streamer.put(torch.tensor([token]))
        return self.stopped


class TokenQueue:
    """A streamer that hands tokens to another thread, and can end the writing.

    Example:
        >>> def write(streamer, stop):
        ...     for token in (1, 2, 3):
        ...         streamer.put(torch.tensor([token]))
        ...     streamer.end()
        >>> list(TokenQueue.run(write))
        [1, 2, 3]
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def put(self, value: Tensor) -> None:
        """One token; the prompt, which comes as a matrix, is left out."""
        if value.dim() == 1:
            self._queue.put(int(value[0]))

    def end(self) -> None:
        """No more tokens."""
        self._queue.put(None)

    @staticmethod
    def run(write: Callable[[TokenQueue, StoppingCriteria], None]) -> Iterator[int]:
        """Run `write(streamer, criterion)` in a thread and yield its tokens; closing the iterator stops it at the next token."""
        stream, stop = TokenQueue(), _Event()

        def work() -> None:
            try:
                write(stream, stop)
                stream.end()
            except BaseException as error:  # noqa: BLE001 - raised again by the reader
                stream._queue.put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (item := stream._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()


class _Event(StoppingCriteria):
    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self._event.is_set(), device=input_ids.device)


def stop_string_criteria(stop_strings: str | list[str] | None, tokenizer: Any) -> list[StoppingCriteria]:
    """The criterion of `stop_strings`, which transformers cannot build for a decoding loop that is not its own.

    Raises:
        UnsupportedError: stop strings without a tokenizer.

    Example:
        >>> stop_string_criteria(None, None)
        []
    """
    if stop_strings is None:
        return []
    if tokenizer is None:
        raise UnsupportedError("stop_strings need the tokenizer: pass `tokenizer=` as well")
    return [StopStringCriteria(tokenizer=tokenizer, stop_strings=stop_strings)]
