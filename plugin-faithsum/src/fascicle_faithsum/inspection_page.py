"""An explanation as one HTML page: no request to anywhere, every text escaped, whole without scripts."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .inspection import Explanation

__all__ = ["page"]

_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1c;--paper:#fff;--line:#ccc;--mark:217,119,6;--source:37,99,235}
@media(prefers-color-scheme:dark){:root{--ink:#eee;--paper:#161616;--line:#444;--source:96,165,250}}
body{font:16px/1.6 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:46rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem}h2{font-size:1.2rem;margin-top:2rem;border-top:1px solid var(--line);padding-top:1rem}
h3{font-size:1rem;margin-top:1.4rem}p{overflow-wrap:anywhere}
.s{white-space:pre-wrap}.s.on{outline:2px solid rgb(var(--mark));border-radius:3px}
.s.open{text-decoration:underline 2px rgb(var(--mark));text-underline-offset:3px}
.w.on{box-shadow:inset 0 -.6em rgba(var(--source),.35)}
.t{white-space:pre-wrap;cursor:pointer;border-bottom:1px dotted var(--line)}.t:focus,.t:hover{background:rgba(var(--mark),.35)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid var(--line)}
"""
_SCRIPT = """
document.querySelectorAll("article").forEach(a=>{const told=JSON.parse(a.querySelector("script").textContent),
spans=[...a.querySelectorAll(".s")],words=[...a.querySelectorAll(".w")];
a.querySelectorAll(".t").forEach((t,i)=>{const on=()=>{const leant=told.leant[i],run=told.span[i],top=Math.max(...leant);
spans.forEach((s,k)=>s.classList.toggle("on",top>0&&leant[k]>=top/2));
words.forEach(w=>w.classList.toggle("on",run!==null&&+w.dataset.n>=run[0]&&+w.dataset.n<=run[1]))};
for(const e of ["mouseenter","focus","click"])t.addEventListener(e,on)})});
"""


def page(explanations: Explanation | Sequence[Explanation]) -> str:
    """The page, of one document or of several.

    A summary token that is pointed at outlines the sentences that its guidance attention lay on most, and marks the shortest part
    of the document with half of its attention to the source.
    """
    from .inspection import Explanation

    told = [explanations] if isinstance(explanations, Explanation) else list(explanations)
    title = "What guided a summary" if len(told) == 1 else f"What guided {len(told)} summaries"
    articles = "".join(_article(one, number if len(told) > 1 else None) for number, one in enumerate(told, start=1))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        "<p>Point at a word of a summary, or tap it: the sentences whose guidance it leant on are outlined, and where it looked in "
        "the document is marked blue. Shade: probability that a sentence guides, before the summary is known. Underlined: "
        f"what the summary was guided by.</p>{articles}<script>{_SCRIPT}</script></body></html>"
    )


def _article(explanation: Explanation, number: int | None) -> str:
    count = range(len(explanation.summary_tokens))
    leant = [[round(x, 5) for x in explanation.leant_on(n)] for n in count]
    titles = [escape(_title(explanation, n, leant[n])) for n in count]
    tokens = "".join(
        f'<span class="t" tabindex="0" title="{title}">{escape(token)}</span>'
        for title, token in zip(titles, explanation.summary_tokens, strict=True)
    )
    source, rows = [], []
    for place, sentence in enumerate(explanation.sentences):
        chance, opened = explanation.prior[place], explanation.gate[place]
        told = f'class="{"s open" if opened > 0 else "s"}" title="sentence {sentence}: {chance:.3f}"'
        shade = f'style="background:rgba(var(--mark),{0.6 * chance:.3f})"'
        source.append(f"<span {told} {shade}>{_words(explanation, sentence)}</span> ")
        moved = explanation.sentence_nll
        nll = "" if moved is None else f"<td>{moved[place]:.3f}</td>"
        rows.append(
            f"<tr><td>{sentence}</td><td>{opened:.2f}</td><td>{chance:.3f}</td><td>{explanation.posterior[place]:.3f}</td>{nll}"
            f"<td>{escape(explanation.document.sentence(sentence))}</td></tr>"
        )
    lost = "" if explanation.sentence_nll is None else "<th>nats lost by the summary, guided here</th>"
    head = f"<tr><th>#</th><th>open</th><th>prior</th><th>posterior</th>{lost}<th>sentence</th></tr>"
    data = json.dumps({"leant": leant, "span": [explanation.span(n) for n in count]})
    by = "you" if explanation.given else "the model"
    title = "" if number is None else f"<h2>Document {number}</h2>"
    return (
        f"<article>{title}<h3>Summary, guided by {by}</h3><p>{tokens}</p><h3>Document</h3><p>{''.join(source)}</p>"
        f'<h3>Sentences</h3><div class="wide"><table>{head}{"".join(rows)}</table></div>'
        f'<script type="application/json">{data}</script></article>'
    )


def _words(explanation: Explanation, sentence: int) -> str:
    """The sentence's tokens, each with its number; what stands between them as it is."""
    document = explanation.document
    start, end = document.spans[sentence]
    parts, at = [], start
    for number, (segment, (a, b)) in enumerate(zip(document.segments, document.offsets, strict=True)):
        first = max(a, at)
        if segment == sentence and b > first:
            word = f'<span class="w" data-n="{number}">{escape(document.text[first:b])}</span>'
            parts += [escape(document.text[at:first]), word]
            at = b
    return "".join(parts) + escape(document.text[at:end].rstrip())


def _title(explanation: Explanation, token: int, row: list[float]) -> str:
    place = max(range(len(row)), key=row.__getitem__, default=None)
    on = "" if place is None else f"most on sentence {explanation.sentences[place]}: {row[place]:.2f}; "
    return f"{on}looked at: {explanation.span_text(token)}"
