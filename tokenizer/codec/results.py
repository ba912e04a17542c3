"""What encoding yields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.images import Source
from tokenizer.tokens import FailedInput, Header, ImageRecord, TokenSet


@dataclass(frozen=True)
class Encoded:
    """One image as tokens: where it came from, its record, and its (h, w, C) grid.

    Of a file that `has_more` frames or pages, it is the first.
    """

    source: Source
    record: ImageRecord
    grid: NDArray[np.int64]
    has_more: bool


@dataclass(frozen=True)
class Unreadable:
    """One input that is no image: where it came from, and why."""

    source: Source
    failure: FailedInput


def collect_tokens(results: Iterable[Encoded | Unreadable], header: Header) -> TokenSet:
    """Return all results as one token set, in memory."""
    images: list[ImageRecord] = []
    grids: list[NDArray[np.int64]] = []
    failed: list[FailedInput] = []
    for result in results:
        if isinstance(result, Unreadable):
            failed.append(result.failure)
            continue
        images.append(result.record)
        grids.append(result.grid)
    return TokenSet(header, tuple(images), tuple(grids), tuple(failed))
