"""A whole comparison: what is missing is trained, then all entries are ranked, and everything is written."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tokenizer.compare.comparison import Comparison, Entry
from tokenizer.compare.comparison_html import comparison_page
from tokenizer.compare.comparison_report import COMPARISON_FILE, ComparisonReport
from tokenizer.compare.entry import (
    clear_entries,
    complete_result,
    finished_entries,
    free_memory,
    result_of_entry,
    train_entry,
)
from tokenizer.compare.entry_result import EntryResult
from tokenizer.compare.gallery import draw_gallery
from tokenizer.compare.ranking import FailedEntry, rank_entries
from tokenizer.errors import TrainingError
from tokenizer.files import Existing, check_output, locked_folder, write_bytes
from tokenizer.train import Step

CURVES_FILE = "curves.png"
RECONSTRUCTIONS_FILE = "reconstructions.png"


@dataclass(frozen=True)
class EntryKept:
    """An entry that finished in an earlier run. `number` counts the entries from 0, in these classes alike."""

    number: int
    entry: Entry
    result: EntryResult


@dataclass(frozen=True)
class EntryBegun:
    """An entry whose training begins, or goes on from where an earlier run left it."""

    number: int
    entry: Entry


@dataclass(frozen=True)
class EntryStep:
    """One step of training. `unreadable` has name and reason of images that no step before could not read."""

    number: int
    entry: Entry
    step: Step
    unreadable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EntryFinished:
    """An entry that was trained, measured and saved in so many seconds of this run."""

    number: int
    entry: Entry
    result: EntryResult
    seconds: float


@dataclass(frozen=True)
class EntryFailed:
    """An entry that could not finish; the others go on."""

    number: int
    entry: Entry
    failure: FailedEntry


EntryEvent: TypeAlias = EntryKept | EntryBegun | EntryStep | EntryFinished | EntryFailed


def check_comparison_outputs(folder: Path, files: Sequence[Path | None] = (), *, existing: Existing = "refuse") -> None:
    """Look, before any work, whether a comparison can be written into its folder, and its tables into their files.

    Raises:
        OutputError: something is there that `existing` does not allow, or a place cannot be written.
    """
    for path in (folder, *(file for file in files if file is not None)):
        check_output(path, folder=path == folder, existing=existing)


def run_comparison(
    comparison: Comparison,
    *,
    existing: Existing = "refuse",
    csv: Path | None = None,
    html: Path | None = None,
    command: str = "",
) -> Generator[EntryEvent | ComparisonReport]:
    """Train what is missing of a comparison, rank all entries, and write everything.

    Yields what happens to each entry, and last the report. When the caller closes the generator, everything is saved:
    another run with `existing="resume"` keeps what is finished, and goes on within the entry that was being trained.
    An entry that fails does not stop the others.

    Args:
        comparison: see `prepare_comparison`.
        existing: what becomes of a comparison, and of files, that are there: `overwrite` trains all entries anew.
        csv: file of the ranking as a table.
        html: file of a page with everything.
        command: that makes the comparison again, for the page and the JSON.

    Raises:
        OutputError: something is there and `existing` is `refuse`, another process is writing there, or a file cannot
            be written.
        InputError: what is there was trained with other settings or on other images.
        CheckpointError: what is there is damaged, or another version of vqtok finished it.
        TrainingError: no entry finished.
    """
    check_comparison_outputs(comparison.folder, (csv, html), existing=existing)
    with locked_folder(comparison.folder):
        if existing == "overwrite":
            clear_entries(comparison.folder)
        done = finished_entries(comparison) if existing == "resume" else {}
        results: list[EntryResult] = []
        failures: list[FailedEntry] = []
        with contextlib.closing(_run_entries(comparison, done)) as events:
            for event in events:
                if isinstance(event, EntryKept | EntryFinished):
                    results.append(event.result)
                elif isinstance(event, EntryFailed):
                    failures.append(event.failure)
                yield event
        if not results:
            count, first = len(comparison.entries), failures[0]
            raise TrainingError(f"0 of {count} entries finished, the first failed: {first.label}: {first.reason}")
        report = ComparisonReport(comparison, rank_entries(comparison.labels, results, failures), command)
        write_comparison(report, csv=csv, html=html)
        yield report


def _run_entries(comparison: Comparison, done: Mapping[Path, EntryResult]) -> Generator[EntryEvent]:
    told: set[str] = set()
    for number, entry in enumerate(comparison.entries):
        if entry.folder in done:
            yield EntryKept(number, entry, complete_result(entry, done[entry.folder]))
            continue
        yield EntryBegun(number, entry)
        yield from _run_entry(number, entry, told)
        free_memory()


def _run_entry(number: int, entry: Entry, told: set[str]) -> Generator[EntryEvent]:
    """Train one entry; `told` holds the names of the images that were told to be unreadable."""
    began = time.perf_counter()
    last: EntryFinished | EntryFailed
    try:
        with contextlib.closing(train_entry(entry)) as steps:
            for step in steps:
                unreadable = tuple((name, reason) for name, reason in step.unreadable if name not in told)
                told.update(name for name, _ in unreadable)
                yield EntryStep(number, entry, step, unreadable)
        last = EntryFinished(number, entry, result_of_entry(entry), time.perf_counter() - began)
    except TrainingError as error:
        last = EntryFailed(number, entry, FailedEntry(entry.label, entry.seed, str(error)))
    yield last


def write_comparison(report: ComparisonReport, *, csv: Path | None = None, html: Path | None = None) -> Path:
    """Write the JSON and the pictures of a comparison into its folder, and the table and the page where they are named.

    Returns:
        The path of the JSON.

    Raises:
        CheckpointError: the checkpoint of an entry cannot be read.
        OutputError: a file cannot be written.
    """
    folder = report.comparison.folder
    path = folder / COMPARISON_FILE
    write_bytes(path, (json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n").encode())
    if csv is not None:
        write_bytes(csv, report.to_csv().encode())
    gallery = draw_gallery(report.comparison, report.ranking)
    write_bytes(folder / CURVES_FILE, gallery.curves.light)
    write_bytes(folder / RECONSTRUCTIONS_FILE, gallery.reconstructions.light)
    if html is not None:
        write_bytes(html, comparison_page(report, gallery).encode())
    return path
