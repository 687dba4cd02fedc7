"""Which slots of an E2E meaning representation a text states: patterns of our own, since no official aligner is packaged.

A measure made of patterns errs; the same measure on the human references, which the evaluation reports beside it, says by how much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["SlotCount", "parse_mr", "slot_errors"]

SlotCount = tuple[int, int, int]
"""(slots, slots missed, slots added)."""

_PRICE = r"pric\w*|cost\w*"
_RATE = r"rat(?:ed|ing|ings)|customer|review\w*|feedback"
_NEAR = r"(?:\W+\w+){0,4}?\W+"
_FAMILY = r"famil\w*|kids?|child\w*"
_NOT = r"(?:not|n't|no|non|isn't|never|adults?|without)"


def _about(value: str, topic: str) -> str:
    """`value` and `topic` within a few words of each other, in either order."""
    return rf"(?:{value}){_NEAR}(?:{topic})|(?:{topic}){_NEAR}(?:{value})"


_NUMBERS = {"1": "1|one", "3": "3|three", "5": "5|five"}
_PATTERNS: dict[str, dict[str, str]] = {
    "eattype": {"restaurant": r"restaurant", "pub": r"\bpub\b", "coffee shop": r"coffee[- ]?(?:shop|house)|caf[eé]"},
    "area": {
        "city centre": r"cit(?:y|ies)(?:'s)?[- ]cent(?:re|er)|cent(?:re|er) of (?:the )?(?:city|town)|town cent(?:re|er)|downtown",
        "riverside": r"river",
    },
    "pricerange": {
        "cheap": r"cheap|inexpensive|affordabl|" + _about("low(?:er)?", _PRICE),
        "less than £20": r"(?:less than|under|below|lower than)\W*20|cheap|" + _about("low(?:er)?", _PRICE),
        "moderate": r"moderate|mid[- ]?(?:range|price)|reasonabl|" + _about("average|medium", _PRICE),
        "£20-25": r"20\W*(?:-|–|to|and)?\W*(?:to\W+)?25",
        "high": r"expensive|pric[e]?y|high[- ]?(?:end|price)|" + _about("high(?:er)?|above average", _PRICE),
        "more than £30": r"(?:more than|over|above|higher than)\W*30|expensive|" + _about("high(?:er)?", _PRICE),
    },
    "customer rating": {
        "low": _about(r"low|poor\w*|bad\w*|one|1", _RATE) + r"|(?:1|one)[- ]star",
        "average": _about(r"average|decent|moderate\w*|ok", _RATE),
        "high": _about(r"high\w*|great|excellent|good|well|top", _RATE) + r"|well[- ]rated",
        **{
            f"{n} out of 5": rf"\b(?:{words})\b\W*(?:out of|of|/)\W*(?:5|five)|\b(?:{words})\b[- ]*stars?|"
            + _about(rf"\b(?:{words})\b", _RATE)
            for n, words in _NUMBERS.items()
        },
    },
    "familyfriendly": {
        "no": rf"{_NOT}(?:\W+\w+){{0,5}}?\W+(?:{_FAMILY})|(?:{_FAMILY})(?:\W+\w+){{0,4}}?\W+(?:{_NOT})\b|adults? only|adult[- ]",
        "yes": _FAMILY,
    },
}


def parse_mr(mr: str) -> dict[str, str]:
    """Slots of a meaning representation, in its order.

    >>> parse_mr("name[Blue Spice], eatType[coffee shop]")
    {'name': 'Blue Spice', 'eatType': 'coffee shop'}
    """
    return {slot.strip(): value.strip() for slot, value in re.findall(r"([^,\[\]]+)\[([^\]]*)\]", mr)}


def slot_errors(slots: Mapping[str, str], text: str) -> SlotCount:
    """Slots of the meaning representation, those that `text` misses, and stated values of slots that it does not have.

    >>> slot_errors({"name": "Blue Spice", "area": "riverside"}, "Blue Spice is a pub in the city centre.")
    (2, 1, 1)
    """
    low = {slot.lower(): value for slot, value in slots.items()}
    missed = sum(not _states(slot, value, text) for slot, value in low.items())
    absent = [slot for slot in _PATTERNS if slot not in low and slot != "eattype"]
    added = sum(any(_states(slot, value, text) for value in _PATTERNS[slot]) for slot in absent)
    added += int("eattype" not in low and _states("eattype", "pub", text))
    return len(low), missed, added


def _states(slot: str, value: str, text: str) -> bool:
    text, value = text.lower().replace("£", ""), value.lower()
    patterns = _PATTERNS.get(slot, {})
    if slot == "familyfriendly" and value == "yes":
        return _found(patterns["yes"], text) and not _found(patterns["no"], text)
    if value in patterns:
        return _found(patterns[value], text)
    return _found(rf"\b{re.escape(value).replace(chr(92) + ' ', '[ -]')}", text)  # "fast food" and "fast-food"


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
