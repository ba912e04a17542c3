"""What encoding yields, and whether tokens fit a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.images import Source
from tokenizer.models import Tokenizer
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


def check_tokens_fit(
    tokens: TokenSet, model: Tokenizer, fingerprint: str, reads: Sequence[str] = (), *, allow_mismatch: bool = False
) -> None:
    """Raise TokenFileError unless `model` is the one that made `tokens`, or one of those it `reads` did.

    An array without a header names no model; its codes per position and their range are checked all the same.
    With `allow_mismatch`, only these and the pixels per position are.
    """
    made_by = tokens.header.model
    if made_by is not None and made_by not in (fingerprint, *reads) and not allow_mismatch:
        raise TokenFileError(
            f"it was made by the checkpoint {made_by[:12]}, this one is {fingerprint[:12]}: pass the model that made "
            "it, or --allow-mismatch"
        )
    if tokens.header.downsample not in (None, model.downsample):
        raise TokenFileError(
            f"its tokens stand for {tokens.header.downsample} pixels along each side, the model's for "
            f"{model.downsample}: pass the model that made it"
        )
    tokens.check_range(model.codebook_sizes)
