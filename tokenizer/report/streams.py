"""Counts of tokens in one pass over them, in memory that does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.metrics import Usage, add_counts, overall_usage
from tokenizer.tokens import ImageRecord, TokenSet, smallest_dtype

# Tokens that the sample holds at most, and bytes of different combinations.
MOST_SAMPLED = 2**22
MOST_COMBINED = 2**25
_FIRST_POINT = 2**8
_PENDING = 2**20
Tokens = NDArray[Any]


@dataclass(frozen=True)
class CurvePoint:
    """Use of all slots together after the first `tokens` tokens, in the order of the files."""

    tokens: int
    used: float
    perplexity: float


class CodeCounts:
    """How often each code of each slot was chosen, and how that grew.

    Attributes:
        slots: one (K,) int64 for each slot.
        curve: figures after 256, 512, 1024, ... positions.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.slots = [np.zeros(size, np.int64) for size in sizes]
        self.positions = 0
        self.curve: list[CurvePoint] = []
        self._next = _FIRST_POINT

    def add(self, codes: Tokens) -> None:
        """Count (n, C) tokens."""
        while len(codes):
            now, codes = np.split(codes, [self._next - self.positions])
            add_counts(self.slots, now)
            self.positions += len(now)
            if self.positions == self._next:
                self.curve.append(self._point())
                self._next *= 2

    def whole_curve(self) -> tuple[CurvePoint, ...]:
        """Return the curve with its end, where that is no power of two."""
        seen = self.positions * len(self.slots)
        at_end = not seen or (self.curve and self.curve[-1].tokens == seen)
        return tuple(self.curve if at_end else [*self.curve, self._point()])

    def _point(self) -> CurvePoint:
        together = overall_usage([Usage(count) for count in self.slots])
        return CurvePoint(self.positions * len(self.slots), together.used, together.perplexity)


