"""Asking a language model for the translation of a word.

Source: the paper asks with a one-shot prompt whose text it does not give. The template, its n examples, the nearest examples and
the reading of an answer (first word, without punctuation, in lower case; the first beam that is in the target vocabulary) are
those that Li et al. (2023), "On Bilingual Lexicon Induction with Large Language Models", found best. That the nearest example
stands last, beside the question, and that no example shows the word asked for is our choice.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import StatesError
from .wordstates import encode_spans, evaluating

if TYPE_CHECKING:
    from torch import nn

    from .injection import Injection
    from .vectors import Vectors
    from .wordstates import Encoded

__all__ = [
    "Answer",
    "Prompt",
    "Shots",
    "agree",
    "language_name",
    "nearest_shots",
    "no_shots",
    "parse_answer",
    "question",
    "random_shots",
    "translate",
]

Shots = Callable[[str], Sequence[tuple[str, str]]]
"""Gives the examples, (source word, target word), that stand before the question for a word."""

_LANGUAGES = {
    "af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan", "cs": "Czech",
    "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian",
    "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French", "gl": "Galician", "gu": "Gujarati", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ms": "Malay", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "qu": "Quechua", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian",
    "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "th": "Thai", "tl": "Tagalog",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def language_name(code: str) -> str:
    """English name of a language from its ISO 639-1 code; anything else is a name already.

    >>> language_name("fr"), language_name("Occitan")
    ('French', 'Occitan')
    """
    return _LANGUAGES.get(code.lower(), code)


@dataclass(frozen=True)
class Prompt:
    """The text of a question, and of the examples before it.

    Raises:
        StatesError: a template without exactly one `{word}`, or with other fields than `{source}` and `{target}`.

    >>> Prompt("fr", "en").ask("chat", [("chien", "dog")])
    ('The French word chien in English is dog. The French word chat in English is', (57, 61))
    """

    source: str
    """ISO code or name of the language asked about."""
    target: str
    """ISO code or name of the language to answer in."""
    template: str = "The {source} word {word} in {target} is"
    """The question. An example is the question with " answer. " behind it."""

    def __post_init__(self) -> None:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(self.template) if field is not None]
        except ValueError:
            fields = []
        if fields.count("word") != 1 or not {"word", "source", "target"}.issuperset(fields):
            raise StatesError(
                f"template: got {self.template!r}, expected {{word}} once, and of other fields only {{source}} and {{target}}"
            )

    def ask(self, word: str, shots: Sequence[tuple[str, str]] = ()) -> tuple[str, tuple[int, int]]:
        """The whole text, and the first and last + 1 character of the word asked for."""
        before = "".join(f"{self._question(source)[0]} {target}. " for source, target in shots)
        text, start = self._question(word)
        return before + text, (len(before) + start, len(before) + start + len(word))

    def _question(self, word: str) -> tuple[str, int]:
        names = {"source": language_name(self.source), "target": language_name(self.target)}
        head, _, tail = self.template.partition("{word}")
        head = head.format(**names)
        return f"{head}{word}{tail.format(**names)}", len(head)


def question(word: str, source: str, target: str) -> str:
    """The question without examples, as a model may be fine-tuned on it.

    >>> question("chat", "fr", "en")
    'The French word chat in English is'
    """
    return Prompt(source, target).ask(word)[0]


# ---- examples ------------------------------------------------------------------------------------------------------------


def no_shots(word: str) -> tuple[tuple[str, str], ...]:
    """No examples.

    >>> no_shots("chat")
    ()
    """
    return ()


def random_shots(pairs: Sequence[tuple[str, str]], n: int, *, seed: int = 0) -> Shots:
    """The same n pairs for every word, drawn once; a word that is among them gets the next one drawn in its own place.

    Raises:
        StatesError: fewer than n + 1 source words.

    >>> random_shots([("chien", "dog"), ("chat", "cat")], 1)("chat")
    (('chien', 'dog'),)
    """
    first = _one_each(pairs, n)
    drawn = [first[i] for i in np.random.default_rng(seed).permutation(len(first))[: n + 1]]

    def shots(word: str) -> tuple[tuple[str, str], ...]:
        return tuple(pair for pair in drawn if not _same(pair[0], word))[:n]

    return shots


def nearest_shots(pairs: Sequence[tuple[str, str]], n: int, vectors: Vectors) -> Shots:
    """The n pairs whose source words are nearest to the word by cosine, the nearest last.

    Args:
        pairs: to choose from; those without a vector are left out.
        n: how many.
        vectors: of source words. A word without one gets the first pairs.

    Raises:
        StatesError: fewer than n + 1 source words with vectors.

    >>> from fascicle_wcs.vectors import Vectors
    >>> words = Vectors(("chat", "lion", "pain"), np.array([[1.0, 0.1], [0.9, 0.2], [0.0, 1.0]]))
    >>> nearest_shots([("pain", "bread"), ("lion", "lion")], 1, words)("chat")
    (('lion', 'lion'),)
    """
    first = _one_each([pair for pair in pairs if pair[0] in vectors.index], n)
    rows = _unit(vectors.matrix[[vectors.index[source] for source, _ in first]])

    def shots(word: str) -> tuple[tuple[str, str], ...]:
        order: Sequence[int] = range(len(first))
        if word in vectors.index:
            order = np.argsort(-(rows @ _unit(vectors.row(word)[None])[0]), kind="stable").tolist()
        others = [first[i] for i in order if not _same(first[i][0], word)]
        return tuple(reversed(others[:n]))

    return shots


def _one_each(pairs: Sequence[tuple[str, str]], n: int) -> list[tuple[str, str]]:
    """The first pair of each source word."""
    first: dict[str, tuple[str, str]] = {}
    for source, target in pairs:
        first.setdefault(source.casefold(), (source, target))
    if n and len(first) <= n:
        raise StatesError(
            f"shots: got {len(first)} source words to choose {n} from, expected at least {n + 1}, as no word is its own example"
        )
    return list(first.values())


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny))


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


# ---- answers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said a word means."""

    word: str
    text: str
    """The first candidate that is in the vocabulary; else the first one. Empty where the model said no word."""
    candidates: tuple[str, ...] = ()
    """What each beam said, the best first, each once."""


