"""Turns a matplotlib figure into inline SVG for our page: themed by CSS variables, text as text, nothing from outside.

Figures are drawn in marker colours that stand for roles (ink, grid, series 3); here each becomes a CSS variable, so one figure
is readable on light and dark. The XML is parsed and written anew, so no text that a user wrote is ever touched by a pattern.
"""

from __future__ import annotations

import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup, escape

__all__ = ["BASE", "GRID", "HEAT", "HEAT_NEGATIVE", "INK", "PAPER", "SERIES", "SOFT", "clean", "draw", "series_color"]

INK, SOFT, GRID, PAPER, BASE, HEAT, HEAT_NEGATIVE = (f"#01020{i}" for i in range(7))
SERIES = tuple(f"#01021{i}" for i in range(7))
_VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    BASE: "var(--base)",
    HEAT: "var(--heat)",
    HEAT_NEGATIVE: "var(--heat-negative)",
    **{color: f"var(--s{i})" for i, color in enumerate(SERIES)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fascicle",
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
}
_NUMBER = re.compile(r"-?\d+\.\d+")
_KEEP = frozenset({"id", "d", "x", "y", "transform", "clip-path", "style", "width", "height", "href", "viewBox"})
_DROP = frozenset({"metadata", "style", "title", "desc", "script", "image"})


def series_color(index: int | None) -> str:
    """Marker colour of a series; None is the baseline's grey.

    >>> series_color(0) == series_color(7)
    True
    """
    return BASE if index is None else SERIES[index % len(SERIES)]


def clean(text: str) -> str:
    """Text without characters that XML and HTML cannot hold (control characters, lone surrogates).

    >>> clean("a\\x00b\\ud800c\\n")
    'abc\\n'
    """
    return "".join(
        char
        for char in text
        if char in "\t\n" or (unicodedata.category(char) not in ("Cc", "Cs") and ord(char) & 0xFFFE != 0xFFFE)
    )


def draw(
    ident: str, width: float, height: float, paint: Callable[[Any], None], *, label: str, wide: bool = False
) -> Markup:
    """Paint a figure of `width` x `height` points and return it as inline SVG whose ids all begin with `ident`.

    Args:
        ident: unique on the page.
        width: in points; the page scales the figure to its column.
        height: in points.
        paint: receives the matplotlib `Figure`.
        label: what a screen reader says.
        wide: keep it legible on a phone by scrolling instead of shrinking.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    quiet = logging.getLogger("matplotlib")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(), warnings.catch_warnings():
            mpl.rcdefaults()  # a user's matplotlibrc must not change the page
            mpl.rcParams.update(_STYLE)
            warnings.simplefilter("ignore")  # missing glyphs: the reader's browser has them
            figure = Figure(figsize=(width / 72, height / 72), dpi=72)
            FigureCanvasSVG(figure)
            paint(figure)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    finally:
        quiet.setLevel(level)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - written by matplotlib a moment ago
    parts: list[str] = []
    _write(root, f"{ident}-", parts, top=f' role="img" aria-label="{escape(clean(label))}"', wide=wide)
    return Markup("".join(parts))  # noqa: S704 - every text and attribute was escaped on the way


def _write(node: ElementTree.Element, prefix: str, parts: list[str], top: str = "", wide: bool = False) -> None:
    tag = _local(node.tag)
    if tag in _DROP:
        return
    parts.append(f"<{tag}")
    if top:
        _, _, width, _ = node.attrib["viewBox"].split()
        css = "figure wide" if wide else "figure"
        parts.append(f'{top} class="{css}" style="--w: {float(width):.0f}" viewBox="{escape(node.attrib["viewBox"])}"')
    else:
        for name, value in node.attrib.items():
            key = _local(name)
            if key in _KEEP:
                parts.append(f' {key}="{escape(_attribute(key, value, prefix))}"')
    parts.append(">")
    if node.text and tag in ("text", "tspan"):
        parts.append(str(escape(node.text)))
    for child in node:
        _write(child, prefix, parts)
        if child.tail and tag == "text":
            parts.append(str(escape(child.tail)))
    parts.append(f"</{tag}>")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key == "href":
        return f"#{prefix}{value.removeprefix('#')}"
    if key == "clip-path":
        return value.replace("url(#", f"url(#{prefix}")
    if key == "style":
        return _theme(value)
    if key in ("d", "x", "y", "transform"):
        return _NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), " ".join(value.split()))
    return value


def _theme(style: str) -> str:
    """Marker colours become variables; the font becomes the page's, in the size that was drawn."""
    kept = []
    for part in style.split(";"):
        name, _, value = (word.strip() for word in part.partition(":"))
        if name == "font":
            size = re.search(r"[\d.]+px", value)
            kept += [f"font-size: {size[0]}"] if size else []
            kept += ["font-weight: 700"] if "bold" in value.split("px")[0] or "700" in value.split("px")[0] else []
        elif name in ("fill", "stroke"):
            kept.append(f"{name}: {_VARIABLES.get(value, value)}")
        elif name and name != "font-family":
            kept.append(f"{name}: {value}")
    return "; ".join(kept)
