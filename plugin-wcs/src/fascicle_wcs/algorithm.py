"""Iterative dictionary augmentation: what the plain and the mapped network agree on joins the dictionary.

Source: the paper's section 4 and algorithm 1:

    W = Procrustes(D);  D^0 = D
    until |D^i| = threshold:
        D^i = D^{i-1} ∪ (LLM(X_word) ∩ LLM_WCS(X_word, W));  W = Procrustes(D^i)

IDA begins with gold pairs, which stay. uIDA begins with the model's own translations, which leave once the first W is there.

What the algorithm leaves open is our choice. The condition `≠ threshold` never ends where the size jumps over the threshold or
stops growing: it is `>=`, with an end on a stall and after `max_iter` rounds. Too many pairs are cut by the frequency of their
source words. Each round looks at `chunk` more words, by frequency. The plain network is asked once for each word, as its answer
does not depend on W; the mapped one again only when W has changed since it was asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from fascicle.results import atomic_write_text

from .errors import DictionaryError

__all__ = ["IdaResult", "IdaRow", "frobenius", "ida"]

log = logging.getLogger("fascicle.wcs")

M = TypeVar("M")
Pairs = Sequence[tuple[str, str]]
Reason = Literal["target", "stalled", "max_iter"]

_FILE = "ida.json"
_FORMAT = "fascicle-wcs ida 1"


@dataclass(frozen=True, slots=True)
class IdaRow:
    """One round."""

    round: int
    """From 1."""
    size: int
    """Pairs of the dictionary after it, before any cut."""
    added: int
    asked: int
    """Words that the mapped network was asked for."""
    precision: float | None
    """Share of the generated pairs, of those whose source word is in the gold dictionary, that are in it; None without any."""
    change: float | None
    """||W_t - W_{t-1}||_F; None where the maps are of a kind that has no distance, 0.0 where nothing was added."""


@dataclass(frozen=True)
class IdaResult(Generic[M]):
    """The grown dictionary and its map."""

    dictionary: tuple[tuple[str, str], ...]
    """Gold seeds (IDA), then generated pairs by the frequency of their source words."""
    map: M
    """Fitted on `dictionary`; on the seeds where uIDA found no pair."""
    history: tuple[IdaRow, ...]
    reason: Reason
    """`target`: it is large enough; `stalled`: all words were asked for and nothing was added; `max_iter`: rounds used up."""


@dataclass
class _State:
    """What a folder keeps; everything else follows from it."""

    plain: dict[str, str]
    """D_ori: the plain network's answers."""
    mapped: dict[str, str]
    """Answers of the mapped network in the round that is under way."""
    pairs: dict[str, str]
    """Generated pairs."""
    asked: dict[str, int]
    """With which version of W a word was last asked for."""
    version: int
    history: list[IdaRow]


def frobenius(one: Any, other: Any) -> float | None:
    """||W_1 - W_2||_F of two matrices, or of two maps with a `source_matrix`; None for anything else.

    >>> frobenius(np.eye(2), -np.eye(2)) == 8**0.5, frobenius("a", "b")
    (True, None)
    """
    first, second = (getattr(map_, "source_matrix", map_) for map_ in (one, other))
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray) or first.shape != second.shape:
        return None
    return float(np.linalg.norm(first - second))


def ida(
    seeds: Pairs,
    words: Sequence[str],
    translate: Callable[[list[str]], Mapping[str, str]],
    translate_wcs: Callable[[list[str], M], Mapping[str, str]],
    refit: Callable[[list[tuple[str, str]]], M],
    *,
    target: int = 6000,
    chunk: int = 1000,
    max_iter: int = 10,
    unsupervised: bool = False,
    agreement: Literal["exact", "casefold"] = "exact",
    gold: Mapping[str, Collection[str]] | None = None,
    folder: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    change: Callable[[M, M], float | None] = frobenius,
) -> IdaResult[M]:
    """Grow a dictionary by agreement of two translators, one of which uses the map that the dictionary gives.

    Back-translation can be had too: a `translate` that only returns what translates back.

    Args:
        seeds: the first pairs: gold ones, or the model's own translations where `unsupervised`.
        words: source words, the most frequent first. Those of gold seeds are not asked for.
        translate: the plain network: at most `chunk` words to their translations; no answer is none or an empty one.
        translate_wcs: the same with a map inside.
        refit: the map from the pairs of a dictionary; the same pairs give the same map.
        target: pairs at which it ends, gold seeds included.
        chunk: words that each round adds to those it looks at, and the most that are asked for at once.
        max_iter: rounds at most.
        unsupervised: uIDA: drop the seeds after the first map.
        agreement: when two answers are the same. The plain network's form is kept.
        gold: source word to its translations, to measure precision on; nothing is learnt from it.
        folder: where to keep answers and pairs; a run that was killed goes on there, a longer one begins there.
        fingerprint: of model and prompt, so that a folder of another model is refused.
        change: distance of two maps for the history.

    Returns:
        The dictionary, cut to `target`, its map, one row a round, and why it ended.

    Raises:
        DictionaryError: no seeds, numbers below 1, or a folder of other words, seeds, settings or model.

    >>> said = {"chat": "cat", "pain": "bread", "vin": "wine"}
    >>> mapped = {"chat": "cat", "pain": "pan", "vin": "Wine"}
    >>> result = ida(
    ...     [("un", "one")],
    ...     list(said),
    ...     lambda words: {word: said[word] for word in words},
    ...     lambda words, _: {word: mapped[word] for word in words},
    ...     lambda pairs: np.eye(2) * len(pairs),
    ...     agreement="casefold",
    ... )
    >>> result.dictionary, result.reason
    ((('un', 'one'), ('chat', 'cat'), ('vin', 'wine')), 'stalled')
    """
    _check(seeds, agreement, {"target": target, "chunk": chunk, "max_iter": max_iter})
    seeds = list(dict.fromkeys((source, answer) for source, answer in seeds))
    kept = [] if unsupervised else seeds
    held = {source for source, _ in kept}
    order = [word for word in dict.fromkeys(words) if word not in held]
    key = _key(seeds, order, chunk, unsupervised, agreement, fingerprint)
    state = _load(folder, key)

    def save() -> None:
        if folder is not None:
            _save(Path(folder), key, state)

    def dictionary(most: int | None = None) -> list[tuple[str, str]]:
        generated = [(word, state.pairs[word]) for word in order if word in state.pairs]
        return [*kept, *(generated if most is None else generated[: max(0, most - len(kept))])]

    W = refit(dictionary() or seeds)
    while (reason := _reason(state, len(dictionary()), len(order), target, chunk, max_iter)) is None:
        number = len(state.history) + 1
        looked = [word for word in order[: number * chunk] if word not in state.pairs]
        fresh = [word for word in looked if state.asked.get(word) != state.version]
        _ask(fresh, chunk, state.plain, translate, save)
        _ask(fresh, chunk, state.mapped, lambda part: translate_wcs(part, W), save)  # noqa: B023 - called at once
        added = {w: state.plain[w] for w in fresh if _agree(state.plain[w], state.mapped[w], agreement)}
        state.pairs |= added
        state.asked |= dict.fromkeys(fresh, state.version)
        state.mapped.clear()
        moved: float | None = 0.0
        if added:
            before, W = W, refit(dictionary())
            state.version += 1
            moved = change(W, before)
        precision = None if gold is None else _precision(state.pairs, gold, agreement)
        row = IdaRow(number, len(dictionary()), len(added), len(fresh), precision, moved)
        state.history.append(row)
        save()
        log.info("round %d: %d of %d asked agree, %d pairs", row.round, row.added, row.asked, row.size)
    log.info("the dictionary ends with %d pairs: %s", len(dictionary(target)), reason)
    if len(dictionary()) > len(dictionary(target)):
        W = refit(dictionary(target))
    return IdaResult(tuple(dictionary(target)), W, tuple(state.history), reason)