def parse_answer(text: str) -> str:
    """The first word of a text, without punctuation around it, in lower case; empty where there is none.

    >>> parse_answer(' "Dog". The French word'), parse_answer("ice-cream,"), parse_answer(" ...")
    ('dog', 'ice-cream', '')
    """
    for piece in unicodedata.normalize("NFC", text).split():
        start, stop = 0, len(piece)
        while start < stop and unicodedata.category(piece[start])[0] in "PSC":
            start += 1
        while start < stop and unicodedata.category(piece[stop - 1])[0] in "PSC":
            stop -= 1
        if start < stop:
            return piece[start:stop].lower()
    return ""


def translate(
    model: nn.Module,
    tokenizer: Any,
    words: Sequence[str],
    prompt: Prompt,
    *,
    shots: Shots = no_shots,
    max_new_tokens: int = 5,
    beams: int = 1,
    vocabulary: Collection[str] | None = None,
    batch_size: int = 16,
    injection: Injection | None = None,
    advance: Callable[[int], object] | None = None,
) -> list[Answer]:
    """Ask a model for the translation of each word, by greedy decoding or by beams.

    Args:
        model: a decoder with `generate`, also wrapped by PEFT.
        tokenizer: its fast tokenizer.
        words: to translate; the answers are in their order.
        prompt: how to ask.
        shots: the examples for a word.
        max_new_tokens: of an answer.
        beams: 1 is greedy; with more, the first beam in the vocabulary is the answer.
        vocabulary: target words; None takes the best beam.
        batch_size: prompts asked at once.
        injection: what `inject` yielded, to ask the model with a map inside; it is told of every batch.
        advance: is told, after each batch, of how many words it was.

    Raises:
        StatesError: a model that cannot write, numbers below 1, a word without tokens.

    >>> from fascicle.hf.model_options import Tiny
    >>> from fascicle.hf.tiny import build_tiny
    >>> model, tokenizer = build_tiny(Tiny(architecture="llama", hidden_size=16, layers=1, heads=2), seed=1)
    >>> [answer.word for answer in translate(model, tokenizer, ["chat", "chien"], Prompt("fr", "en"))]
    ['chat', 'chien']
    """
    for name, number in (("max_new_tokens", max_new_tokens), ("beams", beams), ("batch_size", batch_size)):
        if number < 1:
            raise StatesError(f"{name}: got {number}, expected at least 1")
    asked = [prompt.ask(word, shots(word)) for word in words]
    rows = encode_spans(tokenizer, [text for text, _ in asked], [span for _, span in asked], continued=True)
    known = None if vocabulary is None else {unicodedata.normalize("NFC", word).lower() for word in vocabulary}
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i))
    answers: list[Answer | None] = [None] * len(rows)
    with evaluating(model):
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            said = _write(model, tokenizer, [rows[i] for i in batch], max_new_tokens, beams, injection)
            for i, texts in zip(batch, said, strict=True):
                answers[i] = _answer(words[i], texts, known)
            if advance:
                advance(len(batch))
    return [answer for answer in answers if answer is not None]


