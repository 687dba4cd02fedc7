"""Prompts, examples, and what is read out of what a model writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from wcs_models import DECODERS, WIDTH, model, tokenizer

from fascicle_wcs.errors import StatesError
from fascicle_wcs.injection import inject
from fascicle_wcs.prompting import (
    Prompt,
    agree,
    nearest_shots,
    no_shots,
    parse_answer,
    question,
    random_shots,
    translate,
)
from fascicle_wcs.vectors import Vectors

PAIRS = [("un", "one"), ("deux", "two"), ("deux", "couple"), ("trois", "three"), ("quatre", "four"), ("cinq", "five")]
WORDS = ["chat", "un", "maison", "été", "y"]
ASK = Prompt("fr", "en")


class Scripted(torch.nn.Module):
    """Stands where a model would and writes given texts; remembers its prompts."""

    device = torch.device("cpu")

    def __init__(self, said: dict[str, list[str]]) -> None:
        super().__init__()
        self.said, self.prompts, self.settings = said, [], None
        self.generation_config: Any = type("Config", (), {"eos_token_id": None})

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, generation_config: Any) -> torch.Tensor:
        self.settings = generation_config
        rows = []
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            text = tokenizer().decode(ids[mask.bool()], skip_special_tokens=True)
            self.prompts.append(text)
            word = text.rsplit("word ", 1)[1].split(" ")[0]
            said = self.said[word][: generation_config.num_return_sequences]
            rows += [ids.tolist() + tokenizer()(text, add_special_tokens=False)["input_ids"] for text in said]
        longest = max(map(len, rows))
        return torch.tensor([row + [2] * (longest - len(row)) for row in rows])


# ---- the question --------------------------------------------------------------------------------------------------------


def test_examples_stand_before_the_question_and_the_span_is_that_of_the_question() -> None:
    text, (start, stop) = ASK.ask("un", [("un", "one"), ("deux", "two")])
    assert text == (
        "The French word un in English is one. The French word deux in English is two. The French word un in English is"
    )
    assert text[start:stop] == "un"
    assert start == text.rindex("un in")
    assert question("un", "fr", "en") == ASK.ask("un")[0]


def test_words_with_braces_are_words() -> None:
    text, (start, stop) = ASK.ask("{target}", [("{x}", "{0}")])
    assert text[start:stop] == "{target}"
    assert "{x} in English is {0}." in text


@pytest.mark.parametrize("template", ["The word", "{word} {word}", "{word} {other}", "{word} {", "{word} {}"])
def test_a_template_that_cannot_ask_is_refused(template: str) -> None:
    with pytest.raises(StatesError, match="template"):
        Prompt("fr", "en", template)


# ---- examples ------------------------------------------------------------------------------------------------------------


def test_random_examples_are_the_same_for_all_words_but_never_show_the_word() -> None:
    shots = random_shots(PAIRS, 3, seed=1)
    usual = shots("chat")
    assert usual == shots("maison") == random_shots(PAIRS, 3, seed=1)("chat")
    assert len(usual) == len(dict(usual)) == 3
    for source, _ in usual:
        others = shots(source.upper())
        assert len(others) == 3
        assert source not in dict(others)
    assert any(random_shots(PAIRS, 3, seed=seed)("chat") != usual for seed in range(2, 6))


def test_the_nearest_example_stands_beside_the_question() -> None:
    angles = {"un": 0.0, "deux": 0.2, "trois": 0.5, "quatre": 1.2, "chat": 0.3}
    vectors = Vectors(tuple(angles), np.array([[5 * np.cos(a), 5 * np.sin(a)] for a in angles.values()]))
    shots = nearest_shots(PAIRS, 2, vectors)  # cinq has no vector
    assert shots("chat") == (("trois", "three"), ("deux", "two"))
    assert shots("un") == (("trois", "three"), ("deux", "two"))
    assert shots("unknown") == (("deux", "two"), ("un", "one"))


def test_too_few_pairs_are_told() -> None:
    with pytest.raises(StatesError, match="at least 6"):
        random_shots(PAIRS, 5)
    assert random_shots([], 0)("chat") == no_shots("chat") == ()


# ---- answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (" Dog. The", "dog"),
        ("\n'dog',", "dog"),
        ("« dog »", "dog"),
        (" rock'n'roll!", "rock'n'roll"),
        ("e\u0301te\u0301", "été"),
        (" คน", "คน"),
        ("", ""),
        (" - ", ""),
    ],
)
def test_an_answer_is_the_first_word_without_punctuation_in_lower_case(said: str, read: str) -> None:
    assert parse_answer(said) == read


def test_the_first_beam_in_the_vocabulary_is_the_answer() -> None:
    said = {"chat": [" the cat", " Cat.", " dog"], "un": [" a", " a.", " b"], "y": ["", ".", "-"]}
    net = Scripted(said)
    answers = translate(net, tokenizer(), ["chat", "y", "un"], ASK, beams=3, vocabulary={"Cat", "dog"}, batch_size=2)
    assert [(a.word, a.text, a.candidates) for a in answers] == [
        ("chat", "cat", ("the", "cat", "dog")),
        ("y", "", ()),
        ("un", "a", ("a", "b")),  # none is known: the best beam
    ]
    assert [a.text for a in translate(Scripted(said), tokenizer(), ["chat"], ASK, beams=3)] == ["the"]


def test_each_word_is_asked_once_with_its_examples_and_without_a_blank_at_the_end() -> None:
    net = Scripted({word: [" x"] for word in WORDS})
    told: list[int] = []
    translate(net, tokenizer(), WORDS, ASK, shots=random_shots(PAIRS, 1), batch_size=2, advance=told.append)
    assert sorted(net.prompts) == sorted(ASK.ask(w, random_shots(PAIRS, 1)(w))[0] for w in WORDS)
    assert told == [2, 2, 1]
    assert (net.settings.do_sample, net.settings.num_beams, net.settings.max_new_tokens) == (False, 1, 5)


@pytest.mark.parametrize("family", DECODERS)
def test_answers_do_not_depend_on_the_batch(family: str) -> None:
    net = model(family)
    for beams in (1, 3):
        alone = [translate(net, tokenizer(), [word], ASK, beams=beams)[0] for word in WORDS]
        assert translate(net, tokenizer(), WORDS, ASK, beams=beams, batch_size=3) == alone
    assert len({answer.text for answer in alone}) > 1


def test_a_checkpoints_own_sampling_and_penalties_do_not_count() -> None:
    net = model()
    plain = translate(net, tokenizer(), WORDS, ASK)
    settings: Any = net.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty, settings.num_beams = True, 9.0, 5.0, 4
    assert translate(net, tokenizer(), WORDS, ASK) == plain


def test_a_map_is_put_on_the_words_of_every_batch() -> None:
    net = model()
    plain = translate(net, tokenizer(), WORDS, ASK, beams=2)
    with inject(net, 2, np.eye(WIDTH)) as injection:
        assert translate(net, tokenizer(), WORDS, ASK, beams=2, batch_size=2, injection=injection) == plain
    with inject(net, 2, -np.eye(WIDTH)) as injection:
        mapped = translate(net, tokenizer(), WORDS, ASK, beams=2, batch_size=2, injection=injection)
        alone = [translate(net, tokenizer(), [w], ASK, beams=2, injection=injection)[0] for w in WORDS]
    assert mapped == alone != plain


def test_what_cannot_be_asked_is_told() -> None:
    with pytest.raises(StatesError, match="cannot write"):
        translate(model().model.layers[0], tokenizer(), WORDS, ASK)
    with pytest.raises(StatesError, match="beams"):
        translate(model(), tokenizer(), WORDS, ASK, beams=0)
    assert translate(model(), tokenizer(), [], ASK) == []


def test_no_answer_is_no_agreement() -> None:
    assert agree(["a", "b", "c"], {"a": "x", "b": ""}, {"x": "A", "": "b"}) == [True, False, False]
