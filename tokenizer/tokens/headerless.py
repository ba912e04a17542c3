"""Arrays of tokens without a header, as programs that generate images write them."""

from __future__ import annotations

from tokenizer.errors import TokenFileError, UsageError
from tokenizer.tokens.header import Header
from tokenizer.tokens.lazy_sequence import LazySequence
from tokenizer.tokens.manifest import ImageRecord
from tokenizer.tokens.token_set import Array, MappedGrids, TokenSet, check_integers


def headerless_tokens(array: Array, grid: tuple[int, int] | None = None, codes: int = 1) -> TokenSet:
    """Return an array that carries no header: (h, w), (N, h, w) or (N, h, w, C).

    With `grid` (h, w), it may also hold sequences: (N, h*w), (h*w,), (N, h*w, C), or (N, h*w*C) with `codes` C.
    Images are named by their row number.

    Raises:
        TokenFileError: the array has another shape, or its values are no integers.
        UsageError: its sequences do not have the length of the grid.
    """
    check_integers(array)
    rows = _four_axes(array) if grid is None else _from_sequences(array, grid, codes)
    shape = (rows.shape[1], rows.shape[2])
    digits = max(6, len(str(len(rows))))
    images = LazySequence(range(len(rows)), lambda row: ImageRecord(f"{row:0{digits}d}", shape))
    return TokenSet(Header(), images, MappedGrids({shape: rows}, None))


def _four_axes(array: Array) -> Array:
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise TokenFileError(
            f"its array has the shape {array.shape}, expected (h, w), (N, h, w) or (N, h, w, C); for sequences, pass "
            "--grid HxW"
        )
    return array if array.ndim == 4 else array.reshape(-1, *array.shape[-2:], 1)


def _from_sequences(array: Array, grid: tuple[int, int], codes: int) -> Array:
    height, width = grid
    if height < 1 or width < 1:
        raise UsageError(f"a grid of {height}x{width} has no positions")
    if array.shape == grid or (array.ndim >= 3 and array.shape[1:3] == grid) or 0 in array.shape:
        return _four_axes(array)
    length = height * width
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 3 and array.shape[1] == length:
        return array.reshape(-1, height, width, array.shape[2])
    if array.ndim != 2 or not len(array) or array.shape[1] not in (length, length * codes):
        also = f" or (N, {length * codes})" if codes > 1 else ""
        raise UsageError(f"its array has the shape {array.shape}, a grid of {height}x{width} needs (N, {length}){also}")
    return array.reshape(-1, height, width, array.shape[1] // length)
