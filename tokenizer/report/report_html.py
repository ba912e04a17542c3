"""The report as one HTML file that needs nothing beside it: no network, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizer.html import PAIRS_NOTE, PicturePair, render_page
from tokenizer.metrics import NO_FIGURE
from tokenizer.report.figures import figure_definitions, figure_lines, report_figures
from tokenizer.report.quality import ImageQuality
from tokenizer.report.report_plots import report_plots
from tokenizer.report.token_report import Report
from tokenizer.tokens import FailedInput

MOST_ROWS = 1000
_TEMPLATE = Path(__file__).with_name("report.html")
_TILES = ("used", "perplexity", "rate as stored", "rate with context", "PSNR", "SSIM")
_COLUMNS = (
    ("psnr", "PSNR dB", 2),
    ("ssim", "SSIM", 4),
    ("ms_ssim", "MS-SSIM", 4),
    ("lpips", "LPIPS", 4),
    ("lite0_distance", "Lite0 distance", 4),
    ("flat_psnr", "flat PSNR dB", 2),
    ("blocking", "blocking", 2),
    ("patchwork", "patchwork", 2),
)


@dataclass(frozen=True)
class ReportSection:
    """One report with its pictures.

    Attributes:
        name: of the report.
        report: the figures.
        worst: pictures of the lowest PSNR.
        best: pictures of the highest.
        codes: PNG of what the codes mean.
        not_encoded: inputs that have no tokens, with the reason.
        checkpoint: which one, on what device, in words; empty without one.
    """

    name: str
    report: Report
    worst: Sequence[PicturePair] = ()
    best: Sequence[PicturePair] = ()
    codes: bytes | None = None
    not_encoded: Sequence[FailedInput] = ()
    checkpoint: str = ""


def report_page(sections: Sequence[ReportSection], command: str = "") -> str:
    """Return the HTML of reports side by side; `command`, which makes them again, is shown where there is one."""
    named = [(section.name, section.report) for section in sections]
    shown = figure_lines(named)
    return render_page(
        _TEMPLATE,
        "Report" if len(sections) > 1 else f"Report: {sections[0].name}",
        names=[section.name for section in sections],
        tiles=_tiles(sections[0].report) if len(sections) == 1 else [],
        groups=[(group, list(own)) for group, own in groupby(shown, key=lambda line: line.group)],
        plots=report_plots(named),
        sections=[_section(section) for section in sections],
        most_rows=MOST_ROWS,
        stored=PAIRS_NOTE,
        definitions=sorted(figure_definitions(named).items()),
        command=command,
    )


def _tiles(report: Report) -> list[tuple[str, str]]:
    known = {row.title: row for row in report_figures(report)}
    titles = {"rate as stored": "bits per pixel, as stored", "rate with context": "bits per pixel, with context"}
    found = [known[title] for title in _TILES if title in known]
    return [(titles.get(row.title, row.title), row.text.replace(" bits per pixel", "")) for row in found]


def _section(section: ReportSection) -> dict[str, Any]:
    quality = section.report.quality
    images = quality.images if quality else ()
    columns = [column for column in _COLUMNS if any(getattr(image, column[0]) is not None for image in images)]
    anchors = {views.name: views.anchor for views in (*section.worst, *section.best)}
    return {
        "name": section.name,
        "worst": section.worst,
        "best": section.best,
        "codes": section.codes,
        "many_codes": "first code's " if len(section.report.slots) > 1 else "",
        "stability": section.report.stability,
        "columns": [title for _, title, _ in columns],
        "rows": [_row(image, columns, anchors) for image in _extremes(images)],
        "images": len(images),
    }


def _extremes(images: Sequence[ImageQuality]) -> list[ImageQuality]:
    """Return images by PSNR, the lowest first; of very many the ends."""
    ordered = sorted(images, key=lambda image: float("inf") if image.psnr is None else image.psnr)
    half = MOST_ROWS // 2
    return ordered if len(ordered) <= MOST_ROWS else [*ordered[:half], *ordered[-half:]]


def _row(image: ImageQuality, columns: Sequence[tuple[str, str, int]], anchors: dict[str, str]) -> dict[str, Any]:
    values = [(getattr(image, key), digits) for key, _, digits in columns]
    return {
        "name": image.name,
        "anchor": anchors.get(image.name),
        "cells": [("", NO_FIGURE) if value is None else (value, f"{value:.{digits}f}") for value, digits in values],
    }
