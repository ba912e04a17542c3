"""Pictures of a comparison: curves over the steps, and reconstructions side by side. PNG, legible in print."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokenizer.compare.figures import Points
from tokenizer.compare.table import Row, Table, mean_curve
from tokenizer.images import Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow that paper swallows.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_STYLES = ("-", "--", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_CELL = 256 / _DPI
_GAP = 0.06
# More of them would hide each other.
_MOST_BANDS = 6


def curves(table: Table) -> bytes:
    """Return the PNG of held-out PSNR and used codes over the steps, a line for each contestant, best first."""
    longest = max((len(row.label) for row in table.ranked), default=0)
    columns = max(1, min(len(table.ranked), 4 if longest < 16 else 3 if longest < 26 else 2 if longest < 44 else 1))
    figure = _figure(11, 4.9 + 0.27 * -(-len(table.ranked) // columns))
    left, right = figure.subplots(1, 2)
    for number, row in enumerate(table.ranked):
        _line(left, number, row, [result.curves.psnr for result in row.results], 1, band=banded(table))
        _line(right, number, row, [result.curves.used for result in row.results], 100, band=banded(table))
    _dress(left, "held-out PSNR (dB)")
    _dress(right, "codes used (%)")
    right.set_ylim(0, 103)
    lines, labels = left.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=columns, fontsize=12, frameon=False)
    return _png(figure)


def banded(table: Table) -> bool:
    """Say whether the curves show what lies between the seeds."""
    return len(table.ranked) <= _MOST_BANDS and any(len(row.results) > 1 for row in table.ranked)


def _line(axes: Axes, number: int, row: Row, each: Sequence[Points], scale: float, *, band: bool) -> None:
    """Draw the mean curve of one contestant, and what lies between its seeds' lowest and highest as a band."""
    points = mean_curve(each)
    if not points:
        return
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    colour = _COLOURS[number % len(_COLOURS)]
    axes.plot(
        steps,
        scale * values,
        color=colour,
        linestyle=_STYLES[number // len(_COLOURS) % len(_STYLES)],
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4,
        linewidth=1.6,
        label=f"{row.rank}  {row.label}",
        zorder=3 + len(_COLOURS) - number % len(_COLOURS),
    )
    if band and len(each) > 1:
        seeds = np.array([np.interp(steps, *np.array(curve).T) for curve in each])
        axes.fill_between(steps, scale * seeds.min(0), scale * seeds.max(0), color=colour, alpha=0.12, linewidth=0)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=14)
    axes.set_xlabel("step", fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def reconstructions(originals: Sequence[Pixels], made: Sequence[tuple[str, Sequence[Pixels]]]) -> bytes:
    """Return the PNG of originals and, below them, what each contestant's tokens decode to.

    Args:
        originals: (H, W, 3) uint8 pictures.
        made: label and pictures of each contestant, in the same order.
    """
    rows = [(_wrapped(label), pictures) for label, pictures in (("original", originals), *made)]
    margin = 0.3 + 0.14 * max(len(line) for label, _ in rows for line in label.splitlines())
    width, height = margin + len(originals) * (_CELL + _GAP) + _GAP, len(rows) * (_CELL + _GAP) + _GAP
    figure = _figure(width, height, constrained=False)
    for number, (label, pictures) in enumerate(rows):
        bottom = height - (number + 1) * (_CELL + _GAP)
        figure.text(0.1 / width, (bottom + _CELL / 2) / height, label, va="center", fontsize=15)
        for column, picture in enumerate(pictures):
            start = margin + column * (_CELL + _GAP)
            axes = figure.add_axes((start / width, bottom / height, _CELL / width, _CELL / height))
            axes.imshow(picture)
            axes.set_axis_off()
    return _png(figure)


def _wrapped(label: str) -> str:
    return "\n".join(line for part in label.splitlines() for line in textwrap.wrap(part, 24))


def _figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained" if constrained else None, facecolor="white")


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()
