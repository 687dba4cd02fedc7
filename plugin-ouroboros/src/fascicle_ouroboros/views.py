"""What only Ouroboros can show: how many tokens a pass gave, who foretold them, how deep, and where the time went. Plain data."""

from __future__ import annotations

import html as escaping
from typing import TYPE_CHECKING, Any

from fascicle.objects import Block, Section

from .stats import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stats import Stats

__all__ = ["ansi", "html", "sections"]

NAMES = {
    "draft": "draft model",
    "prompt": "phrase of the prompt",
    "output": "phrase of the text itself",
    "history": "phrase of an earlier text",
    "corrected": "phrase as the target corrected it",
    "rejected": "phrase after a refused draft",
    "target": "not foretold",
}
"""Sources in the order in which they are shown."""
_MARKS = {"draft": "D", "prompt": "P", "output": "O", "history": "H", "corrected": "C", "rejected": "R"}
_SGR = {"draft": 34, "prompt": 32, "output": 36, "history": 35, "corrected": 33, "rejected": 31}
_STYLE = {  # light, dark, line
    "draft": ("#1f5fbf", "#8ab8ff", "double"),
    "prompt": ("#1a7a3c", "#7fd99b", "solid"),
    "output": ("#00707a", "#6fd6de", "dashed"),
    "history": ("#8a3fb0", "#d9a5f5", "dotted"),
    "corrected": ("#8a5a00", "#eec06a", "wavy"),
    "rejected": ("#b3261e", "#ff9a91", "solid 3px"),
}
MOST_TOKENS = 600
"""Tokens of the one text that a page shows."""


def sections(stats: Sequence[Stats], tokenizer: Any = None) -> list[Section]:
    """The plugin's part of a run's page.

    Args:
        stats: one for each text.
        tokenizer: of the target; with it the first text is shown with its sources.

    >>> from fascicle_ouroboros.stats import Stats
    >>> stats = Stats(mode="tree")
    >>> stats.add_round(
    ...     fed=3, tokens=[(5, "prompt"), (6, "target")], proposed=["prompt", "prompt"], accepted=["prompt"]
    ... )
    >>> [block.kind for block in sections([stats])[0].blocks]
    ['text', 'bars', 'bars', 'table']
    """
    if not stats:
        return []
    total = stats[0].merge(*stats[1:])
    blocks = [_summary(total, len(stats))]
    if total.by_source:
        blocks += [_by_source(total), _by_depth(total)]
    blocks.append(_time(total))
    if total.timed:
        blocks.append(_prediction(total))
    if tokenizer is not None:
        shown = next((one for one in stats if one.tokens), None)
        blocks += [] if shown is None else [_text(shown, tokenizer)]
    return [Section(title="Ouroboros: who foretold which token", blocks=blocks, plugin="ouroboros")]


def _summary(total: Stats, texts: int) -> Block:
    text = (
        f"{total.emitted:,} tokens of {texts:,} {'text' if texts == 1 else 'texts'} in {total.target_forwards:,} passes of the "
        f"target: {total.tau:.2f} tokens a pass (1.00 is plain decoding)."
    )
    if total.by_source:
        share = total.accepted / total.proposed if total.proposed else 0.0
        text += (
            f" It verified {total.proposed:,} drafted tokens in {total.drafted_rounds:,} of these passes and chose "
            f"{total.accepted:,} of them itself ({100 * share:.0f} %)."
        )
    if total.target_forwards:
        text += (
            f" A pass fed {total.target_tokens_fed / total.target_forwards:.1f} tokens on average, prompts included."
        )
    if total.draft_forwards:
        text += f" The draft model ran {total.draft_forwards:,} times."
    if total.mode:
        text += f"\n\nVerified as: {total.mode}."
    return Block(kind="text", data={"text": text})


def _shown(total: Stats) -> list[str]:
    known = [source for source in NAMES if source in total.by_source]
    return known + sorted(set(total.by_source) - set(known))


def _by_source(total: Stats) -> Block:
    sources = _shown(total)
    accepted = [total.by_source[s]["accepted"] for s in sources]
    refused = [total.by_source[s]["proposed"] - total.by_source[s]["accepted"] for s in sources]
    data = {
        "labels": [NAMES.get(s, s) for s in sources],
        "series": {"accepted": accepted, "refused": refused},
        "unit": "tokens",
    }
    return Block(kind="bars", title="Drafted tokens by source", data=data)


def _by_depth(total: Stats) -> Block:
    share = [100 * n / max(1, total.drafted_rounds) for n in total.accepted_by_depth] or [0.0]
    labels = ["first token", *(f"{d} tokens" for d in range(2, len(share) + 1))]
    data = {"labels": labels, "series": {"accepted": share}, "unit": "% of the passes with a draft"}
    return Block(kind="bars", title="How far drafts were followed", data=data)


def _time(total: Stats) -> Block:
    parts = [*PARTS, *sorted(set(total.seconds) - set(PARTS))]
    whole = sum(total.seconds.values())
    rows = [
        [
            part,
            round(total.seconds.get(part, 0.0), 4),
            f"{100 * total.seconds.get(part, 0.0) / whole:.1f} %" if whole else None,
            round(1e6 * total.seconds.get(part, 0.0) / total.rounds, 1) if total.rounds else None,
        ]
        for part in parts
    ]
    return Block(
        kind="table",
        title="Where the time went",
        data={
            "columns": ["part", "seconds", "share", "µs a pass"],
            "rows": rows,
            "caption": "draft: the draft model; target: its passes; pool: phrases and tree; walk: choosing tokens; kv: caches.",
        },
    )


