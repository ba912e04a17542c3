"""What a token file says about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizer.errors import TokenFileError
from tokenizer.placement import Placement

FORMAT = "vqtok-tokens"
VERSION = 1


@dataclass(frozen=True)
class ImageRecord:
    """One image: its name, its (h, w) grid of positions, and how it was fitted (None when nobody recorded it)."""

    name: str
    grid: tuple[int, int]
    placement: Placement | None = None


@dataclass(frozen=True)
class Failure:
    """One input that could not be encoded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Header:
    """Everything but the tokens.

    Attributes:
        images: one record an image, in the order of the rows.
        failed: inputs that have no row.
        model: fingerprint of the checkpoint that made the tokens; None for a bare array.
        codebook_sizes: alphabet size of each of the C codes per position; empty for a bare array.
        downsample: pixels per position, along each side; None for a bare array.
        made_by: versions, device and precision of the encoding.
    """

    images: tuple[ImageRecord, ...]
    failed: tuple[Failure, ...] = ()
    model: str | None = None
    codebook_sizes: tuple[int, ...] = ()
    downsample: int | None = None
    made_by: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the header as plain values; `from_json` is the inverse."""
        return {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}


def from_json(values: Any) -> Header:
    """Return the header that `to_json` wrote.

    Raises:
        TokenFileError: it is foreign, from a newer version, or damaged.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise TokenFileError("its header is not that of a vqtok token file")
    version = values.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise TokenFileError(f"it has format version {version}, this vqtok reads up to {VERSION}: upgrade vqtok")
    try:
        downsample = None if values["downsample"] is None else _positive([values["downsample"]])[0]
        return Header(
            images=tuple(_record(record, downsample) for record in values["images"]),
            failed=tuple(Failure(str(f["name"]), str(f["reason"])) for f in values["failed"]),
            model=None if values["model"] is None else str(values["model"]),
            codebook_sizes=_positive(values["codebook_sizes"]),
            downsample=downsample,
            made_by={str(key): str(value) for key, value in values["made_by"].items()},
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise TokenFileError(f"its header is damaged: {type(error).__name__} {error}") from error


def _record(values: Mapping[str, Any], downsample: int | None) -> ImageRecord:
    grid = _pair(values["grid"])
    placement = None if values["placement"] is None else _placement(values["placement"])
    if placement and downsample and placement.canvas != (grid[0] * downsample, grid[1] * downsample):
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
    )
    _check_inside(placement.offset, placement.content, placement.canvas, "canvas")
    _check_inside((top, left), (height, width), placement.original, "original")
    return placement


def _check_inside(corner: tuple[int, int], size: tuple[int, int], whole: tuple[int, int], what: str) -> None:
    for first, length, side in zip(corner, size, whole, strict=True):
        if first < 0 or length < 1 or first + length > side:
            raise ValueError(f"a picture lies outside its {what}")


def _pair(values: Any) -> tuple[int, int]:
    first, second = _positive(values)
    return first, second


def _positive(values: Any) -> tuple[int, ...]:
    numbers = tuple(int(value) for value in values)
    if any(not 1 <= number < 2**63 for number in numbers):
        raise ValueError(f"{numbers} holds a number below 1 or above 2**63")
    return numbers
