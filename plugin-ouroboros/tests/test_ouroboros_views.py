"""Views: blocks that the core draws, and texts in colours that survive hostile text, a dark page and a colour-blind reader."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from fascicle.blocks import check_section
from fascicle_ouroboros.stats import Stats
from fascicle_ouroboros.views import NAMES, ansi, html, sections


class Toy:
    """A tokenizer over given pieces of bytes."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, ids, **_):
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")


def some_stats():
    stats = Stats(mode="tree")
    stats.add_round(
        fed=4,
        tokens=[(0, "draft"), (1, "prompt"), (2, "target")],
        proposed=["draft", "prompt", "prompt", "odd"],
        accepted=["draft", "prompt"],
        predicted=0.1,
        measured=0.2,
    )
    stats.seconds["target"] = 0.9
    stats.seconds["pool"] = 0.1
    return stats


def block(section, title):
    return next(b for b in section.blocks if b.title.startswith(title))


@pytest.mark.parametrize("stats", [[some_stats()], [some_stats(), Stats(mode="plain")], [Stats()]])
@pytest.mark.parametrize("tokenizer", [None, Toy(b"a", b"b", b"c")])
def test_every_section_is_one_that_the_core_draws(stats, tokenizer):
    for section in sections(stats, tokenizer):
        check_section(section)
        assert section.plugin == "ouroboros"


def test_without_a_text_there_is_no_section():
    assert sections([]) == []


def test_the_numbers_are_those_of_the_counters():
    (section,) = sections([some_stats(), some_stats()], Toy(b"a", b"b", b"c"))
    text = section.blocks[0].data["text"]
    assert "6 tokens of 2 texts in 2 passes of the target: 3.00 tokens a pass" in text
    assert "8 drafted tokens" in text
    assert "chose 4" in text
    bars = block(section, "Drafted tokens by source").data
    assert bars["labels"] == ["draft model", "phrase of the prompt", "odd"]
    assert bars["series"] == {"accepted": [2, 2, 0], "refused": [0, 2, 2]}
    assert block(section, "How far").data["series"]["accepted"] == [100.0, 100.0]
    rows = {row[0]: row[1:3] for row in block(section, "Where the time went").data["rows"]}
    assert rows["target"] == [1.8, "90.0 %"]
    assert "mean error 50 %" in block(section, "Time of a pass").title
    assert block(section, "Time of a pass").data["series"]["passes"] == {"x": [100.0, 100.0], "y": [200.0, 200.0]}
    spans = block(section, "One text").data["spans"]
    assert [(s["text"], s["label"]) for s in spans] == [("a", "draft"), ("b", "prompt"), ("c", "")]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags, self.links, self._style = "", [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._style = tag == "style"
        self.links += [value for name, value in attrs if name in {"src", "href", "onerror", "onload"}]

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        self.text += "" if self._style else data


HOSTILE = b"<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def test_html_escapes_the_text_and_loads_nothing():
    page = html([(0, "target"), (0, "draft")], Toy(HOSTILE))
    reader = Reader()
    reader.feed(page)
    assert set(reader.tags) <= {"div", "style", "p", "mark", "sub", "ul", "li"}
    assert reader.links == []
    assert reader.text.count(HOSTILE.decode()) == 2
    assert "url(" not in page
    assert "@import" not in page


def test_html_tells_sources_apart_without_colour_and_in_the_dark():
    sources = [s for s in NAMES if s != "target"]
    page = html([(0, s) for s in sources], Toy(b"x"))
    lines = re.findall(r"text-decoration:underline ([^}]+)}", page)
    assert len(set(lines)) == len(sources)
    assert len(set(re.findall(r"<sub>(.)</sub>", page))) == len(sources)
    assert all(f"</mark> {NAMES[s]}</li>" in page for s in sources)
    for rules, background in zip(page.split("@media (prefers-color-scheme:dark)"), ("#fff", "#171717"), strict=True):
        colours = re.findall(r"\.ouroboros \.\w+\{color:(#\w{6})", rules)
        assert len(colours) == len(sources)
        assert all(contrast(c, background) >= 4.5 for c in colours)  # WCAG AA


def contrast(a, b):
    def luminance(colour):
        colour = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_a_terminal_gets_letters_as_well_and_no_foreign_escapes():
    text = ansi([(0, "draft"), (1, "target"), (0, "prompt"), (0, "prompt")], Toy(b"ab", b"\x1b[2J\x07c\n"))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b" not in plain
    assert "\x07" not in plain
    assert "[D:ab]" in plain
    assert "[P:abab]" in plain
    assert plain.endswith("[D: draft model] [P: phrase of the prompt]")


def test_a_plain_text_has_no_legend():
    assert ansi([(0, "target")], Toy(b"a")) == "a"
    assert "<ul>" not in html([(0, "target")], Toy(b"a"))


def test_characters_in_several_tokens_and_long_texts_stay_whole():
    pieces = [bytes([byte]) for byte in "grün 🎉 ".encode()]
    n = len(pieces)
    tokens = [(i % n, "target" if (i // n) % 2 else "prompt") for i in range(20 * n)]
    shown = "".join(re.findall(r">([^<]*)<sub>P|</mark>([^<]*)<mark", html(tokens, Toy(*pieces)))[0])
    assert "\ufffd" not in shown
    reader = Reader()
    reader.feed(html([(t, "target") for t, _ in tokens], Toy(*pieces)))
    assert reader.text == "grün 🎉 " * 20


def test_an_unfinished_character_at_the_end_is_shown_as_such():
    assert ansi([(0, "target")], Toy(b"\xc3")) == "\ufffd"
