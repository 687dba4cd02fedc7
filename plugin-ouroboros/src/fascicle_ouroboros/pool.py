"""The phrase pool (the paper's candidate pool, section "phrase-by-phrase drafting"), learnt from text at no cost.

    key  = the last o tokens, o in `orders`        phrase = the P tokens that followed them, P = `phrase_len`

Beyond the paper (our choice): keys of several lengths with back-off, prompt and output as sources, phrases ranked by what
the target accepted, a cap on memory, and a file (`poolfile`).

How it is stored. A bucket is a dict from the phrases of one key to what is known of each, oldest first; the table of buckets
is an ordered dict, least recently used key first. Only a bucket whose phrases differ in rank is sorted, and only when it is
asked. Phrases that a text has begun but not finished are not stored at all: they are read off the text's tail when they
are asked for, which makes them grow for free.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import PoolError
from .poolfile import read_pool, write_pool

if TYPE_CHECKING:
    from .poolfile import Contents

__all__ = ["SOURCES", "Phrase", "PhrasePool", "tokenizer_fingerprint"]

SOURCES: dict[str, float] = {"prompt": 0.5, "output": 0.5, "history": 0.45, "corrected": 0.35, "rejected": 0.2}
"""Where a phrase can come from, and the prior mean of its acceptance. What was seen in a text ranks before what the target
said in a context that did not come true (corrected), and that before what it refused there (rejected)."""

Tokens = tuple[int, ...]
Fact = tuple[str, float, float, float]  # source, accepted, trials, score
Bucket = dict[Tokens, Fact]

PRIOR_WEIGHT = 2.0
MOST_TRIALS = 64.0
DEPTH_PRIOR, DEPTH_WEIGHT, DEPTH_MOST = 0.8, 8.0, 512.0
SURVIVAL = 0.1
OPEN_TEXTS = 4
NAMESPACES = 16


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that makes it four times as long to make one
class Phrase:
    """A proposed continuation.

    >>> Phrase((5, 6), "prompt", (4,)).order
    1
    """

    tokens: Tokens
    """What may follow, nearest first."""
    source: str
    """One of `SOURCES`."""
    key: Tokens
    """The last tokens of the text that it was found under."""
    whole: Tokens = field(default=(), compare=False, repr=False)
    """The phrase as the pool keeps it, of which `tokens` may be a first part."""

    @property
    def order(self) -> int:
        """Length of the key."""
        return len(self.key)


class PhrasePool:
    """Phrases by the tokens that they followed. Safe to share among threads; one lock.

    Args:
        phrase_len: P, tokens of a phrase. Longer ones pay in repetitive text and where the target is large.
        orders: key lengths. A longer key is rarer and right more often; lookup tries the longest first.
        per_key: phrases kept under one key; the lowest ranked goes first.
        max_phrases: phrases kept in all; the key that was not used for the longest time gives first.
        read_only: nothing is learnt; `feed`, `correct` and `record` do nothing.
        namespace: whose phrases these are. It is written to the pool's file, and a file of another namespace is refused.

    >>> pool = PhrasePool(phrase_len=3)
    >>> pool.feed([7, 8, 9, 1, 2, 7, 8], start=0, source="prompt")
    >>> pool.lookup([7, 8], k=1)
    [Phrase(tokens=(9, 1, 2), source='prompt', key=(7, 8))]
    """

    def __init__(
        self,
        *,
        phrase_len: int = 8,
        orders: Sequence[int] = (3, 2, 1),
        per_key: int = 16,
        max_phrases: int = 200_000,
        read_only: bool = False,
        namespace: str = "",
    ) -> None:
        for name, value in (("phrase_len", phrase_len), ("per_key", per_key), ("max_phrases", max_phrases)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise PoolError(f"{name}: expected a whole number of at least 1, got {value!r}.")
        self.orders = tuple(sorted({int(o) for o in orders}, reverse=True))
        if not self.orders or self.orders[-1] < 1:
            raise PoolError(f"orders: expected key lengths of at least 1, such as (3, 2, 1), got {tuple(orders)!r}.")
        if not isinstance(namespace, str):
            raise PoolError(f"namespace: expected a string, got {type(namespace).__name__}.")
        self.phrase_len, self.per_key, self.max_phrases = phrase_len, per_key, max_phrases
        self.read_only, self.namespace = read_only, namespace
        self._lock = threading.RLock()
        self._within: OrderedDict[str, PhrasePool] = OrderedDict()
        self._shared: PhrasePool | None = None
        self._table: OrderedDict[Tokens, Bucket] = OrderedDict()  # least recently used key first
        self._mixed: set[Tokens] = set()  # keys whose phrases may differ in rank
        self._size = 0
        self._open: OrderedDict[Tokens, str] = OrderedDict()  # the tails of texts that may go on, and their source
        self._tail_len = phrase_len + self.orders[0]
        self._reached = {o: [0.0] * phrase_len for o in self.orders}
        self._accepted = {o: [0.0] * phrase_len for o in self.orders}
        self._judged = dict.fromkeys(self.orders, 0)
        self._limit = dict.fromkeys(self.orders, phrase_len)

    def __len__(self) -> int:
        """Phrases stored, at most `max_phrases`; those that a text has only begun are not counted."""
        return self._size

    def __repr__(self) -> str:
        name = f", namespace={self.namespace!r}" if self.namespace else ""
        return f"PhrasePool({self._size:,} of {self.max_phrases:,} phrases, {len(self._table):,} keys{name})"

    # ---- asking ----------------------------------------------------------------------------------------------------------

    def lookup(self, tail: Sequence[int], k: int, length: int | None = None) -> list[Phrase]:
        """At most `k` phrases that may follow `tail`, best first; none is a prefix of a better one.

        Order: longer key, then acceptance, then recency.

        Args:
            tail: the last tokens of the text, newest last; the whole text will do.
            k: how many.
            length: cut phrases to that many tokens. None: to where they are still accepted, by what was recorded.

        >>> pool = PhrasePool(phrase_len=2)
        >>> pool.feed([1, 2, 3, 4, 5, 2, 6, 7, 8], start=0, source="output")
        >>> [p.tokens for p in pool.lookup([1, 2], k=3)]  # the key (1, 2) before the key (2,)
        [(3, 4), (6, 7)]
        >>> [p.tokens for p in pool.lookup([1, 2], k=3, length=1)]
        [(3,), (6,)]
        """
        found: list[Phrase] = []
        n = len(tail)
        if k < 1 or not n or (length is not None and length < 1):
            return found
        end = tuple(tail[-self.orders[0] :])
        last, get, mixed, P = end[-1], self._table.get, self._mixed, self.phrase_len
        with self._lock:
            begun = [item for item in self._open.items() if last in item[0][:-1]]
            for o in self.orders:
                if o > n:
                    continue
                key = end[-o:]
                bucket = stored = get(key)
                if begun:
                    bucket = self._with_begun(stored, key, begun)
                if bucket is None:
                    continue
                limit = self._limit[o] if length is None else length
                newest_first = reversed(bucket.items())
                plain = bucket is stored and key not in mixed
                for tokens, fact in newest_first if plain else sorted(newest_first, key=_score, reverse=True):
                    phrase, first = tokens if limit >= P else tokens[:limit], tokens[0]
                    for j, better in enumerate(found):
                        known = better.tokens
                        if known[0] != first:
                            continue
                        if known[: len(phrase)] == phrase:
                            break
                        if phrase[: len(known)] == known and len(better.key) == o:  # the same phrase, known further
                            found[j] = Phrase(phrase, fact[0], key, tokens)
                            break
                    else:
                        found.append(Phrase(phrase, fact[0], key, tokens))
                        if len(found) == k:
                            return found
        if self._shared is not None:
            for other in self._shared.lookup(tail, k, length):
                m = len(other.tokens)
                if len(found) < k and all(better.tokens[:m] != other.tokens for better in found):
                    found.append(other)
        return found

    def within(self, namespace: str, *, share: bool = False) -> PhrasePool:
        """The pool of one namespace, with this pool's options: nothing learnt there is proposed here or in another namespace.

        The same name gives the same pool. At most 16 are kept; the one not asked for the longest time is forgotten.

        Args:
            namespace: of a user, a project, a language.
            share: also propose this pool's phrases, after those of the namespace.

        >>> pool = PhrasePool()
        >>> pool.within("ann").correct([1], [2], "output")
        >>> (
        ...     len(pool.within("ann").lookup([1], k=1)),
        ...     len(pool.within("bob").lookup([1], k=1)),
        ...     len(pool.lookup([1], k=1)),
        ... )
        (1, 0, 0)
        """
        if not isinstance(namespace, str) or not namespace:
            raise PoolError(f"namespace: expected a name, got {namespace!r}.")
        with self._lock:
            pool = self._within.pop(namespace, None)
            if pool is None:
                options = self.options() | {"namespace": namespace, "read_only": self.read_only}
                pool = PhrasePool(**options)
            pool._shared = self if share else None
            self._within[namespace] = pool
            if len(self._within) > NAMESPACES:
                self._within.popitem(last=False)
        return pool

    def _with_begun(self, bucket: Bucket | None, key: Tokens, texts: Sequence[tuple[Tokens, str]]) -> Bucket | None:
        """`bucket` as if the phrases that the texts have begun were stored in it."""
        n, changed = len(key), False
        for text, source in texts:
            for end in range(max(n, len(text) - self.phrase_len + 1), len(text)):
                if text[end - n : end] == key:
                    if not changed:
                        bucket, changed = dict(bucket or {}), True
                    assert bucket is not None
                    self._put(bucket, text[end:], source, mixed=True)
        return bucket

    def _ends(self, text: Tokens) -> range:
        """Where in a text's tail unfinished phrases begin."""
        return range(max(1, len(text) - self.phrase_len + 1), len(text))

    # ---- learning --------------------------------------------------------------------------------------------------------

    def feed(self, tokens: Sequence[int], start: int, source: str) -> None:
        """Learn from a text: every phrase that `tokens[start:]` completes.

        Feeding a text in pieces is the same as feeding it at once. Phrases at its end are offered short and grow with it.

        Args:
            tokens: the whole text so far (its last `phrase_len + max(orders)` tokens before `start` are enough).
            start: index of the first token that was not fed before.
            source: one of `SOURCES`.

        >>> pool = PhrasePool(phrase_len=4)
        >>> pool.feed([5, 6, 7], 0, "output")
        >>> pool.lookup([5], k=1)[0].tokens
        (6, 7)
        >>> pool.feed([5, 6, 7, 8, 9], 3, "output")
        >>> pool.lookup([5], k=1)[0].tokens
        (6, 7, 8, 9)
        """
        self._check_source(source)
        if self.read_only or start >= len(tokens):
            return
        P, H = self.phrase_len, self._tail_len
        begin = max(0, start - H)
        text = tuple(tokens[begin:])
        start -= begin
        with self._lock:
            self._open.pop(text[:start], None)
            for end in range(max(1, start - P + 1), len(text) - P + 1):
                self._insert(text, end, text[end : end + P], source)
            self._open[text[-H:]] = source
            if len(self._open) > OPEN_TEXTS:
                self._close(*self._open.popitem(last=False))

    def correct(self, tail: Sequence[int], tokens: Sequence[int], source: str) -> None:
        """Add `tokens` as a phrase that may follow `tail`, under every key length. Beyond P tokens it is cut.

        >>> pool = PhrasePool()
        >>> pool.correct([1, 2], [3, 4], "corrected")
        >>> pool.lookup([9, 2], k=1)
        [Phrase(tokens=(3, 4), source='corrected', key=(2,))]
        """
        self._check_source(source)
        phrase = tuple(tokens[: self.phrase_len])
        if self.read_only or not phrase:
            return
        with self._lock:
            self._insert(tuple(tail[-self.orders[0] :]), min(len(tail), self.orders[0]), phrase, source)

    def record(self, phrase: Phrase, proposed: int, accepted: int) -> None:
        """Tell how far the target followed a phrase; ranking and cut-off learn from it.

        Args:
            phrase: as it came from `lookup`.
            proposed: tokens of it that the target judged. Leave out phrases at a place that the text never reached.
            accepted: how many of those, from the first on, the target chose itself.

        >>> pool = PhrasePool(phrase_len=1)
        >>> pool.feed([1, 2, 1, 3, 0], 0, "output")
        >>> [p.tokens for p in pool.lookup([1], k=2)]
        [(3,), (2,)]
        >>> pool.record(pool.lookup([1], k=1)[0], proposed=1, accepted=0)
        >>> [p.tokens for p in pool.lookup([1], k=2)]
        [(2,), (3,)]
        """
        proposed = min(proposed, len(phrase.tokens))
        if not 0 <= accepted <= proposed:
            raise PoolError(f"accepted: expected 0 to {proposed} (the tokens judged), got {accepted}.")
        key = phrase.key
        o, refused = len(key), accepted < proposed
        if self.read_only or not proposed or o not in self._limit:
            return
        with self._lock:
            reached, followed = self._reached[o], self._accepted[o]
            for d in range(accepted + refused):
                reached[d] += 1
                if d < accepted:
                    followed[d] += 1
                if reached[d] > DEPTH_MOST:
                    reached[d], followed[d] = reached[d] / 2, followed[d] / 2
            self._judged[o] = judged = self._judged[o] + 1
            if judged % 8 == 0:
                self._set_limit(o)
            bucket = self._table.get(key)
            if bucket is None:
                return
            tokens = phrase.whole or phrase.tokens
            known = bucket.get(tokens)
            if known is None:  # it was only begun then, or is forgotten, or somebody cut it
                n = len(phrase.tokens)
                longer = [t for t in bucket if t[:n] == phrase.tokens]
                if not longer:
                    return
                tokens = max(reversed(longer), key=lambda t: bucket[t][3])
                known = bucket[tokens]
            source, hits, trials, _ = known
            hits, trials = hits + accepted, trials + accepted + refused
            if trials > MOST_TRIALS:
                hits, trials = hits / 2, trials / 2
            bucket[tokens] = _fact(source, hits, trials)
            self._mixed.add(key)
            if accepted:
                self._table.move_to_end(key)

    def _set_limit(self, o: int) -> None:
        """Cut where Π_{j≤d} a_{o,j} falls below `SURVIVAL`, a_{o,j} the acceptance at depth j; one token stays."""
        survival = 1.0
        for d, (reached, followed) in enumerate(zip(self._reached[o], self._accepted[o], strict=True)):
            survival *= (followed + DEPTH_PRIOR * DEPTH_WEIGHT) / (reached + DEPTH_WEIGHT)
            if survival < SURVIVAL:
                self._limit[o] = max(1, d)
                return
        self._limit[o] = self.phrase_len

    def acceptance(self, order: int) -> list[float]:
        """Acceptance by depth under keys of one length: share of the judged tokens that the target chose, with a prior.

        >>> [round(a, 2) for a in PhrasePool(phrase_len=3).acceptance(2)]
        [0.8, 0.8, 0.8]
        """
        if order not in self._reached:
            raise PoolError(f"order: expected one of {self.orders}, got {order!r}.")
        return [
            (f + DEPTH_PRIOR * DEPTH_WEIGHT) / (r + DEPTH_WEIGHT)
            for r, f in zip(self._reached[order], self._accepted[order], strict=True)
        ]

    def _close(self, text: Tokens, source: str) -> None:
        """Store the phrases that a text has begun, short as they are."""
        for end in self._ends(text):
            self._insert(text, end, text[end:], source)

    def _insert(self, text: Tokens, end: int, phrase: Tokens, source: str) -> None:
        """Make `phrase` the newest under every key that ends at `text[:end]`."""
        table, mixed, fresh, per_key = self._table, self._mixed, FRESH[source], self.per_key
        special, size = source not in PLAIN, self._size
        for o in self.orders:
            if o > end:
                continue
            key = text[end - o : end]
            bucket = table.get(key)
            if bucket is None:
                table[key] = {phrase: fresh}
                size += 1
            else:
                table.move_to_end(key)
                if phrase in bucket:
                    self._put(bucket, phrase, source, mixed=True)
                elif len(bucket) < per_key:
                    bucket[phrase] = fresh
                    size += 1
                else:
                    _drop_worst(bucket, mixed=key in mixed)
                    bucket[phrase] = fresh
            if special:
                mixed.add(key)
        self._size = size
        if size > self.max_phrases:
            self._shrink()

    def _put(self, bucket: Bucket, phrase: Tokens, source: str, *, mixed: bool) -> int:
        """Make `phrase` the newest of `bucket`; how many phrases that adds."""
        known = bucket.pop(phrase, None)
        if known is not None:
            better = SOURCES[source] > SOURCES[known[0]]
            bucket[phrase] = _fact(source, known[1], known[2]) if better else known
            return 0
        full = len(bucket) >= self.per_key
        if full:
            _drop_worst(bucket, mixed=mixed)
        bucket[phrase] = FRESH[source]
        return 0 if full else 1

    def _shrink(self) -> None:
        """Keep to `max_phrases`: the least recently used key gives its oldest phrase."""
        table = self._table
        while self._size > self.max_phrases:
            key = next(iter(table))
            bucket = table[key]
            if len(bucket) == 1:
                del table[key]
                self._mixed.discard(key)
            else:
                del bucket[next(iter(bucket))]
            self._size -= 1

    @staticmethod
    def _check_source(source: str) -> None:
        if source not in SOURCES:
            raise PoolError(f"source: expected one of {', '.join(SOURCES)}; got {source!r}.")

    # ---- keeping ---------------------------------------------------------------------------------------------------------

    def options(self) -> dict[str, Any]:
        """What the pool was made with.

        >>> PhrasePool().options()["orders"]
        [3, 2, 1]
        """
        return {
            "phrase_len": self.phrase_len,
            "orders": list(self.orders),
            "per_key": self.per_key,
            "max_phrases": self.max_phrases,
            "namespace": self.namespace,
        }

    def clear(self) -> None:
        """Forget everything.

        >>> pool = PhrasePool()
        >>> pool.correct([1], [2], "output")
        >>> pool.clear()
        >>> len(pool), pool.lookup([1], k=1)
        (0, [])
        """
        with self._lock:
            self._table.clear()
            self._mixed.clear()
            self._open.clear()
            self._size = 0
            for o in self.orders:
                self._reached[o], self._accepted[o] = [0.0] * self.phrase_len, [0.0] * self.phrase_len
                self._limit[o], self._judged[o] = self.phrase_len, 0

    def _snapshot(self) -> list[tuple[Tokens, Bucket]]:
        """Every key with its phrases, least recently used key first and oldest phrase first; begun phrases included."""
        with self._lock:
            table = OrderedDict((key, dict(bucket)) for key, bucket in self._table.items())
            for text, source in self._open.items():
                for end in self._ends(text):
                    for o in self.orders:
                        if o <= end:
                            key = text[end - o : end]
                            self._put(table.setdefault(key, {}), text[end:], source, mixed=True)
                            table.move_to_end(key)
        return list(table.items())

    @classmethod
    def _from_contents(cls, contents: Contents, path: str | os.PathLike[str], overrides: dict[str, Any]) -> PhrasePool:
        for name in ("phrase_len", "orders"):
            asked, made = overrides.get(name), contents.options[name]
            if asked is not None and (sorted(asked, reverse=True) if name == "orders" else asked) != made:
                raise PoolError(
                    f"{os.fspath(path)}: {name}: the file was made with {made!r}, asked for {asked!r}. Leave the option out, or "
                    "begin a new pool."
                )
        pool = cls(**{**contents.options, **overrides})
        for key, bucket in contents.table:
            pool._table[key] = {tokens: _fact(*fact) for tokens, fact in bucket}
            pool._size += len(bucket)
            facts = [fact for _, fact in bucket]
            if any(source not in PLAIN or trials for source, _, trials in facts):
                pool._mixed.add(key)
            while len(pool._table[key]) > pool.per_key:
                _drop_worst(pool._table[key], mixed=True)
                pool._size -= 1
        for o, (reached, accepted) in contents.depths.items():
            pool._reached[o], pool._accepted[o] = list(reached), list(accepted)
            pool._set_limit(o)
        pool._shrink()
        return pool

    def save(self, path: str | os.PathLike[str], fingerprint: str) -> None:
        """Write the pool to a file, whole or not at all.

        Args:
            path: where; a file of that name is replaced in one step.
            fingerprint: of the tokenizer, see `tokenizer_fingerprint`: tokens mean nothing under another one.

        Raises:
            PoolError: the file cannot be written; the old one is untouched.
        """
        with self._lock:
            for o in self.orders:
                self._set_limit(o)
                self._judged[o] = 0
            table = self._snapshot()
            depths = {o: (list(self._reached[o]), list(self._accepted[o])) for o in self.orders}
        write_pool(path, fingerprint, self.options(), table, depths)

    @classmethod
    def load(cls, path: str | os.PathLike[str], fingerprint: str, **overrides: Any) -> PhrasePool:
        """Read what `save` wrote; it makes the same proposals.

        Args:
            path: the file.
            fingerprint: of the tokenizer in use.
            **overrides: options of the class that shall differ from the file's: `per_key`, `max_phrases`, `read_only`.
                Name the `namespace` of a pool that has one.

        Raises:
            PoolError: damaged file, other tokenizer, other version or namespace; says what came and what to do.
        """
        contents = read_pool(path, fingerprint, overrides.get("namespace", ""))
        return cls._from_contents(contents, path, overrides)


