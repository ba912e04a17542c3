"""Pictures of a comparison: curves over the steps, and reconstructions side by side; legible in print."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokenizer.compare.measures import Points
from tokenizer.compare.ranking import ContestantRow, Ranking, mean_curve
from tokenizer.html import DPI, Ink, Plot, make_plot, new_figure, style_axes
from tokenizer.images import Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = ("-", "--", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_CELL = 256 / DPI
_GAP = 0.06
# More of them would hide each other.
_MOST_BANDS = 6


def draw_curves(ranking: Ranking) -> Plot:
    """Return validation PSNR and used codes over the steps, a line for each contestant, best first."""
    alt = "Validation PSNR and share of codes used over the training steps, a line for each quantizer"
    return make_plot(lambda ink: _curves(ranking, ink), alt)


def _curves(ranking: Ranking, ink: Ink) -> Figure:
    longest = max((len(row.label) for row in ranking.ranked), default=0)
    columns = max(1, min(len(ranking.ranked), 4 if longest < 16 else 3 if longest < 26 else 2 if longest < 44 else 1))
    drawn = new_figure(11, 4.9 + 0.27 * -(-len(ranking.ranked) // columns), ink)
    left, right = drawn.subplots(1, 2)
    for number, row in enumerate(ranking.ranked):
        _line(left, ink, number, row, [result.curves.psnr for result in row.results], 1, band=has_bands(ranking))
        _line(right, ink, number, row, [result.curves.used for result in row.results], 100, band=has_bands(ranking))
    style_axes(left, ink, "validation PSNR (dB)", "step")
    style_axes(right, ink, "codes used (%)", "step")
    right.set_ylim(0, 103)
    lines, labels = left.get_legend_handles_labels()
    drawn.legend(
        lines, labels, loc="outside lower center", ncols=columns, fontsize=12, frameon=False, labelcolor=ink.text
    )
    return drawn


def has_bands(ranking: Ranking) -> bool:
    """Say whether the curves show what lies between the seeds."""
    return len(ranking.ranked) <= _MOST_BANDS and any(len(row.results) > 1 for row in ranking.ranked)


def _line(
    axes: Axes, ink: Ink, number: int, row: ContestantRow, each: Sequence[Points], scale: float, *, band: bool
) -> None:
    """Draw the mean curve of one contestant, and what lies between its seeds' lowest and highest as a band."""
    points = mean_curve(each)
    if not points:
        return
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    colors = len(ink.lines)
    color = ink.lines[number % colors]
    axes.plot(
        steps,
        scale * values,
        color=color,
        linestyle=_STYLES[number // colors % len(_STYLES)],
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4,
        linewidth=1.6,
        label=f"{row.rank}  {row.label}",
        zorder=3 + colors - number % colors,
    )
    if band and len(each) > 1:
        seeds = np.array([np.interp(steps, *np.array(curve).T) for curve in each])
        axes.fill_between(steps, scale * seeds.min(0), scale * seeds.max(0), color=color, alpha=0.12, linewidth=0)


def draw_reconstructions(originals: Sequence[Pixels], made: Sequence[tuple[str, Sequence[Pixels]]]) -> Plot:
    """Return originals and, below them, what each contestant's tokens decode to.

    Args:
        originals: (H, W, 3) uint8 pictures.
        made: label and pictures of each contestant, in the same order.
    """
    rows = [(_wrapped(label), pictures) for label, pictures in (("original", originals), *made)]
    alt = "Validation originals, and below them what each quantizer's tokens decode to"
    return make_plot(lambda ink: _sheet(rows, ink), alt)


def _sheet(rows: Sequence[tuple[str, Sequence[Pixels]]], ink: Ink) -> Figure:
    margin = 0.3 + 0.14 * max(len(line) for label, _ in rows for line in label.splitlines())
    width, height = margin + len(rows[0][1]) * (_CELL + _GAP) + _GAP, len(rows) * (_CELL + _GAP) + _GAP
    drawn = new_figure(width, height, ink, constrained=False)
    for number, (label, pictures) in enumerate(rows):
        bottom = height - (number + 1) * (_CELL + _GAP)
        middle = (bottom + _CELL / 2) / height
        drawn.text(0.1 / width, middle, label, va="center", fontsize=15, color=ink.text)
        for column, picture in enumerate(pictures):
            start = margin + column * (_CELL + _GAP)
            axes = drawn.add_axes((start / width, bottom / height, _CELL / width, _CELL / height))
            axes.imshow(picture)
            axes.set_axis_off()
    return drawn


def _wrapped(label: str) -> str:
    return "\n".join(line for part in label.splitlines() for line in textwrap.wrap(part, 24))