class CodeCombinations:
    """How often each combination of the C codes of a position was chosen; exact, or given up.

    Attributes:
        counts: (n,) of the n combinations seen; None where these do not fit into `MOST_COMBINED` bytes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.counts: NDArray[np.int64] | None = np.zeros(0, np.int64)
        self._sizes = tuple(sizes)
        # Digits of one integer where that holds them, otherwise the bytes of all codes.
        self._packed = math.prod(sizes) < 2**63
        self._code = smallest_dtype(self._sizes)
        self._keys = self._keys_of(np.zeros((0, len(sizes)), self._code))
        self._pending: list[Tokens] = []
        self._waiting = 0

    @property
    def most(self) -> int:
        """How many different combinations are told apart at most."""
        return MOST_COMBINED // self._keys.itemsize

    def add(self, codes: Tokens) -> None:
        """Count (n, C) tokens."""
        if self.counts is None:
            return
        self._pending.append(self._keys_of(codes))
        self._waiting += len(codes)
        if self._waiting >= _PENDING:
            self.settle()

    def settle(self) -> None:
        """Count what is pending."""
        if self.counts is None:
            return
        new, times = np.unique(np.concatenate([self._keys[:0], *self._pending]), return_counts=True)
        self._keys, at = np.unique(np.concatenate([self._keys, new]), return_inverse=True)
        self.counts = np.bincount(at.ravel(), np.concatenate([self.counts, times])).astype(np.int64)
        self._pending, self._waiting = [], 0
        if len(self._keys) > self.most:
            self.counts, self._keys = None, self._keys[:0]

    def _keys_of(self, codes: Tokens) -> Tokens:
        if not self._packed:
            plain = np.ascontiguousarray(codes, self._code)
            return plain.view(f"S{plain.itemsize * len(self._sizes)}")[:, 0]
        keys = np.zeros(len(codes), np.int64)
        for slot, size in enumerate(self._sizes):
            keys *= size
            keys += codes[:, slot].astype(np.int64)
        return keys


class TokenSample:
    """An even sample of the images: those numbered 0, s, 2 s, ..., in the order in which they pass by.

    s is 1 at first. Whenever the sample holds more than `MOST_SAMPLED` tokens, s doubles, and of the images kept every
    other one goes: those whose number is no multiple of the new s. One image stays, however large it is.

    Attributes:
        step: s.
        seen: images that passed by.
    """

    def __init__(self) -> None:
        self.step, self.seen, self._size = 1, 0, 0
        # The place of the first image of each part among all kept ones, which is its number over s; and their tokens.
        self._parts: list[tuple[int, Tokens]] = []

    def add(self, block: Tokens) -> None:
        """Look at the next images, (n, h, w, C) tokens."""
        first = -self.seen % self.step  # so many images until the next whose number is a multiple of s
        kept = block[first :: self.step]
        if len(kept):
            self._parts.append(((self.seen + first) // self.step, kept.copy()))
            self._size += kept.size
        self.seen += len(block)
        while self._size > MOST_SAMPLED and self.images > 1:
            self._thin()

    def _thin(self) -> None:
        # Even places stay, and become half of what they were; a part that begins at an odd place loses its first image.
        halves = [((first + 1) // 2, part[first % 2 :: 2].copy()) for first, part in self._parts]
        self._parts = [(first, part) for first, part in halves if len(part)]
        self._size = sum(part.size for _, part in self._parts)
        self.step *= 2

    @property
    def images(self) -> int:
        """How many are kept."""
        return sum(len(part) for _, part in self._parts)

    @property
    def stacks(self) -> list[Tokens]:
        """The (n, h, w, C) tokens of neighbors of one grid, in order."""
        runs: list[list[Tokens]] = []
        for _, part in self._parts:
            if runs and runs[-1][0].shape[1:] == part.shape[1:]:
                runs[-1].append(part)
            else:
                runs.append([part])
        return [np.concatenate(run) for run in runs]


@dataclass(frozen=True)
class StreamedTokens:
    """What one pass over token sets counted.

    Attributes:
        images, failed: inputs with and without tokens.
        pixels: of the pictures without padding; None where some image does not say how it was fitted.
        counts, combinations, sample: see there; there are no combinations of one code.
        grids: the different (h, w).
    """

    images: int
    failed: int
    pixels: int | None
    counts: CodeCounts
    combinations: CodeCombinations | None
    sample: TokenSample
    grids: frozenset[tuple[int, int]]


def stream_tokens(sets: Iterable[TokenSet], sizes: tuple[int, ...], names: Sequence[str] = ()) -> StreamedTokens:
    """Return what there is to count in token sets that share the alphabets `sizes`; each is opened once.

    Raises:
        TokenFileError: a token lies outside its alphabet, or there are not C codes per position; names the set.
    """
    counts, sample = CodeCounts(sizes), TokenSample()
    combinations = CodeCombinations(sizes) if len(sizes) > 1 else None
    grids: set[tuple[int, int]] = set()
    images = failed = pixels = 0
    fitted = True
    for number, tokens in enumerate(sets):
        try:
            for block in tokens.checked_blocks(sizes):
                codes = block.reshape(-1, len(sizes))
                counts.add(codes)
                if combinations:
                    combinations.add(codes)
                sample.add(block)
                grids.add((block.shape[1], block.shape[2]))
        except TokenFileError as error:
            where = f"{names[number]}: " if names else ""
            raise TokenFileError(where + str(error).removeprefix(where)) from error
        images += len(tokens.grids)
        failed += len(tokens.failed)
        shown = _pixels(tokens.images) if fitted else None
        fitted, pixels = shown is not None, pixels + (shown or 0)
    if combinations:
        combinations.settle()
    return StreamedTokens(images, failed, pixels if fitted else None, counts, combinations, sample, frozenset(grids))


def _pixels(images: Sequence[ImageRecord]) -> int | None:
    total = 0
    for record in images:
        if record.placement is None:
            return None
        height, width = record.placement.content
        total += height * width
    return total
