"""Predictions with their reasons as data, in a terminal and on a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from sief_rules import TriggerRules, story

from fascicle_sief.document import Document, Mention
from fascicle_sief.errors import SiefError
from fascicle_sief.prediction import NOTE, predict
from fascicle_sief.views import MOST_SHADE, section

if TYPE_CHECKING:
    from fascicle_sief.prediction import Explanation

WORDS = {"married": "spouse", "hired": "employer", "taught": "teacher"}


def explained() -> Explanation:
    return predict(TriggerRules(WORDS), story(), relation_names={"spouse": "married to"})


class Tags(HTMLParser):
    """Every tag is closed; text and tags are kept."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# ---- prediction


def test_evidence_is_chosen_without_evidence_labels() -> None:
    unlabelled = Document("d", story().sentences, story().entities)
    found = {(p.head, p.tail, p.relation): p for p in predict(TriggerRules(WORDS), unlabelled).predictions}
    assert found[0, 1, "spouse"].evidence == (0,)
    assert found[0, 1, "employer"].evidence == (1,)
    assert found[0, 2, "teacher"].evidence == (2,)  # without it Cy is lost
    assert (found[0, 1, "spouse"].probability, found[0, 1, "spouse"].head_name) == (0.9, "Ann")


def test_a_pass_a_sentence_and_one_more_or_a_single_one_without_importance() -> None:
    rule = TriggerRules(WORDS)
    predict(rule, story())
    assert sum(rule.batches) == 6
    rule.batches.clear()
    found = predict(rule, story(), importance=False)
    assert rule.batches == [1]
    assert {p.evidence for p in found.predictions} == {None}
    assert [p.relation for p in found.predictions] == [p.relation for p in explained().predictions]


def test_top_keeps_the_most_probable_and_counts_the_rest() -> None:
    found = predict(TriggerRules(WORDS), story(), top=2)
    assert (len(found.predictions), found.left_out) == (2, 4)
    with pytest.raises(SiefError, match="top: expected at least 1"):
        predict(TriggerRules(WORDS), story(), top=0)


def test_json_holds_the_rows_of_a_docred_submission() -> None:
    data = json.loads(json.dumps(explained().to_json(), allow_nan=False))
    assert {"title": "story", "h_idx": 0, "t_idx": 1, "r": "spouse", "evidence": [0]} in data["result"]
    teacher = next(row for row in data["relations"] if row["relation"] == "teacher")
    assert [s["entity_lost"] for s in teacher["sentences"]] == [False, False, True, False, False]
    assert teacher["sentences"][2]["score"] is None
    assert data["note"] == NOTE


# ---- views


def test_the_page_is_well_formed_and_asks_for_nothing() -> None:
    page = explained().to_html()
    parsed = Tags(page)
    assert parsed.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in parsed.tags}
    assert not any(name in attrs for _, attrs in parsed.tags for name in ("src", "href"))
    assert "url(" not in page
    assert "It describes the model, not the truth" in parsed.text
    assert "Ann" in parsed.text


def test_evidence_and_lost_entities_are_told_in_words() -> None:
    parsed = Tags(explained().to_html())
    assert sum("evidence" in (attrs.get("class") or "").split() for tag, attrs in parsed.tags if tag == "li") == 6
    assert parsed.text.count("entity lost") == 2 + 1  # both directions of `teacher`, and the legend
    assert "+1.98evidence" in parsed.text


def test_everything_that_came_from_the_document_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&"
    doc = Document(
        evil,
        [[evil, "married", evil + "2\x00\x1b[31m"]],
        [[Mention(0, 0, 1, evil, evil)], [Mention(0, 2, 3, evil)]],
    )
    found = predict(TriggerRules({"married": evil}), doc)
    page = found.to_html()
    assert found.predictions
    assert "script" not in {tag for tag, _ in Tags(page).tags}
    assert "<script" not in page
    assert "\x00" not in page
    assert "\x1b[31m" not in found.to_ansi()


def test_nested_and_overlapping_mentions_keep_the_text_and_every_mention_its_number() -> None:
    doc = Document(
        "d",
        [["Bank", "of", "New", "York", "City"]],
        [[Mention(0, 0, 4)], [Mention(0, 2, 4)], [Mention(0, 3, 5)], [Mention(0, 2, 4)]],
    )
    parsed = Tags(predict(TriggerRules({"x": "r"}), doc).to_html())
    assert parsed.open == []
    text = re.search(r"0(Bank.*?)\n", parsed.text)
    assert text is not None
    assert re.sub(r"\d", "", text[1]) == "Bank of New York City"
    assert sorted(re.findall(r"\d", text[1])) == ["0", "1", "2", "3"]


def test_text_without_blanks_stays_without() -> None:
    doc = Document("d", [["東", "京", "駅"]], [[Mention(0, 0, 2)], [Mention(0, 2, 3)]], trailing=[["", "", ""]])
    assert "東京" in Tags(predict(TriggerRules({"x": "r"}), doc).to_html()).text


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_on_the_deepest_shade_is_readable_in_light_and_dark() -> None:
    css = explained().to_html()
    schemes = {name: re.findall(rf"--{name}:#([0-9a-f]+)", css) for name in ("paper", "ink", "heat", "cold")}

    def colour(text: str) -> list[float]:
        text = "".join(c * 2 for c in text) if len(text) == 3 else text
        return [int(text[i : i + 2], 16) for i in (0, 2, 4)]

    for scheme in (0, 1):
        paper, ink = colour(schemes["paper"][scheme]), colour(schemes["ink"][scheme])
        for shade in ("heat", "cold"):
            deep = [p + (s - p) * MOST_SHADE / 100 for p, s in zip(paper, colour(schemes[shade][scheme]), strict=True)]
            bright, dim = sorted([luminance(deep), luminance(ink)], reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_a_terminal_shows_bars_figures_and_evidence() -> None:
    plain = re.sub(r"\x1b\[[\d;]*m", "", explained().to_ansi())
    assert "Ann → married to → Bob  probability 0.90" in plain
    assert re.search(r"E █{8}\s+\+1\.98\s+0 Ann\[0\] married Bob\[1\] \.", plain)
    assert re.search(r"E\s+entity lost\s+2 Ann", plain)
    assert NOTE in plain


def test_nothing_predicted_is_said() -> None:
    found = predict(TriggerRules({"x": "r"}), story())
    assert (found.predictions, found.to_json()["result"]) == ((), [])
    for text in (found.to_html(), found.to_ansi(), section(found).blocks[0].data["text"]):
        assert "No relation is above the threshold of 0.5." in text


def test_the_section_is_drawn_by_the_core() -> None:
    from fascicle.blocks import check_section

    part = section(explained(), most=2)
    check_section(part)
    assert [block.kind for block in part.blocks] == ["text", "spans", "spans"]
    assert [span["label"] for span in part.blocks[1].data["spans"]][:2] == ["+0.00", "+1.98, evidence"]
