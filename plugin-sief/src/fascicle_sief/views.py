"""An explanation for a terminal, as a page, and as a part of a run's page. Our choice; colours are those of the project's pages.

Nothing is told by colour alone: entities have their number, evidence a frame and its word, importance a bar and its figure.
"""

from __future__ import annotations

import html as escaping
from collections.abc import Callable, Collection, Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from fascicle.objects import Block, Section

from .prediction import NOTE

if TYPE_CHECKING:
    from .document import Document
    from .importance import Importance
    from .prediction import Explanation, Prediction

__all__ = ["MOST_SHADE", "ansi", "html", "section"]

MOST_SHADE = 34
"""Percent of the shade's colour under the most important sentence: the text on it stays readable (contrast above 4.5)."""
_FULL = 1.0, 4.6
"""The score of the most important sentence fills its bar, but no less than the first does and no more than the second is shown:
small scores look small, and one huge score does not hide the others."""
_COLOURS = 7
_SGR = (34, 33, 32, 35, 36, 31, 94)


def _clean(text: str) -> str:
    return "".join(c if c == "\u200d" or c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _share(importance: Importance, k: int) -> float:
    """Length of a sentence's bar, -1 to 1; a sentence with which an entity is lost has none."""
    s = importance.score[k]
    known = [abs(value) for value in importance.score if value is not None]
    least, most = _FULL
    full = min(most, max(known, default=least))
    return 0.0 if s is None else max(-1.0, min(1.0, s / max(least, full)))


def _figure(importance: Importance, k: int) -> str:
    s = importance.score[k]
    return "entity lost" if s is None else f"{round(s, 2) + 0.0:+.2f}"


Pieces = list[tuple[str, tuple[tuple[int, int], ...]]]
"""Text, and the (entity, number of the mention) it lies in, longest mention first."""


def _pieces(document: Document, sentence: int, entities: Collection[int]) -> Pieces:
    """A sentence cut where mentions of these entities begin and end; nested and overlapping mentions keep their depth."""
    spans = [
        (m.start, m.end, e, i) for e in entities for i, m in enumerate(document.entities[e]) if m.sentence == sentence
    ]
    spans.sort(key=lambda span: (span[0] - span[1], span[0], span[2], span[3]))
    words = document.sentences[sentence]
    after = [" "] * len(words) if document.trailing is None else document.trailing[sentence]
    over = [tuple((e, i) for start, end, e, i in spans if start <= w < end) for w in range(len(words))]
    cells: Pieces = []
    for w, word in enumerate(words):
        cells.append((word, over[w]))
        following = over[w + 1] if w + 1 < len(words) else ()
        cells.append((after[w], tuple(mark for mark in over[w] if mark in following)))
    return [("".join(text for text, _ in group), marks) for marks, group in groupby(cells, key=lambda cell: cell[1])]


def _marked(pieces: Pieces, mark: Callable[[str, int, bool], str], plain: Callable[[str], str]) -> str:
    """Text with every mention wrapped; `mark(text, entity, last)`, `last` where the mention ends."""
    result = []
    for i, (text, marks) in enumerate(pieces):
        following = pieces[i + 1][1] if i + 1 < len(pieces) else ()
        shown = plain(text)
        for one in reversed(marks):
            shown = mark(shown, one[0], one not in following)
        result.append(shown)
    return "".join(result)


# ---- terminal ------------------------------------------------------------------------------------------------------------


def ansi(explanation: Explanation) -> str:
    """For a terminal: relations with their sentences, each with a bar, its figure, and a word where it is evidence.

    >>> from fascicle_sief.document import Document
    >>> from fascicle_sief.prediction import Explanation
    >>> doc = Document("d", [["a"]], [])
    >>> nothing = Explanation(document=doc, predictions=(), threshold=0.5, evidence_threshold=0.8, left_out=0)
    >>> "No relation is above the threshold of 0.5." in ansi(nothing)
    True
    """
    document = explanation.document
    lines = [f"\x1b[1m{_clean(document.title)}\x1b[0m"]
    if not explanation.predictions:
        lines.append(_ansi_text(document, range(len(document))))
        lines.append(f"No relation is above the threshold of {explanation.threshold:g}.")
    for p in explanation.predictions:
        lines += ["", f"\x1b[1m{_title(p)}\x1b[0m  probability {p.probability:.2f}"]
        for k in range(len(document)):
            text = _ansi_sentence(document, k, (p.head, p.tail))
            lines.append(f"{_ansi_bar(p, k)} {k:>3} {text}" if p.importance else f"{k:>3} {text}")
    if explanation.left_out:
        lines += ["", f"{explanation.left_out} less probable relations are not shown."]
    if any(p.importance for p in explanation.predictions):
        lines += ["", f"E: evidence (importance above {explanation.evidence_threshold:g}, or an entity lost). {NOTE}"]
    return "\n".join(lines)


def _title(p: Prediction) -> str:
    return _clean(f"{p.head_name} \u2192 {p.relation_name} \u2192 {p.tail_name}")


def _ansi_bar(p: Prediction, k: int) -> str:
    assert p.importance is not None
    share = _share(p.importance, k)
    bar = ("\u2588" if share >= 0 else "\u2591") * round(8 * abs(share))
    return f"{'E' if k in (p.evidence or ()) else ' '} {bar:<8} {_figure(p.importance, k):>11}"


def _ansi_sentence(document: Document, k: int, entities: Collection[int]) -> str:
    def mark(text: str, entity: int, last: bool) -> str:
        number = f"[{entity}]" if last else ""
        return f"\x1b[{_SGR[entity % _COLOURS]};4m{text}\x1b[0m{number}"

    return _marked(_pieces(document, k, entities), mark, _clean).rstrip()


def _ansi_text(document: Document, sentences: Iterable[int]) -> str:
    everyone = range(len(document.entities))
    return "\n".join(f"{k:>3} {_ansi_sentence(document, k, everyone)}" for k in sentences)


# ---- page ----------------------------------------------------------------------------------------------------------------

_CSS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1a1f26;--soft:#5a6572;--grid:#dde2e8;--rule:#8a949f;--accent:#0b5cab;
--heat:#0072b2;--cold:#d55e00;--s0:#0072b2;--s1:#b34e00;--s2:#00735a;--s3:#963c86;--s4:#7a5b00;--s5:#3f3ba3;--s6:#17698f}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e7eaee;--soft:#a2adb9;--grid:#313943;--rule:#76818c;--accent:#7cb8f2;
--heat:#2a86c4;--cold:#c4622a;--s0:#56b4e9;--s1:#ff8f4d;--s2:#2fc79b;--s3:#e39ad0;--s4:#e0b53a;--s5:#a9a4ff;--s6:#9adcff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);overflow-wrap:anywhere;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
main{max-width:1000px;margin:0 auto;padding:36px 24px 56px}
h1{font-size:1.8rem;line-height:1.2;letter-spacing:-.015em;margin:0 0 10px}
h2{font-size:1.2rem;margin:40px 0 10px}
.note{color:var(--soft);font-size:.88rem;max-width:46em}
.text{line-height:2;max-width:46em}
.text sup{color:var(--soft);margin-right:.3em}
.m{background:none;color:inherit;border-bottom:2px solid var(--c);padding-bottom:1px}
.m sub{color:var(--c);font-weight:600;font-size:.72em;margin-left:1px}
.c0{--c:var(--s0)}.c1{--c:var(--s1)}.c2{--c:var(--s2)}.c3{--c:var(--s3)}.c4{--c:var(--s4)}.c5{--c:var(--s5)}.c6{--c:var(--s6)}
.names{list-style:none;padding:0;margin:8px 0;display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.9rem}
.names small{color:var(--soft)}
details{border-top:1px solid var(--grid)}
details:last-of-type{border-bottom:1px solid var(--grid)}
summary{cursor:pointer;padding:10px 0}
summary:hover{color:var(--accent)}
summary small{color:var(--soft);margin-left:8px;white-space:nowrap}
.sentences{list-style:none;margin:0 0 20px;padding:0}
.sentences li{display:grid;grid-template-columns:2em 1fr 190px;gap:0 12px;padding:6px 8px;margin:3px 0;
border:2px solid transparent;border-radius:5px;
background:color-mix(in srgb,var(--heat) var(--w,0%),var(--paper))}
.sentences li.less{background:color-mix(in srgb,var(--cold) var(--w,0%),var(--paper))}
.sentences li.evidence{border-color:var(--ink)}
.sentences b{font-weight:400;color:inherit;font-variant-numeric:tabular-nums}
.of{font-size:.84rem;font-variant-numeric:tabular-nums}
.bar{display:block;height:8px;margin:5px 0 3px;border:1px solid var(--rule);border-radius:2px;background:var(--paper)}
.bar i{display:block;height:100%;background:var(--heat)}
.less .bar i{background:repeating-linear-gradient(45deg,var(--cold) 0 3px,transparent 3px 5px)}
.tag{font-weight:650;margin-left:6px}
@media(max-width:640px){main{padding:24px 16px 40px}h1{font-size:1.45rem}
.sentences li{grid-template-columns:1.6em 1fr;gap:0 6px}.of{grid-column:2}
.bar{max-width:220px}summary small{display:block;margin:0}}
"""


def html(explanation: Explanation) -> str:
    """One page that needs nothing else: no script, no request. Everything that came from the document is escaped.

    >>> from fascicle_sief.document import Document
    >>> from fascicle_sief.prediction import Explanation
    >>> doc = Document("a<b", [["a"]], [])
    >>> page = html(Explanation(document=doc, predictions=(), threshold=0.5, evidence_threshold=0.8, left_out=0))
    >>> "<h1>a&lt;b</h1>" in page, "No relation is above the threshold of 0.5." in page
    (True, True)
    """
    document, shown = explanation.document, explanation.predictions
    everyone = range(len(document.entities))
    text = " ".join(f"<sup>{k}</sup>{_html_sentence(document, k, everyone)}" for k in range(len(document)))
    names = "".join(
        f'<li><span class="m c{e % _COLOURS}"><bdi>{_escape(document.name(e))}</bdi><sub>{e}</sub></span>'
        f" <small>{_escape(document.type(e))}</small></li>"
        for e in everyone
        if document.entities[e]
    )
    relations = "".join(_html_relation(document, p, is_open=i < 5) for i, p in enumerate(shown))
    if not shown:
        relations = f"<p>No relation is above the threshold of {explanation.threshold:g}.</p>"
    if explanation.left_out:
        relations += f'<p class="note">{explanation.left_out} less probable relations are not shown.</p>'
    how = ""
    if any(p.importance for p in shown):
        how = (
            f'<p class="note">{_escape(NOTE)} The figure is p log(p / p without the sentence); striped and negative: the model is '
            f"surer without it. Framed: evidence, with importance above {explanation.evidence_threshold:g}, or an entity is not "
            "mentioned without it (entity lost).</p>"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>{_escape(document.title)}</title><style>{_CSS}</style></head>\n<body><main>"
        f'<h1>{_escape(document.title)}</h1>\n<p class="text" dir="auto">{text}</p>\n<ul class="names">{names}</ul>\n'
        f"<h2>Relations</h2>{how}\n{relations}\n</main></body></html>\n"
    )


def _escape(text: str) -> str:
    return escaping.escape(_clean(text))


def _html_sentence(document: Document, k: int, entities: Collection[int]) -> str:
    def mark(text: str, entity: int, last: bool) -> str:
        number = f"<sub>{entity}</sub>" if last else ""
        kind = _escape(document.type(entity))
        return f'<span class="m c{entity % _COLOURS}" title="{kind}">{text}{number}</span>'

    return _marked(_pieces(document, k, entities), mark, _escape).rstrip()


def _html_relation(document: Document, p: Prediction, *, is_open: bool) -> str:
    rows = "".join(_html_row(document, p, k) for k in range(len(document))) if p.importance else ""
    head = (
        f"<strong><bdi>{_escape(p.head_name)}</bdi></strong> \u2192 {_escape(p.relation_name)} \u2192 "
        f"<strong><bdi>{_escape(p.tail_name)}</bdi></strong> <small>probability {p.probability:.2f}</small>"
    )
    if not rows:
        return f"<p>{head}</p>\n"
    return (
        f'<details{" open" if is_open else ""}><summary>{head}</summary><ol class="sentences">{rows}</ol></details>\n'
    )


def _html_row(document: Document, p: Prediction, k: int) -> str:
    assert p.importance is not None
    share = _share(p.importance, k)
    classes = " ".join(name for name, holds in (("evidence", k in (p.evidence or ())), ("less", share < 0)) if holds)
    bar = f'<span class="bar"><i style="width:{100 * abs(share):.0f}%"></i></span>' if p.importance.alive[k] else ""
    tag = '<span class="tag">evidence</span>' if k in (p.evidence or ()) else ""
    return (
        f'<li class="{classes}" style="--w:{MOST_SHADE * abs(share):.0f}%"><b>{k}</b>'
        f'<span dir="auto">{_html_sentence(document, k, (p.head, p.tail))}</span>'
        f'<span class="of">{bar}{_figure(p.importance, k)}{tag}</span></li>'
    )


# ---- run's page ----------------------------------------------------------------------------------------------------------


def section(explanation: Explanation, most: int = 5) -> Section:
    """A part of a run's page: the text of the document shaded by importance, once for each of the first relations.

    >>> from fascicle_sief.document import Document
    >>> from fascicle_sief.prediction import Explanation
    >>> doc = Document("d", [["a"]], [])
    >>> nothing = Explanation(document=doc, predictions=(), threshold=0.5, evidence_threshold=0.8, left_out=0)
    >>> section(nothing).blocks[0].data["text"]
    'No relation is above the threshold of 0.5.'
    """
    shown = [p for p in explanation.predictions if p.importance is not None][:most]
    blocks = [_spans(explanation.document, p) for p in shown]
    text = NOTE if shown else "Importance was not asked for."
    if not explanation.predictions:
        text = f"No relation is above the threshold of {explanation.threshold:g}."
    first = Block(kind="text", data={"text": text})
    return Section(
        title=f"Importance of sentences: {explanation.document.title}", blocks=[first, *blocks], plugin="sief"
    )


def _spans(document: Document, p: Prediction) -> Block:
    assert p.importance is not None
    spans = [
        {
            "text": document.text(k) + " ",
            "weight": _share(p.importance, k),
            "label": _figure(p.importance, k) + (", evidence" if k in (p.evidence or ()) else ""),
        }
        for k in range(len(document))
    ]
    caption = f"probability {p.probability:.2f}; each sentence with its importance"
    return Block(kind="spans", title=_title(p), data={"spans": spans, "caption": caption})
