"""The manifest of a journal: a line for each input whose tokens, or whose failure, are safely on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from tokenizer.errors import InputError
from tokenizer.tokens.journal import Journal
from tokenizer.tokens.manifest import PARSE_ERRORS, FailedInput, ImageRecord, record_from_json

T = TypeVar("T")

MANIFEST = "manifest"


def earlier_outcomes(journal: Journal) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each input in a journal's manifest, and the reason where it has no tokens, else None.

    Raises:
        InputError: it is damaged.
    """
    return _lines(journal, lambda values: (str(values["name"]), values.get("reason")))


def journal_entries(journal: Journal, downsample: int | None) -> Iterator[tuple[int | None, ImageRecord | FailedInput]]:
    """Yield what became of each input in a journal's manifest, after its row in the array of its grid."""

    def parse(values: Mapping[str, Any]) -> tuple[int | None, ImageRecord | FailedInput]:
        if values["status"] == "done":
            return int(values["row"]), record_from_json(values, downsample)
        return None, FailedInput(str(values["name"]), str(values["reason"]))

    return _lines(journal, parse)


def _lines(journal: Journal, parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    left = b""
    for piece in journal.stored(MANIFEST).pieces():
        *whole, left = (left + piece).split(b"\n")
        try:
            yield from [parse(json.loads(line)) for line in whole]
        except PARSE_ERRORS as error:
            raise damaged_journal(journal, f"{type(error).__name__} {error}") from error
    if left:
        raise damaged_journal(journal, "its manifest is truncated")


def damaged_journal(journal: Journal, reason: str) -> InputError:
    """Return the error of a journal whose checksums are right and whose manifest is wrong."""
    return InputError(
        f"{journal.path(MANIFEST).parent} is damaged: {' '.join(reason.split())}: pass --overwrite to start anew"
    )
