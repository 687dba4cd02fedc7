"""Data made by the project, whose truth is known: opinions, stories, questions, and documents with a cued fact.

Each split is drawn from a random generator of its own, seeded by the option's seed and the split's name, so a split does not
change when another one's size does, unless rows must be redrawn: no row of `validation` or `test` is also a row of `train`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ..errors import DataError
from .data_options import GeneratedClassification, GeneratedPrompts, GeneratedSummarization, GeneratedText

__all__ = ["CLASSES", "generate", "lexicon"]

CLASSES = ["negative", "positive"]


def _words(text: str) -> list[str]:
    return text.split()


GOOD = _words(
    "good great fine lovely pleasant charming bright clever warm honest fresh elegant careful brilliant delightful "
    "superb witty moving graceful generous sharp gentle lively splendid solid"
)
BAD = _words(
    "bad poor awful dull weak boring clumsy cold careless stale ugly dreary tedious shallow sloppy painful "
    "noisy bitter rude messy dreadful bland gloomy lazy lifeless"
)
THINGS = _words(
    "film book meal hotel song play game story actor plot dinner room garden lecture concert painting service "
    "coffee ending museum tour train phone chair"
)
PLACES: dict[str, tuple[str, str, str]] = {
    "kitchen": ("cook baker waiter guest", "cuts bakes tastes serves", "bread soup fish cake"),
    "garden": ("gardener child neighbour painter", "waters plants picks paints", "roses beans apples trees"),
    "harbour": ("sailor captain fisher guard", "loads mends cleans sells", "boats nets ropes crates"),
    "school": ("teacher pupil writer singer", "reads writes learns sings", "stories letters songs poems"),
    "workshop": ("smith carpenter tailor potter", "makes repairs measures polishes", "tables coats bowls tools"),
    "market": ("farmer trader buyer thief", "weighs buys steals carries", "eggs cheese cloth spices"),
}
"""Place to who is there, what they do, and with what."""
TIMES = _words("today daily early late alone again slowly quickly")
PEOPLE = _words(
    "Anna Boris Clara David Elena Felix Greta Henry Irene Jonas Karla Louis Maria Nils Olga Peter Rosa Simon Tanya Victor"
)
GOODS = _words(
    "lamp bicycle violin carpet camera kettle mirror jacket guitar table radio clock kite basket hammer ladder "
    "pillow bottle notebook umbrella"
)
COLOURS = _words("red blue green black white yellow brown grey")
CITIES = _words("Lisbon Oslo Vienna Prague Dublin Athens Warsaw Berlin Madrid Zagreb Riga Turin")
DEEDS = _words("bought sold lost found painted repaired")
BOXES = _words("box bag jar drawer bucket chest sack case tin crate")
NEGATIONS = _words("not never hardly")
DEGREES = _words("really quite very rather")
OTHERS = _words(
    "the a i is was seemed found thought called but although in where what answer copy reverse question about . , : ?"
)

Options = GeneratedClassification | GeneratedText | GeneratedPrompts | GeneratedSummarization
Row = dict[str, Any]


@cache
def lexicon() -> list[str]:
    """Every word that the generators write, sorted; the tiny tokenizer has a token for each.

    >>> "good" in lexicon(), len(lexicon()) == len(set(lexicon()))
    (True, True)
    """
    groups = [
        GOOD,
        BAD,
        THINGS,
        TIMES,
        PEOPLE,
        GOODS,
        COLOURS,
        CITIES,
        DEEDS,
        BOXES,
        NEGATIONS,
        DEGREES,
        OTHERS,
        [*PLACES],
    ]
    scenes = [words.split() for scene in PLACES.values() for words in scene]
    return sorted({word for group in [*groups, *scenes] for word in group})


def generate(options: Options) -> Mapping[str, list[Row]]:
    """The rows of the three splits; the first column is what a row is known by.

    Raises:
        DataError: more different rows are wanted than the templates can give.

    >>> rows = generate(GeneratedClassification(train_rows=3, validation_rows=1, test_rows=1))["train"]
    >>> sorted(rows[0])
    ['label', 'rule', 'text']
    """
    sizes = {"train": options.train_rows, "validation": options.validation_rows, "test": options.test_rows}
    seen: set[str] = set()
    splits = {}
    for split, size in sizes.items():
        splits[split] = _different(options, split, size, seen)
        seen |= {_known_by(row) for row in splits[split]}
    return splits


def _different(options: Options, split: str, size: int, seen: set[str]) -> list[Row]:
    """`size` rows that differ from each other and from those seen."""
    name = type(options).__name__
    make = _MAKERS[type(options)]
    rng = random.Random(f"{name}/{options.seed}/{split}")  # noqa: S311 - data, not secrets
    rows: dict[str, Row] = {}
    for number in range(50 * size + 1000):
        row = make(rng, options, number)
        if _known_by(row) not in seen:
            rows.setdefault(_known_by(row), row)
        if len(rows) == size:
            return list(rows.values())
    raise DataError(
        f"data.{split}_rows={size}: the templates of {name} gave only {len(rows)} different rows; ask for fewer"
    )


def _known_by(row: Row) -> str:
    return str(next(iter(row.values())))


# ---- opinions: negation and contrast decide ------------------------------------------------------------------------------


def _opinion(rng: random.Random, options: Options, number: int) -> Row:
    """One opinion. Of six rows two are plain, one is negated, and three contrast two clauses, of which the main one counts."""
    rule = ["plain", "negation", "but", "plain", "although_first", "although_last"][number % 6]
    label = rng.randrange(2)
    if rule in ("plain", "negation"):
        text = _clause(rng, label, negated=rule == "negation")
    else:
        main, other = (_clause(rng, side, negated=rng.random() < 0.25) for side in (label, 1 - label))
        text = {
            "but": f"{other} but {main}",
            "although_first": f"although {other} , {main}",
            "although_last": f"{main} although {other}",
        }[rule]
    return {"text": f"{text} .", "label": CLASSES[label], "rule": rule}


def _clause(rng: random.Random, side: int, *, negated: bool) -> str:
    """A clause of the given side; a negated one uses the other side's word."""
    word = rng.choice(GOOD if (side == 1) != negated else BAD)
    negation = f"{rng.choice(NEGATIONS)} " if negated else ""
    degree = f"{rng.choice(DEGREES)} " if rng.random() < 0.5 else ""
    thing = rng.choice(THINGS)
    if rng.random() < 0.5:
        return f"the {thing} {rng.choice(['was', 'is', 'seemed'])} {negation}{degree}{word}"
    return f"i {rng.choice(['found', 'thought', 'called'])} the {thing} {negation}{degree}{word}"