def _prediction(total: Stats) -> Block:
    rounds = total.timed[:: max(1, len(total.timed) // 200)]
    error = total.prediction_error
    data = {
        "series": {
            "passes": {"x": [1e3 * p for p, _ in rounds], "y": [1e3 * m for _, m in rounds]},
        },
        "x_label": "predicted, ms",
        "y_label": "measured, ms",
    }
    title = "Time of a pass, predicted and measured"
    return Block(
        kind="scatter", title=title if error is None else f"{title} (mean error {100 * error:.0f} %)", data=data
    )


def _text(stats: Stats, tokenizer: Any) -> Block:
    spans = [
        {
            "text": text,
            "weight": None if source == "target" else 1.0,
            "label": "" if source == "target" else source,
        }
        for text, source in _runs(stats.tokens[:MOST_TOKENS], tokenizer)
    ]
    cut = f" The first {MOST_TOKENS} tokens." if len(stats.tokens) > MOST_TOKENS else ""
    caption = f"Shaded: foretold, and by whom. Plain: the target wrote it unaided.{cut}"
    return Block(kind="spans", title="One text and its sources", data={"spans": spans, "caption": caption})


# ---- a text in colours ---------------------------------------------------------------------------------------------------


def _runs(tokens: Sequence[tuple[int, str]], tokenizer: Any) -> list[tuple[str, str]]:
    """The text in runs of one source. A character whose bytes lie in several tokens belongs to the last of them."""
    runs: list[tuple[str, str]] = []
    ids: list[int] = []
    done = ""
    for i, (token, source) in enumerate(tokens):
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        if text.endswith("\ufffd") and i + 1 < len(tokens):
            continue  # half a character
        piece, done = (text[len(done) :] if text.startswith(done) else tokenizer.decode([token])), text
        if len(ids) > 64:  # decode no more than is needed for blanks and joined bytes
            ids = ids[-8:]
            done = tokenizer.decode(ids, skip_special_tokens=False)
        if runs and runs[-1][1] == source:
            runs[-1] = (runs[-1][0] + piece, source)
        elif piece:
            runs.append((piece, source))
    return runs


def ansi(tokens: Sequence[tuple[int, str]], tokenizer: Any) -> str:
    """A text for a terminal: what was foretold is coloured, underlined and begins with a letter for its source.

    >>> class Toy:
    ...     def decode(self, ids, **_):
    ...         return "".join("abc"[i] for i in ids)
    >>> print(ansi([(0, "target"), (1, "prompt"), (2, "prompt")], Toy()).replace(chr(27), "ESC"))
    aESC[32;4m[P:bcESC[24m]ESC[0m
    <BLANKLINE>
    [P: phrase of the prompt]
    """
    parts = []
    runs = _runs(tokens, tokenizer)
    for text, source in runs:
        safe = "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
        mark = _MARKS.get(source)
        parts.append(safe if mark is None else f"\x1b[{_SGR[source]};4m[{mark}:{safe}\x1b[24m]\x1b[0m")
    used = {source for _, source in runs}
    legend = " ".join(f"[{_MARKS[s]}: {NAMES[s]}]" for s in _MARKS if s in used)
    return "".join(parts) + (f"\n\n{legend}" if legend else "")


def html(tokens: Sequence[tuple[int, str]], tokenizer: Any) -> str:
    """A text as one self-contained piece of HTML. Sources differ by colour, by line, and by a letter; light and dark.

    >>> class Toy:
    ...     def decode(self, ids, **_):
    ...         return "".join("a<b"[i] for i in ids)
    >>> page = html([(0, "target"), (1, "draft")], Toy())
    >>> '<mark class="draft" title="draft model">&lt;<sub>D</sub></mark>' in page
    True
    """
    runs = _runs(tokens, tokenizer)
    used = [source for source in _STYLE if any(source == s for _, s in runs)]
    body = "".join(
        escaping.escape(text)
        if source not in _STYLE
        else f'<mark class="{source}" title="{NAMES[source]}">{escaping.escape(text)}<sub>{_MARKS[source]}</sub></mark>'
        for text, source in runs
    )
    legend = "".join(f'<li><mark class="{s}">{_MARKS[s]}</mark> {NAMES[s]}</li>' for s in used)
    return (
        f'<div class="ouroboros"><style>{_css()}</style><p>{body}</p>'
        + (f"<ul>{legend}</ul>" if legend else "")
        + "</div>"
    )


def _css() -> str:
    rules = [
        ".ouroboros{color-scheme:light dark;color:#1b1b1b;background:#fff;padding:.8em;line-height:1.9}",
        ".ouroboros p{white-space:pre-wrap;overflow-wrap:anywhere;max-width:46em;margin:0}",
        ".ouroboros mark{background:none;color:inherit;text-underline-offset:.25em}",
        ".ouroboros sub{font-size:.7em;margin:0 .1em}",
        ".ouroboros ul{list-style:none;padding:0;margin:.8em 0 0;font-size:.9em}",
    ]
    rules += [
        f".ouroboros .{s}{{color:{light};text-decoration:underline {line}}}" for s, (light, _, line) in _STYLE.items()
    ]
    dark = [".ouroboros{color:#e8e8e8;background:#171717}"]
    dark += [f".ouroboros .{s}{{color:{color}}}" for s, (_, color, _) in _STYLE.items()]
    return "".join(rules) + "@media (prefers-color-scheme:dark){" + "".join(dark) + "}"
