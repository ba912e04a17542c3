"""Plots for a page: each drawn twice, for light and for dark."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150


@dataclass(frozen=True)
class Ink:
    """Colors of one scheme.

    Attributes:
        paper: behind everything.
        text: of titles, ticks and labels.
        grid: of lines in the background.
        lines: one after the other; Okabe and Ito's, which the color-blind tell apart, without what the paper swallows.
    """

    paper: str
    text: str
    grid: str
    lines: tuple[str, ...]


LIGHT = Ink(
    "#ffffff", "#1b1b1b", "#dddddd", ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
)
DARK = Ink(
    "#16181b", "#e8e8e8", "#3a3d42", ("#ffffff", "#56B4E9", "#E69F00", "#2FC79A", "#CC79A7", "#F0E442", "#D55E00")
)


@dataclass(frozen=True)
class Plot:
    """A plot as PNG on light and on dark, what it shows in words, and what stands below it."""

    light: bytes
    dark: bytes
    alt: str
    caption: str = ""


def make_plot(draw: Callable[[Ink], Figure], alt: str, caption: str = "") -> Plot:
    """Return what `draw` makes with either ink."""
    return Plot(figure_png(draw(LIGHT)), figure_png(draw(DARK)), alt, caption)


def new_figure(width: float, height: float, ink: Ink, *, constrained: bool = True) -> Figure:
    """Return an empty figure, in inches; its layout leaves room for labels when `constrained`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained" if constrained else None, facecolor=ink.paper)


def style_axes(axes: Axes, ink: Ink, title: str, x: str = "", y: str = "", size: float = 12) -> None:
    """Give axes their title, labels and colors; `size` is of the ticks' text in points."""
    axes.set_facecolor(ink.paper)
    axes.set_title(title, loc="left", fontsize=size + 2, color=ink.text)
    axes.set_xlabel(x, fontsize=size + 1, color=ink.text)
    axes.set_ylabel(y, fontsize=size + 1, color=ink.text)
    axes.tick_params(which="both", labelsize=size, colors=ink.text)
    axes.grid(color=ink.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(ink.text)
    axes.spines[["top", "right"]].set_visible(False)


def figure_png(figure: Figure) -> bytes:
    """Return a figure as PNG; no setting of matplotlib is changed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()
