"""The manifest: what became of each input, one JSON object a line, in the order of the inputs.

`{"status":"done","name":...,"row":...,"grid":[h,w],...}` for an image, and
`{"status":"failed","name":...,"reason":...}` for an input without tokens. It is read lazily: millions of rows cost the
memory of their positions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.images import Placement
from tokenizer.tokens.header import positive
from tokenizer.tokens.lazy_sequence import LazySequence

T = TypeVar("T")

_NEWLINE = ord("\n")
# Where the first letter of the status stands in a line: `d` or `f` tells images from failures without parsing.
_STATUS = len('{"status":"')
_SCANNED = 2**24
# What reading a line raises where it holds other values, or none.
PARSE_ERRORS = (LookupError, TypeError, ValueError, OverflowError, AttributeError, RecursionError)


@dataclass(frozen=True)
class ImageRecord:
    """One image: its name, its (h, w) grid of positions, and how it was fitted (None when nobody recorded it)."""

    name: str
    grid: tuple[int, int]
    placement: Placement | None = None


@dataclass(frozen=True)
class FailedInput:
    """One input that could not be encoded, and why."""

    name: str
    reason: str


def manifest_line(row: int | None, entry: ImageRecord | FailedInput) -> bytes:
    """Return the line of an image, which is in that row of the array of its grid, or of a failure, which is in none."""
    if isinstance(entry, FailedInput):
        values: dict[str, Any] = {"status": "failed", "name": entry.name, "reason": entry.reason}
    else:
        fitted = asdict(entry.placement) if entry.placement else {}
        values = {"status": "done", "name": entry.name, "row": row, "grid": entry.grid, **fitted}
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def manifest_lines(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    parse: Callable[[Mapping[str, Any]], T],
    where: str = "",
) -> LazySequence[T]:
    """Return what lines of JSON say, each parsed when it is asked for: TokenFileError where it is damaged.

    Args:
        data: (bytes,) uint8.
        starts: (N,) first byte of each line.
        ends: (N,) the newline after it.
        parse: of the values of a line.
        where: what messages begin with: the file's name and a colon, or nothing.
    """

    def read(number: int) -> T:
        start, end = int(starts[number]), int(ends[number])
        try:
            return parse(json.loads(data[start:end].tobytes()))
        except PARSE_ERRORS as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise TokenFileError(f"{where}its manifest is damaged at byte {start}: {reason}") from error

    return LazySequence(range(len(starts)), read)


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest: `images` have tokens, `places` is where: grid and row there, `failed` have none.

    `where` begins the messages of what is found wrong later.
    """

    images: LazySequence[ImageRecord]
    places: LazySequence[tuple[tuple[int, int], int]]
    failed: LazySequence[FailedInput]
    where: str = ""


def parse_manifest(data: NDArray[np.uint8], downsample: int | None, where: str = "") -> Manifest:
    """Return the rows of a manifest, (bytes,) uint8, whose images were encoded at `downsample` pixels per position.

    `where` begins the messages of what is found wrong later, when a row is read.

    Raises:
        TokenFileError: it does not consist of such lines.
    """
    if len(data) and data[-1] != _NEWLINE:
        raise TokenFileError("its manifest is truncated")
    ends = np.concatenate(
        [
            np.flatnonzero(data[start : start + _SCANNED] == _NEWLINE) + start
            for start in range(0, max(1, len(data)), _SCANNED)
        ]
    )
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    if (ends - starts <= _STATUS).any():
        raise TokenFileError("its manifest holds a line that is none of vqtok's")
    letters = data[starts + _STATUS]
    done, failed = letters == ord("d"), letters == ord("f")
    if not (done | failed).all():
        raise TokenFileError("its manifest holds a line that is none of vqtok's")
    images = data, starts[done], ends[done]
    return Manifest(
        manifest_lines(*images, lambda values: record_from_json(values, downsample), where),
        manifest_lines(*images, lambda values: (_pair(values["grid"]), _index(values["row"])), where),
        manifest_lines(data, starts[failed], ends[failed], _failure, where),
        where,
    )


def _failure(values: Mapping[str, Any]) -> FailedInput:
    return FailedInput(str(values["name"]), str(values["reason"]))


def _index(value: Any) -> int:
    row = int(value)
    if row < 0:
        raise ValueError(f"row {row}")
    return row


def record_from_json(values: Mapping[str, Any], downsample: int | None) -> ImageRecord:
    """Return the image that the values of a line describe; KeyError, TypeError or ValueError where they are none."""
    grid = _pair(values["grid"])
    placement = _placement(values) if "canvas" in values else None
    if placement and placement.canvas != (grid[0] * (downsample or 0), grid[1] * (downsample or 0)):
        raise ValueError(f"a canvas of {placement.canvas} pixels on a grid of {grid}")
    return ImageRecord(str(values["name"]), grid, placement)


def _placement(values: Mapping[str, Any]) -> Placement:
    top, left, height, width = (int(value) for value in values["box"])
    placement = Placement(
        mode=str(values["mode"]),
        original=_pair(values["original"]),
        box=(top, left, height, width),
        content=_pair(values["content"]),
        offset=(int(values["offset"][0]), int(values["offset"][1])),
        canvas=_pair(values["canvas"]),
        scale=positive([values["scale"]])[0],
    )
    placement.check()
    return placement


def _pair(values: Any) -> tuple[int, int]:
    first, second = positive(values)
    return first, second