def _write(
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[Encoded],
    max_new_tokens: int,
    beams: int,
    injection: Injection | None,
) -> list[list[str]]:
    """What each beam writes behind each prompt; prompts are padded on the left."""
    import torch

    net: Any = model
    if not hasattr(net, "generate"):
        raise StatesError(f"model: {type(net).__name__} cannot write; expected a causal language model")
    settings = _settings(net, tokenizer, max_new_tokens, beams)
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[settings.pad_token_id] * (width - len(row.ids)) + list(row.ids) for row in rows])
    attention = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows])
    if injection is not None:
        injection.prompts(attention, [(row.start, row.stop) for row in rows])
    out = net.generate(
        input_ids=ids.to(net.device), attention_mask=attention.to(net.device), generation_config=settings
    )
    texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in out[:, width:].tolist()]
    return [texts[i * beams : (i + 1) * beams] for i in range(len(rows))]


def _settings(net: Any, tokenizer: Any, max_new_tokens: int, beams: int) -> Any:
    """Of a checkpoint's own settings only the end tokens are kept: sampling and penalties would change the answers."""
    import transformers

    eos = net.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    pads = (tokenizer.pad_token_id, eos[0] if isinstance(eos, list) else eos, 0)
    make: Any = transformers.GenerationConfig
    return make(
        max_new_tokens=max_new_tokens,
        min_length=0,
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        length_penalty=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        early_stopping=False,
        use_cache=True,
        eos_token_id=eos,
        pad_token_id=next(pad for pad in pads if pad is not None),
    )


def _answer(word: str, texts: Sequence[str], known: Collection[str] | None) -> Answer:
    candidates = tuple(dict.fromkeys(found for found in map(parse_answer, texts) if found))
    best = candidates[0] if candidates else ""
    if known is not None:
        best = next((candidate for candidate in candidates if candidate in known), best)
    return Answer(word, best, candidates)


def agree(words: Sequence[str], forward: Mapping[str, str], backward: Mapping[str, str]) -> list[bool]:
    """Whether the translation of each word translates back to it; case does not matter, no answer is no agreement.

    Args:
        words: of the source language.
        forward: source word to its translation.
        backward: translation to its own translation into the source language.

    >>> agree(["chat", "pain"], {"chat": "cat", "pain": "bread"}, {"cat": "Chat", "bread": "brot"})
    [True, False]
    """
    return [bool(forward.get(word)) and _same(backward.get(forward[word], ""), word) for word in words]
