"""What a token file says about itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizer.errors import TokenFileError

FORMAT = "vqtok-tokens"
VERSION = 2


@dataclass(frozen=True)
class Header:
    """Everything but the images and the tokens.

    Attributes:
        model: fingerprint of the checkpoint that made the tokens; None for a bare array.
        codebook_sizes: alphabet size of each of the C codes per position; empty for a bare array.
        downsample: pixels per position, along each side; None for a bare array.
        made_by: versions and device of the encoding.
        options: how images became tokens: image_size, resize_mode, alpha, precision.
    """

    model: str | None = None
    codebook_sizes: tuple[int, ...] = ()
    downsample: int | None = None
    made_by: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | int | None] = field(default_factory=dict)

    @property
    def codes_per_position(self) -> int:
        """C; 1 where nobody said."""
        return max(1, len(self.codebook_sizes))

    def to_json(self) -> dict[str, Any]:
        """Return the header as plain values; `from_json` is the inverse."""
        return {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}


def header_from_json(values: Any) -> Header:
    """Return the header that `to_json` wrote.

    Raises:
        TokenFileError: it is foreign, from another version, or damaged.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise TokenFileError("its header is not that of a vqtok token file")
    version = values.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise TokenFileError(f"it has format version {version!r}, this vqtok reads up to {VERSION}: upgrade vqtok")
    if version < VERSION:
        raise TokenFileError(f"it has format version {version}, this vqtok reads {VERSION}: encode the images again")
    try:
        return Header(
            model=None if values["model"] is None else str(values["model"]),
            codebook_sizes=_sizes(values["codebook_sizes"]),
            downsample=None if values["downsample"] is None else positive([values["downsample"]])[0],
            made_by={str(key): str(value) for key, value in values["made_by"].items()},
            options={str(key): _plain(value) for key, value in values["options"].items()},
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise TokenFileError(f"its header is damaged: {type(error).__name__} {error}") from error


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = positive(values)
    if not sizes:
        raise ValueError("no codebook_sizes")
    return sizes


def _plain(value: Any) -> str | int | None:
    if value is None or isinstance(value, (str, int)):
        return value
    raise ValueError(f"an option is {type(value).__name__}")


def positive(values: Any) -> tuple[int, ...]:
    """Return values as integers of at least 1.

    Raises:
        ValueError: one is less, or more than a size can be.
    """
    numbers = tuple(map(int, values))  # for each row of a manifest several times: no generator
    if numbers and not 1 <= min(numbers) <= max(numbers) < 2**63:
        raise ValueError(f"{numbers} holds a number below 1 or above 2**63")
    return numbers


def load_json(text: str | bytes) -> Any:
    """Return the value of a header's JSON.

    Raises:
        TokenFileError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenFileError(f"its header is damaged: {' '.join(str(error).split())}") from error
