"""One of the files that an array of tokens lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import InputError, TokenFileError
from tokenizer.tokens.header import Header
from tokenizer.tokens.token_files import read_tokens
from tokenizer.tokens.token_set import Array, MappedGrids, TokenSet

_ONE_GRID = "one array needs one grid, encode with --image-size"


@dataclass(frozen=True)
class RowKind:
    """What all files must have in common: who made them, and the (h, w, C) shape and dtype of a row."""

    path: Path
    header: Header
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def check(self, other: RowKind) -> None:
        """Raise InputError where another file differs."""
        if other.shape[:2] != self.shape[:2]:
            grids = f"{_show(self.shape)} grids in {self.path}, {_show(other.shape)} ones in {other.path}"
            raise InputError(f"{grids}: {_ONE_GRID}")
        if other.header.model != self.header.model:
            raise InputError(f"{self.path} and {other.path} were made by different checkpoints: encode all with one")
        mine, others = f"{self.shape[2]} x {self.dtype}", f"{other.shape[2]} x {other.dtype}"
        if mine != others:
            raise InputError(f"{mine} a position in {self.path}, {others} in {other.path}: save them alike")


@dataclass(frozen=True)
class ArrayPart:
    """One file; `rows` is an (n, h, w, C) array, or a sequence of n (h, w, C) ones."""

    path: Path
    tokens: TokenSet
    rows: Array | Sequence[Array]

    def kind(self) -> RowKind:
        """Return what it must have in common with others; it must hold a row."""
        return RowKind(self.path, self.tokens.header, self.rows[0].shape, self.rows[0].dtype)

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Return a copy of some rows, (n, h, w, C)."""
        return self.rows[rows] if isinstance(self.rows, np.ndarray) else np.stack([self.rows[row] for row in rows])

    def name(self, row: int) -> str:
        """Return the name of the image in a row."""
        grids = self.tokens.grids
        if isinstance(grids, MappedGrids) and grids.row(row) != row:
            raise TokenFileError(f"{self.path}: its manifest is not in the order of its rows")
        return self.tokens.images[row].name


def open_part(path: Path) -> ArrayPart:
    """Return a token file, opened.

    Raises:
        InputError: it is missing, or its images have several grids.
        TokenFileError: it is truncated, foreign or damaged.
    """
    tokens = read_tokens(path)
    stacks = tokens.grids.stacks if isinstance(tokens.grids, MappedGrids) else None
    grids = sorted(stacks if stacks is not None else {(grid.shape[0], grid.shape[1]) for grid in tokens.grids})
    if len(grids) > 1:
        raise InputError(f"{path} holds {_show(grids[0])} grids and {_show(grids[1])} ones: {_ONE_GRID}")
    return ArrayPart(path, tokens, stacks[grids[0]] if stacks else tokens.grids)


def _show(grid: tuple[int, ...]) -> str:
    return f"{grid[0]}x{grid[1]}"
