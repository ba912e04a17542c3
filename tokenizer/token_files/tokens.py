"""Tokens in memory, and their stacks on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.token_files.header import Header, ImageRecord

Array = NDArray[Any]


@dataclass(frozen=True)
class TokenSet:
    """Tokens of images of any sizes.

    Attributes:
        header: everything but the tokens.
        grids: one (h, w, C) integer array an image, in the order of `header.images`.
    """

    header: Header
    grids: tuple[Array, ...]

    @property
    def codes_per_position(self) -> int:
        """C."""
        return self.grids[0].shape[-1] if self.grids else max(1, len(self.header.codebook_sizes))

    def check_range(self, sizes: tuple[int, ...]) -> None:
        """Raise TokenFileError unless there are `len(sizes)` codes per position, each below its size."""
        for row, grid in enumerate(self.grids):
            if grid.shape[-1] != len(sizes):
                raise TokenFileError(
                    f"it holds {grid.shape[-1]} codes per position, the model {len(sizes)}: pass the model that made it"
                )
            outside = (grid < 0) | (grid >= np.asarray(sizes))
            if outside.any():
                y, x, slot = (int(i) for i in np.argwhere(outside)[0])
                raise TokenFileError(
                    f"token {grid[y, x, slot]} at row {row} ({y}, {x}) is outside 0..{sizes[slot] - 1}"
                )


def smallest_dtype(sizes: tuple[int, ...]) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds every token of these alphabet sizes."""
    return np.min_scalar_type(max(sizes) - 1)


def stack(tokens: TokenSet) -> dict[str, Array]:
    """Return one (N, h, w) array for images of one grid, or (N, h, w, C) when C is more than 1.

    One array is called `tokens`; images of several grids make one array each, called `tokens_{h}x{w}`.

    Raises:
        TokenFileError: a token lies outside its alphabet, and would turn into another one.
    """
    tokens.check_range(tokens.header.codebook_sizes)
    groups: dict[tuple[int, int], list[Array]] = {}
    for record, grid in zip(tokens.header.images, tokens.grids, strict=True):
        groups.setdefault(record.grid, []).append(grid)
    dtype = smallest_dtype(tokens.header.codebook_sizes)
    codes = tokens.codes_per_position
    if not groups:
        return {"tokens": np.zeros((0, 0, 0, codes)[: 3 + (codes > 1)], dtype)}
    stacks = {_key(shape, len(groups)): np.stack(rows).astype(dtype) for shape, rows in groups.items()}
    return {key: rows if codes > 1 else rows[..., 0] for key, rows in stacks.items()}


def _key(grid: tuple[int, int], groups: int) -> str:
    return "tokens" if groups == 1 else f"tokens_{grid[0]}x{grid[1]}"


def unstack(arrays: Mapping[str, Array], header: Header) -> TokenSet:
    """Return the tokens that `stack` laid out.

    Raises:
        TokenFileError: arrays and header contradict each other, or the tokens are no integers.
    """
    codes = len(header.codebook_sizes)
    stacks = {key: _with_codes(array, codes) for key, array in arrays.items()}
    shapes = {record.grid for record in header.images}
    used = dict.fromkeys(stacks, 0)
    grids = []
    for row, record in enumerate(header.images):
        key = _key(record.grid, len(shapes))
        if key not in stacks or used[key] >= len(stacks[key]) or stacks[key].shape[1:3] != record.grid:
            raise TokenFileError(f"its header says that row {row} is a {record.grid} grid, its arrays do not hold one")
        grids.append(stacks[key][used[key]])
        used[key] += 1
    left = sum(len(rows) - used[key] for key, rows in stacks.items())
    if left:
        raise TokenFileError(f"its arrays hold {left} more rows than its header names")
    tokens = TokenSet(header, tuple(grids))
    tokens.check_range(header.codebook_sizes)
    return tokens


def _check_integers(array: Array) -> None:
    if array.dtype.kind not in "iu":
        raise TokenFileError(f"its tokens are {array.dtype}, expected integers")


def _with_codes(array: Array, codes: int) -> Array:
    _check_integers(array)
    if array.ndim != (3 if codes == 1 else 4):
        wanted = "(N, h, w)" if codes == 1 else f"(N, h, w, {codes})"
        raise TokenFileError(f"its array has the shape {array.shape}, expected {wanted}")
    return array[..., None] if codes == 1 else array


def bare(array: Array) -> TokenSet:
    """Return an array that carries no header, as a generator writes it: (h, w), (N, h, w) or (N, h, w, C).

    Images are named by their row number.

    Raises:
        TokenFileError: the array has another rank, or its values are no integers.
    """
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise TokenFileError(f"its array has the shape {array.shape}, expected (h, w), (N, h, w) or (N, h, w, C)")
    _check_integers(array)
    rows = array if array.ndim == 4 else array.reshape(-1, *array.shape[-2:], 1)
    grid = (rows.shape[1], rows.shape[2])
    digits = max(6, len(str(len(rows))))
    images = tuple(ImageRecord(f"{row:0{digits}d}", grid) for row in range(len(rows)))
    return TokenSet(Header(images), tuple(rows))
