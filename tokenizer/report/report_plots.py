"""Plots of the report: lines of several reports lie in one plot, in the order of the reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tokenizer.html import Ink, Plot, make_plot, new_figure, style_axes
from tokenizer.report.figures import NamedReport
from tokenizer.report.usage import PositionUse, SlotReport
from tokenizer.report.usage_report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (4.6, 3.3)
_MOST_LINES = 14
_BINS = 24
_LABEL = 28


def report_plots(reports: Sequence[NamedReport]) -> list[Plot]:
    """Return the plots for which some report has figures."""
    drawn = [_ranks(reports), _curve(reports), _perplexity(reports), _psnr(reports)]
    maps = [(name, report.positions) for name, report in reports if report.positions is not None]
    return [one for one in drawn if one is not None] + [_map(name, positions) for name, positions in maps]


def _ranks(reports: Sequence[NamedReport]) -> Plot | None:
    slots = list(_slots(reports))
    if not slots:
        return None

    def draw(axes: Axes, ink: Ink) -> None:
        for number, (label, slot) in enumerate(slots):
            ranks, shares = np.array(slot.ranked).T
            color = ink.lines[number % len(ink.lines)]
            axes.loglog(ranks, shares, color=color, marker=".", markersize=3, linewidth=1.2, label=label)
            if slot.zipf_exponent is not None:
                used = np.arange(1, slot.codebook_size - slot.dead + 1)
                law = used**-slot.zipf_exponent
                axes.loglog(ranks, (law / law.sum())[np.asarray(ranks, int) - 1], color=color, ls="--", lw=0.9)
        style_axes(axes, ink, "share of tokens of each code", "rank", size=9)

    return _plot(
        draw,
        "Share of tokens against the rank of the code, both logarithmic",
        "Most used code first. Dashed: Zipf's law with the exponent of the table. A flat line uses all codes alike; "
        "a cliff at the end are codes that hardly ever come up.",
    )


def _slots(reports: Sequence[NamedReport]) -> Iterator[tuple[str, SlotReport]]:
    found = [(name, *one) for name, report in reports for one in enumerate(report.slots) if one[1].ranked]
    for name, number, slot in found[:_MOST_LINES]:
        words = ([name] if len(reports) > 1 else []) + ([f"code {number}"] if len(found) > len(reports) else [])
        yield " ".join(words), slot


def _curve(reports: Sequence[NamedReport]) -> Plot | None:
    return _over_tokens(
        reports,
        "codes used (%)",
        lambda report: [100 * point.used for point in report.curve],
        "Share of codes met so far, in the order of the files. Where it still rises, a larger set would use more.",
    )


def _perplexity(reports: Sequence[NamedReport]) -> Plot | None:
    return _over_tokens(
        reports,
        "perplexity",
        lambda report: [point.perplexity for point in report.curve],
        "Of the tokens so far. Where it has settled, the set is large enough to trust it.",
    )


def _over_tokens(
    reports: Sequence[NamedReport], title: str, values: Callable[[Report], list[float]], caption: str
) -> Plot | None:
    shown = [(name, report) for name, report in reports if len(report.curve) > 1]
    if not shown:
        return None

    def draw(axes: Axes, ink: Ink) -> None:
        from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

        for number, (name, report) in enumerate(shown):
            tokens = [point.tokens for point in report.curve]
            color = ink.lines[number % len(ink.lines)]
            label = name if len(reports) > 1 else ""
            axes.semilogx(tokens, values(report), color=color, marker="o", markersize=3, linewidth=1.4, label=label)
        axes.set_ylim(0, 1.06 * max(value for _, report in shown for value in values(report)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        style_axes(axes, ink, title, "tokens", size=9)

    return _plot(draw, f"{title} against the number of tokens", caption)


def _psnr(reports: Sequence[NamedReport]) -> Plot | None:
    each = [
        (name, [image.psnr for image in report.quality.images if image.psnr is not None])
        for name, report in reports
        if report.quality
    ]
    every = [value for _, values in each for value in values]
    if len(every) < 2:
        return None
    edges = np.histogram_bin_edges(every, min(_BINS, max(5, len(every) // 3))).tolist()

    def draw(axes: Axes, ink: Ink) -> None:
        from matplotlib.ticker import MaxNLocator

        for number, (name, values) in enumerate(each):
            color = ink.lines[(number + (len(each) == 1)) % len(ink.lines)]
            label = name if len(reports) > 1 else ""
            axes.hist(values, edges, histtype="step", color=color, linewidth=1.6, label=label, fill=len(each) == 1)
        style_axes(axes, ink, "images by PSNR", "dB", size=9)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))

    return _plot(draw, "Histogram of the PSNR of the images", "How many images lie at which PSNR.")


def _map(name: str, positions: PositionUse) -> Plot:
    entropies = np.array(positions.entropy_bits)

    def draw(axes: Axes, ink: Ink) -> None:
        from matplotlib.ticker import MaxNLocator

        image = axes.imshow(entropies, cmap="viridis")
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
        bar.ax.tick_params(colors=ink.text, labelsize=9)
        style_axes(axes, ink, "entropy by position (bits)", size=9)
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))

    return _plot(
        draw,
        f"Entropy of the codes at each position of the grid: {name}",
        f"{name}: of {positions.images} images. Dark positions say little: the same few codes come up there.",
    )


def _plot(draw: Callable[[Axes, Ink], None], alt: str, caption: str) -> Plot:
    def whole(ink: Ink) -> Figure:
        drawn = new_figure(*_SIZE, ink)
        axes = drawn.subplots()
        draw(axes, ink)
        lines, labels = axes.get_legend_handles_labels()
        if any(labels):
            short = [label if len(label) <= _LABEL else f"...{label[3 - _LABEL :]}" for label in labels]
            axes.legend(lines, short, fontsize=8, frameon=False, labelcolor=ink.text)
        return drawn

    return make_plot(whole, alt, caption)
