"""Reports as rows of cells, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tokenizer.report.figures import figure_lines
from tokenizer.report.report_html import ReportSection
from tokenizer.report.token_report import REPORT_VERSION, Report

Cells = tuple[str, ...]


def report_rows(sections: Sequence[ReportSection]) -> list[Cells]:
    """Return the figures of all reports side by side: a title, and a cell for each report; one empty cell is a gap."""
    lines = figure_lines([(section.name, section.report) for section in sections])
    rows: list[Cells] = [("", *(section.name for section in sections))] if len(sections) > 1 else []
    group = lines[0].group
    for line in lines:
        if line.group != group:
            rows.append(("",))
            group = line.group
        rows.append((line.title, *line.cells))
        if line.title == "PSNR" and len(sections) == 1:
            rows += _worst_and_best(sections[0].report)
    if len(sections) == 1:
        rows += [("",), *_most_used(sections[0].report)]
    return rows


def _worst_and_best(report: Report) -> Iterator[Cells]:
    images = report.quality.images if report.quality else ()
    ranked = sorted((image.psnr, image.name) for image in images if image.psnr is not None)
    for title, (psnr, name) in zip(("worst", "best"), (ranked[0], ranked[-1]), strict=True):
        yield title, f"{name} ({psnr:.2f} dB)"


def _most_used(report: Report) -> Iterator[Cells]:
    for number, slot in enumerate(report.slots):
        label = "most used" if len(report.slots) == 1 else f"most used, code {number}"
        if slot.top:
            yield label, ", ".join(f"{code} ({100 * share:.2f} %)" for code, _, share in slot.top)


def shown_definitions(sections: Sequence[ReportSection]) -> list[tuple[str, str]]:
    """Return what the figures in `report_rows` are: the titles that share a definition, and the definition."""
    titles: dict[str, list[str]] = {}
    for line in figure_lines([(section.name, section.report) for section in sections]):
        if line.about:
            titles.setdefault(line.about, []).append(line.title)
    return [(", ".join(own), about) for about, own in titles.items()]


def reports_to_json(sections: Sequence[ReportSection]) -> dict[str, Any]:
    """Return the one report, or all with their names, as plain values."""
    if len(sections) == 1:
        return sections[0].report.to_json()
    reports = [{"name": section.name, **section.report.to_json()} for section in sections]
    return {"version": REPORT_VERSION, "reports": reports}