def _reason(state: _State, size: int, words: int, target: int, chunk: int, max_iter: int) -> Reason | None:
    if size >= target:
        return "target"
    rounds = len(state.history)
    if rounds * chunk >= words and (not rounds or not state.history[-1].added):
        return "stalled"
    return "max_iter" if rounds >= max_iter else None


def _ask(
    words: Sequence[str],
    chunk: int,
    answers: dict[str, str],
    translator: Callable[[list[str]], Mapping[str, str]],
    save: Callable[[], None],
) -> None:
    """Ask for the words without an answer, and make each part of the answers safe."""
    open_words = [word for word in words if word not in answers]
    for start in range(0, len(open_words), chunk):
        part = open_words[start : start + chunk]
        said = translator(part)
        answers |= {word: said.get(word) or "" for word in part}
        save()


def _agree(one: str, other: str, agreement: str) -> bool:
    return bool(one) and (one == other or (agreement == "casefold" and one.casefold() == other.casefold()))


def _precision(pairs: Mapping[str, str], gold: Mapping[str, Collection[str]], agreement: str) -> float | None:
    judged = [
        any(_agree(answer, right, agreement) for right in gold[word]) for word, answer in pairs.items() if word in gold
    ]
    return sum(judged) / len(judged) if judged else None


def _check(seeds: Pairs, agreement: str, numbers: Mapping[str, int]) -> None:
    if not seeds:
        raise DictionaryError("seeds: got none, expected pairs to fit the first map on")
    if agreement not in ("exact", "casefold"):
        raise DictionaryError(f"agreement: got {agreement!r}, expected 'exact' or 'casefold'")
    for name, number in numbers.items():
        if number < 1:
            raise DictionaryError(f"{name}: got {number}, expected at least 1")


# ---- the folder ----------------------------------------------------------------------------------------------------------


def _key(
    seeds: Pairs, words: Sequence[str], chunk: int, unsupervised: bool, agreement: str, fingerprint: str
) -> dict[str, Any]:
    def digest(value: Any) -> str:
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()

    # Not `target` and `max_iter`: a run that goes further begins where a shorter one ended.
    return {
        "seeds": digest([list(pair) for pair in seeds]),
        "words": digest(list(words)),
        "chunk": chunk,
        "unsupervised": unsupervised,
        "agreement": agreement,
        "fingerprint": fingerprint,
    }


def _save(folder: Path, key: Mapping[str, Any], state: _State) -> None:
    told = {"format": _FORMAT, "key": key, "state": asdict(state)}
    atomic_write_text(folder / _FILE, json.dumps(told, ensure_ascii=False))


def _load(folder: str | os.PathLike[str] | None, key: Mapping[str, Any]) -> _State:
    """The state of the folder, or an empty one."""
    fresh = _State({}, {}, {}, {}, 0, [])
    if folder is None:
        return fresh
    path = Path(folder) / _FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        found = told["key"] if told["format"] == _FORMAT else {"format": told["format"]}
        state = told["state"]
        state["history"] = [IdaRow(**row) for row in state["history"]]
        loaded = _State(**state)
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DictionaryError(f"{path}: cannot be read ({error!r}); delete it to begin again") from error
    differing = [name for name in {**key, **found} if found.get(name) != key.get(name)]
    if differing:
        shown = "; ".join(f"{name}: {found.get(name)!r} there, {key.get(name)!r} asked" for name in differing)
        raise DictionaryError(f"{path}: is of another run ({shown}); choose another folder")
    return loaded
