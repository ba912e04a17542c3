"""How `vqtok report` shows and writes what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cli.console import Console, printable, write_json, write_rows, write_text
from tokenizer.errors import UsageError
from tokenizer.files import check_output as check_path
from tokenizer.report import RFID_LEAST, Report, ReportSection, figure_lines

_VERSION = 2
_FEW = 20


def check_outputs(files: Sequence[Path | None], *, overwrite: bool) -> None:
    """Look, before any work, whether the files can be written.

    Raises:
        UsageError: two are one.
        OutputError: something is in the way.
    """
    named = [file for file in files if file is not None]
    if len({file.resolve() for file in named}) < len(named):
        raise UsageError(f"{named[0]} is named for two outputs: name two files")
    for file in named:
        check_path(file, folder=False, existing="overwrite" if overwrite else "refuse")


def warn(console: Console, sections: Sequence[ReportSection]) -> None:
    """Tell what makes reports less than they seem."""
    for section in sections:
        of, report = _of(section, sections), section.report
        if report.quality and report.quality.missing:
            console.warn(f"{of}{len(report.quality.missing)} images of the token file are not among --images")
        if report.quality and report.quality.rfid is not None and len(report.quality.images) < RFID_LEAST:
            count = len(report.quality.images)
            console.warn(f"{of}rFID over {count} images says little: it needs {RFID_LEAST} or more")
        if report.tokens < _FEW * sum(slot.codebook_size for slot in report.slots):
            few = f"{report.tokens} tokens are few for this codebook"
            console.warn(f"{of}{few}: used and perplexity are low for that alone")


def _of(section: ReportSection, sections: Sequence[ReportSection]) -> str:
    return f"{section.name}: " if len(sections) > 1 else ""


def show_json(sections: Sequence[ReportSection]) -> None:
    """Write the one report, or all with their names, to stdout."""
    if len(sections) == 1:
        write_json(sections[0].report.to_json())
        return
    reports = [{"name": section.name, **section.report.to_json()} for section in sections]
    write_json({"version": _VERSION, "reports": reports})


def show(sections: Sequence[ReportSection]) -> None:
    """Write the figures of all reports side by side, and what they mean."""
    found = figure_lines([(section.name, section.report) for section in sections])
    table: list[tuple[str, ...]] = [("", *(section.name for section in sections))] if len(sections) > 1 else []
    group = found[0].group
    for line in found:
        if line.group != group:
            table.append(("",))
            group = line.group
        table.append((line.title, *line.cells))
        if line.title == "PSNR" and len(sections) == 1:
            table += _ends(sections[0].report)
    if len(sections) == 1:
        table += [("",), *_most_used(sections[0].report)]
    write_rows(table)
    titles: dict[str, list[str]] = {}
    for line in found:
        if line.about:
            titles.setdefault(line.about, []).append(line.title)
    write_text("\n" + "".join(f"{', '.join(own)}: {about}\n" for about, own in titles.items()))


def _ends(report: Report) -> Iterator[tuple[str, str]]:
    images = report.quality.images if report.quality else ()
    ranked = sorted((image.psnr, image.name) for image in images if image.psnr is not None)
    for title, (psnr, name) in zip(("worst", "best"), (ranked[0], ranked[-1]), strict=True):
        yield title, f"{printable(name)} ({psnr:.2f} dB)"


def _most_used(report: Report) -> Iterator[tuple[str, str]]:
    for number, slot in enumerate(report.slots):
        label = "most used" if len(report.slots) == 1 else f"most used, code {number}"
        if slot.top:
            yield label, ", ".join(f"{code} ({100 * share:.2f} %)" for code, _, share in slot.top)


def missed(sections: Sequence[ReportSection], usage: float | None, psnr: float | None) -> Iterator[str]:
    """Yield a line for each threshold that a report is under; pictures that all came back exactly are under none."""
    for section in sections:
        of, report = _of(section, sections), section.report
        if usage is not None and report.used < usage:
            yield f"{of}used is {report.used:.6g}, under --fail-under-usage {usage:g}"
        decibels = report.quality.psnr if report.quality else None
        if psnr is not None and decibels is not None and decibels < psnr:
            yield f"{of}psnr is {decibels:.6g} dB, under --fail-under-psnr {psnr:g}"
