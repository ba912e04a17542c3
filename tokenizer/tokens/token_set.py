"""Tokens in memory, or mapped from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.tokens.header import Header
from tokenizer.tokens.lazy_sequence import LazySequence
from tokenizer.tokens.manifest import FailedInput, ImageRecord, Manifest

Array = NDArray[Any]
_TOKENS_AT_ONCE = 2**22


@dataclass(frozen=True)
class TokenSet:
    """Tokens of images of any sizes.

    Attributes:
        header: everything but images and tokens.
        images: one record an image.
        grids: one (h, w, C) integer array an image, in the order of `images`.
        failed: inputs that have no tokens.
    """

    header: Header
    images: Sequence[ImageRecord]
    grids: Sequence[Array]
    failed: Sequence[FailedInput] = ()

    @property
    def codes_per_position(self) -> int:
        """C."""
        return self.grids[0].shape[-1] if len(self.grids) else self.header.codes_per_position

    def blocks(self) -> Iterator[tuple[str, int, Array]]:
        """Yield all tokens as (n, h, w, C) arrays of about 4 million tokens or less.

        With each comes the key of the array it is a part of (see `stack_key`), and its first row there.
        """
        if isinstance(self.grids, MappedGrids):
            yield from self.grids.blocks()
            return
        rows: dict[tuple[int, ...], int] = {}
        shapes = {grid.shape[:2] for grid in self.grids}
        for grid in self.grids:
            row = rows[grid.shape[:2]] = rows.get(grid.shape[:2], -1) + 1
            yield stack_key((grid.shape[0], grid.shape[1]), len(shapes)), row, grid[None]

    def check_range(self, sizes: tuple[int, ...]) -> None:
        """Raise TokenFileError unless there are `len(sizes)` codes per position, each below its size."""
        for _ in self.checked_blocks(sizes):
            pass

    def checked_blocks(self, sizes: tuple[int, ...]) -> Iterator[Array]:
        """Yield the arrays of `blocks`, each after its tokens were found to be in range.

        Raises:
            TokenFileError: there are not `len(sizes)` codes per position, or one is not below its size.
        """
        for key, first, block in self.blocks():
            if block.shape[-1] != len(sizes):
                raise TokenFileError(
                    f"it holds {block.shape[-1]} codes per position, the model {len(sizes)}: pass the model that made "
                    "it"
                )
            outside = (block < 0) | (block >= np.asarray(sizes))
            if outside.any():
                row, y, x, slot = (int(i) for i in np.unravel_index(outside.argmax(), outside.shape))
                where = "" if key == "tokens" else f" of {key}"
                raise TokenFileError(
                    f"token {block[row, y, x, slot]} at row {first + row}{where} ({y}, {x}) is outside "
                    f"0..{sizes[slot] - 1}"
                )
            yield block


def smallest_dtype(sizes: tuple[int, ...]) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds every token of these alphabet sizes."""
    return np.min_scalar_type(max(sizes) - 1)


def stack_key(grid: tuple[int, int], shapes: int) -> str:
    """Return what the array of a grid is called in a file of that many different grids."""
    return "tokens" if shapes <= 1 else f"tokens_{grid[0]}x{grid[1]}"


class MappedGrids(LazySequence[Array]):
    """The (h, w, C) grids of a file, looked up in its arrays: (n, h, w, C) for each (h, w).

    One that the manifest names and the arrays do not hold is a TokenFileError.
    """

    def __init__(self, stacks: Mapping[tuple[int, int], Array], manifest: Manifest | None) -> None:
        # A function, not a method of this object, which would then refer to itself: only the garbage collector frees
        # such an object, and its file would stay open until then.
        super().__init__(range(sum(map(len, stacks.values()))), partial(_grid, stacks, manifest))
        self._stacks, self._manifest = stacks, manifest

    @property
    def stacks(self) -> Mapping[tuple[int, int], Array]:
        """The (n, h, w, C) array of each (h, w) grid."""
        return self._stacks

    def row(self, index: int) -> int:
        """Return the row of an image in the array of its grid."""
        return index if self._manifest is None else self._manifest.places[index][1]

    def blocks(self) -> Iterator[tuple[str, int, Array]]:
        """Yield the arrays in blocks, see `TokenSet.blocks`."""
        for grid, stack in self._stacks.items():
            step = max(1, _TOKENS_AT_ONCE // max(1, stack[:1].size))
            for first in range(0, len(stack), step):
                yield stack_key(grid, len(self._stacks)), first, stack[first : first + step]


def _grid(stacks: Mapping[tuple[int, int], Array], manifest: Manifest | None, number: int) -> Array:
    if manifest is None:
        (stack,) = stacks.values()
        return stack[number]
    grid, row = manifest.places[number]
    stack = stacks.get(grid, np.empty(0))
    if row >= len(stack):
        raise TokenFileError(
            f"{manifest.where}its manifest says that row {row} is a {grid} grid, its arrays do not hold one"
        )
    return stack[row]


def map_tokens(arrays: Mapping[str, Array], header: Header, manifest: Manifest) -> TokenSet:
    """Return the tokens of a file's arrays: (N, h, w) each, or (N, h, w, C) when C is more than 1.

    Raises:
        TokenFileError: arrays and manifest contradict each other, or the tokens are no integers.
    """
    stacks: dict[tuple[int, int], Array] = {}
    for key, array in arrays.items():
        rows = with_codes(array, header.codes_per_position)
        grid = (rows.shape[1], rows.shape[2])
        if key != stack_key(grid, len(arrays)):
            raise TokenFileError(f"its array {key!r} holds {grid} grids")
        if len(rows):
            stacks[grid] = rows
    grids = MappedGrids(stacks, manifest)
    if len(grids) != len(manifest.images):
        raise TokenFileError(f"its arrays hold {len(grids)} rows, its manifest names {len(manifest.images)}")
    return TokenSet(header, manifest.images, grids, manifest.failed)


def with_codes(array: Array, codes: int) -> Array:
    """Return the rows of a file as (N, h, w, C); TokenFileError where they are something else."""
    check_integers(array)
    if array.ndim != (3 if codes == 1 else 4) or (codes > 1 and array.shape[-1] != codes):
        wanted = "(N, h, w)" if codes == 1 else f"(N, h, w, {codes})"
        raise TokenFileError(f"its array has the shape {array.shape}, expected {wanted}")
    return array[..., None] if codes == 1 else array


def check_integers(array: Array) -> None:
    """Raise TokenFileError unless the array holds integers."""
    if array.dtype.kind not in "iu":
        raise TokenFileError(f"its tokens are {array.dtype}, expected integers")