def _fact(source: str, hits: float, trials: float) -> Fact:
    """What is known of a phrase, with the mean of Beta(2μ + accepted, 2(1-μ) + refused), μ the source's prior, as its rank."""
    return (source, hits, trials, (SOURCES[source] * PRIOR_WEIGHT + hits) / (PRIOR_WEIGHT + trials))


FRESH: dict[str, Fact] = {source: _fact(source, 0.0, 0.0) for source in SOURCES}
PLAIN = frozenset(source for source, prior in SOURCES.items() if prior == max(SOURCES.values()))
"""Sources whose fresh phrases rank alike, so that a bucket of them needs no sorting."""


def _score(item: tuple[Tokens, Fact]) -> float:
    return item[1][3]


def _drop_worst(bucket: Bucket, *, mixed: bool) -> None:
    """Take the lowest ranked phrase out, of equals the oldest."""
    if mixed:
        scores = [fact[3] for fact in bucket.values()]
        del bucket[list(bucket)[scores.index(min(scores))]]
    else:
        del bucket[next(iter(bucket))]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A digest of what a token id means: the vocabulary and the special ids.

    >>> class Toy:
    ...     all_special_ids = [0]
    ...
    ...     def get_vocab(self):
    ...         return {"<s>": 0, "a": 1}
    >>> tokenizer_fingerprint(Toy())[:12]
    '1d347dd5de1a'
    """
    try:
        vocabulary = sorted(tokenizer.get_vocab().items())
    except (AttributeError, NotImplementedError) as error:
        raise PoolError(
            f"tokenizer: expected one with get_vocab(), got {type(tokenizer).__name__}; give the pool's file a fingerprint of "
            "your own instead."
        ) from error
    special = sorted(int(i) for i in getattr(tokenizer, "all_special_ids", ()))
    text = json.dumps([vocabulary, special], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
