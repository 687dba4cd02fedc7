"""An explanation as one HTML page: no request to anywhere, every text escaped, whole without scripts."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inspection import Explanation

__all__ = ["page"]

_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1c;--paper:#fff;--line:#ccc;--mark:217,119,6}
@media(prefers-color-scheme:dark){:root{--ink:#eee;--paper:#161616;--line:#444}}
body{font:16px/1.6 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:46rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.6rem}p{overflow-wrap:anywhere}
.s{white-space:pre-wrap}.s.on{outline:2px solid rgb(var(--mark));border-radius:3px}
.t{white-space:pre-wrap;cursor:pointer;border-bottom:1px dotted var(--line)}.t:focus,.t:hover{background:rgba(var(--mark),.35)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid var(--line)}
"""
_SCRIPT = """
const leant=JSON.parse(document.getElementById("leant").textContent),spans=[...document.querySelectorAll(".s")];
document.querySelectorAll(".t").forEach((t,i)=>{const on=()=>{const top=Math.max(...leant[i]);
spans.forEach((s,k)=>s.classList.toggle("on",top>0&&leant[i][k]>=top/2))};
for(const e of ["mouseenter","focus","click"])t.addEventListener(e,on)});
"""


def page(explanation: Explanation) -> str:
    """The page; a summary token that is pointed at outlines the sentences that its guidance attention lay on most."""
    leant = [[round(x, 5) for x in explanation.leant_on(n)] for n in range(len(explanation.summary_tokens))]
    tokens = "".join(
        f'<span class="t" tabindex="0" title="{escape(_title(explanation, row))}">{escape(token)}</span>'
        for token, row in zip(explanation.summary_tokens, leant, strict=True)
    )
    source, rows = [], []
    for place, number in enumerate(explanation.sentences):
        chance, text = explanation.prior[place], escape(explanation.document.sentence(number))
        shade = f"background:rgba(var(--mark),{0.6 * chance:.3f})"
        source.append(f'<span class="s" style="{shade}" title="sentence {number}: {chance:.3f}">{text}</span> ')
        moved = explanation.sentence_nll
        nll = "" if moved is None else f"<td>{moved[place]:.3f}</td>"
        rows.append(
            f"<tr><td>{number}</td><td>{chance:.3f}</td><td>{explanation.posterior[place]:.3f}</td>{nll}<td>{text}</td></tr>"
        )
    told = "" if explanation.sentence_nll is None else "<th>nats lost by the summary, guided here</th>"
    head = f"<tr><th>#</th><th>prior</th><th>posterior</th>{told}<th>sentence</th></tr>"
    data = json.dumps(leant)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>What guided a summary</title><style>{_STYLE}</style></head><body><h1>What guided a summary</h1>"
        f"<h2>Summary</h2><p>{tokens}</p><p>Point at a word, or tap it, to see the sentences that it leant on.</p>"
        f"<h2>Document</h2><p>{''.join(source)}</p><p>Shade: probability that the sentence guides, before the summary is known.</p>"
        f'<h2>Sentences</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'
        f'<script type="application/json" id="leant">{data}</script><script>{_SCRIPT}</script></body></html>'
    )


def _title(explanation: Explanation, row: list[float]) -> str:
    place = max(range(len(row)), key=row.__getitem__, default=None)
    return "" if place is None else f"most on sentence {explanation.sentences[place]}: {row[place]:.2f}"
