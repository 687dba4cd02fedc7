"""The figures of a report, drawn by matplotlib at the width of a phone so that they stay legible when they are not scaled up."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .svg import GRID, HEAT, HEAT_NEGATIVE, INK, PAPER, SERIES, SOFT, clean, draw, series_color

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["MARKS", "Dot", "Line", "bars", "dot_plot", "heatmap", "lines", "scatter", "shape"]

WIDTH = 350
"""Points; one point is one pixel on a phone."""
WIDE = 640
MARKS = "●■▲◆▼✚✖"
"""What a legend shows for `shape(0)`, `shape(1)`, ..."""
_SHAPES = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
_MOST_POINTS = 400
_MOST_TEXTS = 40
_MOST_CELLS = 80
_LARGEST = 1e100
"""Beyond it, the arithmetic of an axis overflows; such a number is drawn at the edge."""


@dataclass(kw_only=True)
class Dot:
    """One arm in a dot plot: its mean, an interval around it, and the single runs."""

    name: str
    index: int | None
    """Colour and shape; None: the baseline."""
    mean: float
    low: float | None = None
    high: float | None = None
    points: Sequence[float] = ()


@dataclass(kw_only=True)
class Line:
    """One line with an optional band."""

    name: str
    index: int | None
    x: Sequence[float | None]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


def shape(index: int | None) -> str:
    """Marker of a series, so that colour is never the only cue.

    >>> shape(0), shape(None)
    ('o', 'o')
    """
    return _SHAPES[(index or 0) % len(_SHAPES)]


def _dash(index: int | None) -> Any:
    return _DASHES[(index or 0) // len(SERIES) % len(_DASHES)]


def dot_plot(ident: str, dots: Sequence[Dot], *, x_label: str, zero: bool = False) -> Markup | None:
    """Means with intervals, one row per arm, its name above. None where there is nothing to draw."""
    dots = [dot for dot in dots if math.isfinite(dot.mean)]
    if not dots:
        return None
    names = [textwrap.wrap(clean(dot.name), 46)[:3] or [""] for dot in dots]
    heights = [13.5 * len(name) + 20 for name in names]
    body = sum(heights)
    foot, head = 36.0, 2.0

    def paint(figure: Any) -> None:
        axes = figure.add_axes((8 / WIDTH, foot / (body + foot + head), 1 - 16 / WIDTH, body / (body + foot + head)))
        if zero:
            axes.axvline(0, color=SOFT, linewidth=1)
        y = body
        for dot, name, height in zip(dots, names, heights, strict=True):
            y -= height
            color, line = series_color(dot.index), y + 10
            axes.axhline(line, color=GRID, linewidth=0.6, zorder=0)
            if dot.low is not None and dot.high is not None:
                axes.plot([dot.low, dot.high], [line, line], color=color, linewidth=2, solid_capstyle="butt")
            if dot.points:
                axes.plot(
                    dot.points, [line] * len(dot.points), "|", color=color, markersize=9, markeredgewidth=1, alpha=0.75
                )
            axes.plot([dot.mean], [line], shape(dot.index), color=color, markersize=7, markeredgecolor=PAPER)
            axes.text(0, line + 8, "\n".join(name), transform=axes.get_yaxis_transform(), va="bottom", linespacing=1.25)
        axes.set_ylim(0, body)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(_few_ticks(6))
        axes.set_xlabel(clean(x_label))

    return draw(ident, WIDTH, body + foot + head, paint, label=f"{x_label}, by arm")


def lines(
    ident: str, series: Sequence[Line], *, x_label: str = "", y_label: str = "", log_y: bool = False
) -> Markup | None:
    """Lines with bands. None where no point is a number."""
    import numpy as np

    drawn = []
    for line in series:
        columns = [_floats(values) for values in (line.x, line.y, line.low, line.high) if values is not None]
        keep = np.isfinite(columns[0]) & np.isfinite(columns[1])
        if log_y:
            keep &= columns[1] > 0
        if keep.any():
            drawn.append((line, [_thin(column[keep]) for column in columns]))
    if not drawn:
        return None

    def paint(figure: Any) -> None:
        axes = figure.add_axes(_frame(WIDTH, 215, left=46, bottom=36))
        for line, columns in drawn:
            color = series_color(line.index)
            if len(columns) == 4:
                axes.fill_between(columns[0], columns[2], columns[3], color=color, alpha=0.18, linewidth=0)
            every = max(1, len(columns[0]) // 8)
            axes.plot(
                columns[0],
                columns[1],
                color=color,
                linestyle=_dash(line.index),
                marker=shape(line.index),
                markersize=4.5,
                markevery=((line.index or 0) % every, every),
            )
        _label_axes(axes, x_label, y_label, log_y=log_y)

    return draw(ident, WIDTH, 215, paint, label=f"{y_label or 'values'} by {x_label or 'x'}")


def scatter(
    ident: str, series: Mapping[str, Mapping[str, Any]], *, x_label: str = "", y_label: str = ""
) -> Markup | None:
    """Points by series, with their texts while there are few."""
    import numpy as np

    drawn = [
        (index, _floats(data["x"]), _floats(data["y"]), data.get("text")) for index, data in enumerate(series.values())
    ]
    drawn = [item for item in drawn if (np.isfinite(item[1]) & np.isfinite(item[2])).any()]
    if not drawn:
        return None
    texts = sum(len(item[3] or ()) for item in drawn)

    def paint(figure: Any) -> None:
        axes = figure.add_axes(_frame(WIDTH, 290, left=46, bottom=36))
        for index, x, y, text in drawn:
            axes.plot(
                x,
                y,
                shape(index),
                color=series_color(index),
                markersize=6.5,
                alpha=0.9,
                markeredgecolor=PAPER,
                linewidth=0,
            )
            if text and texts <= _MOST_TEXTS:
                for word, px, py in zip(text, x, y, strict=True):
                    if math.isfinite(px) and math.isfinite(py):
                        axes.annotate(
                            clean(textwrap.shorten(word, 24, placeholder="…")),
                            (px, py),
                            xytext=(4, 3),
                            textcoords="offset points",
                            fontsize=8,
                        )
        axes.margins(0.08)
        _label_axes(axes, x_label, y_label)

    return draw(ident, WIDTH, 290, paint, label=f"{y_label or 'y'} against {x_label or 'x'}")


def bars(
    ident: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    unit: str = "",
    marked: Sequence[int] = (),
) -> Markup | None:
    """Bars: lying where labels are words, standing where they are short or many. Marked ones are full, the rest pale."""
    import numpy as np

    values = [_floats(column) for column in series.values()]
    n = len(labels)
    if not n or not any(np.isfinite(column).any() for column in values):
        return None
    labels = [clean(label) for label in labels]
    lying = n <= _MOST_TEXTS and max(len(label) for label in labels) > 4
    width = WIDE if not lying and n > 60 else WIDTH
    thick = 0.8 / len(values)
    at = np.arange(n)
    alphas = [1.0 if not marked or i in set(marked) else 0.38 for i in range(n)]
    names = [_shorten(label, 24) for label in labels]
    left = 8 + 6.0 * max(len(name) for name in names) if lying else 46.0
    height = max(60.0, n * max(15.0, 9.0 * len(values))) + 42 if lying else 215.0

    def paint(figure: Any) -> None:
        axes = figure.add_axes(_frame(width, height, left=left, bottom=36))
        for index, column in enumerate(values):
            offset = at + (index - (len(values) - 1) / 2) * thick
            draw_bars = axes.barh if lying else axes.bar
            patches = draw_bars(offset, np.nan_to_num(column), thick * 0.9, color=series_color(index))
            for patch, alpha in zip(patches, alphas, strict=True):
                patch.set_alpha(alpha)
        if lying:
            axes.set_yticks(at, names)
            axes.set_ylim(n - 0.4, -0.6)
            axes.xaxis.set_major_locator(_few_ticks(4))
            axes.grid(axis="x")
            axes.set_xlabel(clean(unit))
        else:
            step = math.ceil(n * max(len(label) for label in labels) * 7 / (width - 60)) if n else 1
            axes.set_xticks(at[:: max(1, step)], labels[:: max(1, step)])
            axes.set_xlim(-0.6, n - 0.4)
            axes.yaxis.set_major_locator(_few_ticks(5))
            axes.grid(axis="y")
            axes.set_ylabel(clean(unit))

    return draw(ident, width, height, paint, label="bars", wide=width > WIDTH)


def heatmap(
    ident: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    marked: Sequence[Sequence[int]] = (),
) -> tuple[Markup, float, float, bool] | None:
    """(figure, lowest, highest, pooled?): shade by strength, a second hue for negatives, marks as outlines.

    More than 80 rows or columns are averaged in blocks, and marks are then left out.
    """
    import numpy as np

    grid = np.array([_floats(row) for row in values]).reshape(len(rows), len(columns))
    if not grid.size or not np.isfinite(grid).any():
        return None
    row_names, column_names = [clean(name) for name in rows], [clean(name) for name in columns]
    lowest, highest = float(np.nanmin(grid)), float(np.nanmax(grid))
    pooled = max(grid.shape) > _MOST_CELLS
    grid, row_names = _pool(grid, row_names)
    transposed, column_names = _pool(grid.T, column_names)
    grid = transposed.T
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    strength = _strength(grid, low, high)
    height_n, width_n = grid.shape
    row_names = [_shorten(name, 24) for name in row_names]
    column_names = [_shorten(name, 16) for name in column_names]
    left = 10 + 6.0 * max(map(len, row_names))
    tall = 10 + 6.0 * max(map(len, column_names)) if max(map(len, column_names)) > 2 else 18.0
    width = WIDE if left + width_n * 13 > WIDTH + 40 else WIDTH
    cell = max(9.0, min(30.0, (width - left - 8) / width_n))
    height = height_n * min(cell, 22.0) + tall + 6
    written = cell >= 26 and height_n * width_n <= 200

    def paint(figure: Any) -> None:
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import to_rgba
        from matplotlib.patches import Rectangle

        axes = figure.add_axes(
            (left / width, tall / height, min(1 - (left + 4) / width, cell * width_n / width), 1 - (tall + 6) / height)
        )
        known = [(i, j) for i in range(height_n) for j in range(width_n) if math.isfinite(grid[i, j])]
        corners = np.array([(-0.48, -0.48), (0.48, -0.48), (0.48, 0.48), (-0.48, 0.48)])
        squares = [corners + np.array((j, i)) for i, j in known]
        shades = [to_rgba(HEAT if grid[i, j] >= 0 else HEAT_NEGATIVE, strength[i, j]) for i, j in known]
        axes.add_collection(PolyCollection(squares, facecolors=shades, linewidths=0), autolim=False)
        missing = np.argwhere(~np.isfinite(grid))
        axes.plot(missing[:, 1], missing[:, 0], ".", color=SOFT, markersize=2.5)
        if written:
            for i, j in known:
                axes.text(j, i, f"{grid[i, j]:.2g}".replace("-", "−"), ha="center", va="center", fontsize=7.5)
        if not pooled:
            for i, j in marked:
                axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.3))
        every = max(1, math.ceil(11 / (cell if tall > 18 else max(cell, 1))))
        axes.set_xticks(range(0, width_n, every), column_names[::every], rotation=90 if tall > 18 else 0)
        down = max(1, math.ceil(10 / min(cell, 22.0)))
        axes.set_yticks(range(0, height_n, down), row_names[::down])
        axes.set_xlim(-0.5, width_n - 0.5)
        axes.set_ylim(height_n - 0.5, -0.5)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return draw(ident, width, height, paint, label="heatmap", wide=width > WIDTH), lowest, highest, pooled


def _strength(grid: Any, low: float, high: float) -> Any:
    """Opacity 0.06 to 0.85: from the lowest value where all have one sign, from zero where they do not."""
    import numpy as np

    if low < 0 < high:
        share = np.abs(grid) / max(-low, high)
    elif high == low:
        share = np.full(grid.shape, 0.5)
    else:
        share = (grid - low) / (high - low) if low >= 0 else (high - grid) / (high - low)
    return 0.06 + 0.79 * np.clip(share, 0, 1)


def _pool(grid: Any, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Average rows in blocks until there are at most `_MOST_CELLS`."""
    import numpy as np

    block = math.ceil(len(names) / _MOST_CELLS)
    if block <= 1:
        return grid, list(names)
    pieces = [grid[i : i + block] for i in range(0, len(names), block)]
    return np.array([np.nanmean(piece, axis=0) if piece.size else piece for piece in pieces]), list(names[::block])


def _thin(column: Any) -> Any:
    """At most `_MOST_POINTS`, each the mean of its neighbours."""
    import numpy as np

    if len(column) <= _MOST_POINTS:
        return column
    return np.array([piece.mean() for piece in np.array_split(column, _MOST_POINTS)])


def _floats(values: Sequence[float | None]) -> Any:
    import numpy as np

    numbers = np.array([math.nan if value is None else float(value) for value in values], dtype=float)
    return np.clip(numbers, -_LARGEST, _LARGEST)


def _frame(width: float, height: float, *, left: float, bottom: float) -> tuple[float, float, float, float]:
    return left / width, bottom / height, 1 - (left + 8) / width, 1 - (bottom + 6) / height


def _few_ticks(count: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3)


def _label_axes(axes: Any, x_label: str, y_label: str, *, log_y: bool = False) -> None:
    if log_y:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(_few_ticks(5))
    axes.xaxis.set_major_locator(_few_ticks(5))
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(clean(x_label))
    axes.set_ylabel(clean(y_label))


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width - width // 2) :]}"