# ---- stories: a known probability ----------------------------------------------------------------------------------------


def _story(rng: random.Random, options: Options, number: int) -> Row:
    """A story in one place, which its first words name; every further choice is uniform, so its probability is a product.

    `nats` is minus its logarithm: what the best possible model loses on the row.
    """
    assert isinstance(options, GeneratedText)
    place = rng.choice(list(PLACES))
    text, nats, words = f"in the {place} :", math.log(len(PLACES)), 4
    choices = [*(words.split() for words in PLACES[place]), TIMES]
    for _ in range(options.sentences):
        text += f" the {' '.join(rng.choice(words) for words in choices)} ."
        nats += math.fsum(math.log(len(words)) for words in choices)
        words += 6
    return {"text": text, "nats": nats, "words": words}


# ---- questions about facts, lists to copy --------------------------------------------------------------------------------


def _prompt(rng: random.Random, options: Options, number: int) -> Row:
    """A prompt and its only right completion; in turns: where is it, what is in it, copy, reverse."""
    assert isinstance(options, GeneratedPrompts)
    kind = ["where", "what", "copy", "reverse"][number % 4]
    things = rng.sample(GOODS, options.facts)
    if kind in ("copy", "reverse"):
        wanted = things if kind == "copy" else things[::-1]
        prompt, completion = f"{kind} : {' , '.join(things)} . answer :", f"{' , '.join(wanted)} ."
        return {"prompt": prompt, "completion": completion, "category": kind}
    boxes = rng.sample(BOXES, options.facts)
    facts = " ".join(f"the {thing} is in the {box} ." for thing, box in zip(things, boxes, strict=True))
    asked = rng.randrange(options.facts)
    if kind == "where":
        question, completion = f"where is the {things[asked]} ?", f"in the {boxes[asked]} ."
    else:
        question, completion = f"what is in the {boxes[asked]} ?", f"the {things[asked]} ."
    return {"prompt": f"{facts} {question} answer :", "completion": completion, "category": kind}


# ---- documents with a cued fact ------------------------------------------------------------------------------------------


def _document(rng: random.Random, options: Options, number: int) -> Row:
    """Facts about different people, and a last sentence that says whose fact matters; the summary states that fact."""
    assert isinstance(options, GeneratedSummarization)
    people = rng.sample(PEOPLE, options.facts)
    things = rng.sample(GOODS, options.facts)
    facts = [
        f"{who} {rng.choice(DEEDS)} a {rng.choice(COLOURS)} {what}" for who, what in zip(people, things, strict=True)
    ]
    sentences = [f"{fact} in {rng.choice(CITIES)} ." for fact in facts]
    evidence = rng.randrange(options.facts)
    sentences.append(f"the question is about {people[evidence]} .")
    return {
        "document": " ".join(sentences),
        "summary": f"{facts[evidence]} .",
        "sentences": sentences,
        "evidence": evidence,
        "cue": people[evidence],
    }


_MAKERS: dict[type, Callable[[random.Random, Options, int], Row]] = {
    GeneratedClassification: _opinion,
    GeneratedText: _story,
    GeneratedPrompts: _prompt,
    GeneratedSummarization: _document,
}
