"""The figures of a report as texts, the same on the terminal and in the page, and as one line of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizer.metrics import NO_FIGURE
from tokenizer.report.token_report import Report

NamedReport = tuple[str, Report]
# Lists that have no place on one line.
_LONG = ("definitions", "top", "ranked", "curve", "positions", "missing", "version")
# Where there is none of these, their figures are absent.
_NESTED = ("joint", "positions", "context", "rate", "quality", "stability")
_ONE_OF = {"slots": "slot", "codebooks": "codebook"}


@dataclass(frozen=True)
class ReportFigure:
    """One figure.

    Attributes:
        group: what it belongs to.
        title: its name.
        key: in the definitions; empty where the title says it all.
        text: the figure with its unit.
    """

    group: str
    title: str
    key: str
    text: str


@dataclass(frozen=True)
class FigureLine:
    """One figure of several reports: `cells` has one text for each."""

    group: str
    title: str
    about: str
    cells: tuple[str, ...]


# group, key of `flat`, title, format, key of the definition
_FIGURES = (
    ("set", "images", "images", "{}", ""),
    ("set", "failed", "failed", "{}", ""),
    ("set", "tokens", "tokens", "{}", ""),
    ("set", "codebook", "codebook", "{}", ""),
    ("use", "used", "used", "{:.2%}", "used"),
    ("use", "dead", "dead", "{}", "dead"),
    ("use", "perplexity", "perplexity", "{:.1f}", "perplexity"),
    ("use", "entropy_bits", "entropy", "{:.3f} bits per code", "entropy_bits"),
    ("use", "slot_top_1_percent", "top 1 % of codes", "{:.2%} of tokens", "top_1_percent"),
    ("use", "slot_top_10_percent", "top 10 % of codes", "{:.2%} of tokens", "top_10_percent"),
    ("use", "slot_zipf_exponent", "Zipf exponent", "{:.3f}", "zipf_exponent"),
    ("use", "joint_distinct", "combinations", "{}", "joint"),
    ("use", "joint_possible", "possible", "{:.4g}", ""),
    ("use", "joint_entropy_bits", "joint entropy", "{:.3f} bits per position", "joint"),
    ("use", "joint_perplexity", "joint perplexity", "{:.1f}", "joint"),
    ("rate", "bits_per_pixel", "rate as stored", "{:.4f} bits per pixel", "bits_per_pixel"),
    ("rate", "rate_entropy", "rate, entropy", "{:.4f} bits per pixel", "rate"),
    ("rate", "rate_context", "rate with context", "{:.4f} bits per pixel", "context_bits"),
    ("quality", "psnr", "PSNR", "{:.2f} dB", "psnr"),
    ("quality", "exact", "exact", "{} images", ""),
    ("quality", "ssim", "SSIM", "{:.4f}", "ssim"),
    ("quality", "ms_ssim", "MS-SSIM", "{:.4f}", "ms_ssim"),
    ("quality", "flat_psnr", "PSNR, flat areas", "{:.2f} dB", "flat_psnr"),
    ("quality", "flat_share", "flat areas", "{:.1%} of blocks", "flat_share"),
    ("quality", "blocking", "blocking", "{:.2f} of other steps", "blocking"),
    ("quality", "patchwork", "patchwork", "{:.2f} levels", "patchwork"),
    ("quality", "lpips", "LPIPS", "{:.4f}", "lpips"),
    ("quality", "rfid", "rFID", "{:.2f}", "rfid"),
    ("quality", "lite0_distance", "Lite0 distance", "{:.4f}", "lite0_distance"),
    ("quality", "lite0_frechet", "Lite0 Frechet", "{:.2f}", "lite0_frechet"),
    ("quality", "recognized_alike", "recognized alike", "{:.1%}", "recognized_alike"),
    ("quality", "compared", "over", "{} images", ""),
)
_NOT_ZERO = ("failed", "exact")


def report_figures(report: Report) -> list[ReportFigure]:
    """Return the figures that a report has, by group."""
    values = {**flat_figures(report), "codebook": " x ".join(str(slot.codebook_size) for slot in report.slots)}
    if report.quality:
        values["compared"] = len(report.quality.images)
    if len(report.slots) == 1:
        values |= {key.replace("slot_0_", "slot_"): value for key, value in values.items()}
    found = [
        ReportFigure(group, title, about, form.format(values[key]).replace("%", " %"))
        for group, key, title, form, about in _FIGURES
        if values.get(key) is not None and (values[key] or key not in _NOT_ZERO)
    ]
    return _grouped([*found, *_slots(report), *_codebooks(report), *_baselines(report), *_changes(report)])


def _grouped(found: Sequence[ReportFigure]) -> list[ReportFigure]:
    groups = list(dict.fromkeys(row.group for row in found))
    return sorted(found, key=lambda row: groups.index(row.group))


def _slots(report: Report) -> Iterator[ReportFigure]:
    if len(report.slots) == 1:
        return
    for number, slot in enumerate(report.slots):
        zipf = "" if slot.zipf_exponent is None else f", Zipf {slot.zipf_exponent:.2f}"
        yield ReportFigure(
            "use", f"code {number}", "", f"{100 * slot.used:.1f} % used, perplexity {slot.perplexity:.1f}{zipf}"
        )


def _codebooks(report: Report) -> Iterator[ReportFigure]:
    for number, book in enumerate(report.codebooks):
        own = f", code {number}" if len(report.codebooks) > 1 else ""
        rank = f"{book.effective_rank:.2f} of {book.width}"
        yield ReportFigure("codebook", f"effective rank{own}", "effective_rank", rank)
        if book.nearest_relative is not None:
            near = book.nearest_relative
            text = f"{near.median:.3f} of the norm ({near.min:.3f} to {near.max:.3f})"
            yield ReportFigure("codebook", f"nearest code vector{own}", "nearest", text)


def _baselines(report: Report) -> Iterator[ReportFigure]:
    for baseline in report.quality.baselines if report.quality else ():
        ssim = "" if baseline.ssim is None else f", SSIM {baseline.ssim:.4f}"
        over = "" if baseline.reached else f", more than the tokens need for {baseline.larger} of {baseline.images}"
        psnr = "exact" if baseline.psnr is None else f"{baseline.psnr:.2f} dB"
        psnr += "" if baseline.flat_psnr is None else f" ({baseline.flat_psnr:.2f} in flat areas)"
        text = f"{psnr}{ssim} at {baseline.bits_per_pixel:.4f} bits per pixel{over}"
        yield ReportFigure("same bits", baseline.name, "baselines", text)


def _changes(report: Report) -> Iterator[ReportFigure]:
    for change in report.stability.changes if report.stability else ():
        text = f"{100 * change.changed:.2f} % of tokens change"
        text += "" if change.psnr is None else f", pictures by {change.psnr:.2f} dB"
        yield ReportFigure("stability", change.name, "", text)


def figure_lines(reports: Sequence[NamedReport]) -> list[FigureLine]:
    """Return the figures of several reports side by side; `-` where one has none."""
    each = [{(row.group, row.title): row for row in report_figures(report)} for _, report in reports]
    known = figure_definitions(reports)
    every = _grouped(list({place: row for own in each for place, row in own.items()}.values()))
    return [
        FigureLine(
            row.group,
            row.title,
            known.get(row.key, ""),
            tuple(own[row.group, row.title].text if (row.group, row.title) in own else NO_FIGURE for own in each),
        )
        for row in every
    ]


def figure_definitions(reports: Sequence[NamedReport]) -> dict[str, str]:
    """Return what each figure of the reports is."""
    return {key: text for _, report in reports for key, text in report.to_json()["definitions"].items()}


def flat_figures(report: Report) -> dict[str, Any]:
    """Return all single figures of a report; names of nested ones are joined: `slot_0_used`, `jpeg_psnr`."""
    return dict(_flat(report.to_json(), ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key in _LONG or (value is None and key in _NESTED and not prefix):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, "" if key == "quality" else f"{prefix}{key}_")
        elif isinstance(value, (list, tuple)):
            yield from _items(key, value, prefix)
        elif key not in ("name", "definition"):
            yield prefix + key, value


def _items(key: str, values: Sequence[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    if key in _ONE_OF:
        for number, item in enumerate(values):
            own = item if isinstance(item, Mapping) else {"changed": item}  # of stability: a share for each slot
            yield from _flat(own, f"{prefix}{_ONE_OF[key]}_{number}_")
    elif key in ("baselines", "changes"):
        for item in values:
            yield from _flat(item, f"{prefix}{item['name'].lower()}_")


def reports_to_csv(reports: Sequence[NamedReport]) -> str:
    """Return a line for each report below the names of the figures; a figure that a report lacks is left empty."""
    each = [{"name": name, **flat_figures(report)} for name, report in reports]
    names = list(dict.fromkeys(key for values in each for key in values))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(each)
    return stream.getvalue()
