"""Tokens as one array, for those who train on them, in any number of files that are opened when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tokenizer.errors import InputError, TokenFileError
from tokenizer.tokens.header import Header
from tokenizer.tokens.lazy_sequence import LazySequence
from tokenizer.tokens.token_files import read_tokens
from tokenizer.tokens.token_folders import find_token_files
from tokenizer.tokens.token_set import Array, MappedGrids, TokenSet

_FILES_OPEN = 64
_ONE_GRID = "one array needs one grid, encode with --image-size"


def load_tokens(path: str | Path, *more: str | Path) -> TokenArray:
    """Return the tokens of files and folders as one array: (N, h, w), or (N, h, w, C) for C > 1 codes per position.

    Args:
        path: a `.npy`, `.npz`, `.safetensors` or token `.tar`, or a folder of them that `vqtok encode` wrote.
        more: others of the same checkpoint; their rows follow in the order given.

    Raises:
        InputError: something is missing, unfinished, without tokens, or of another grid or checkpoint than the rest.
        TokenFileError: a file is truncated, foreign or damaged.
    """
    return TokenArray([file for given in (path, *more) for file in _files(Path(given))])


def _files(path: Path) -> list[tuple[str, int | None]]:
    """Return each token file, and how many images it holds where a list in its folder says that."""
    if not path.is_dir():
        return [(str(path), None)]
    folder = find_token_files(path)
    if not folder.finished:
        raise InputError(f"{path} is not finished: run vqtok encode --resume")
    if not folder.files:
        raise InputError(f"{path} holds no tokens")
    counts: Sequence[int | None] = folder.images or [None] * len(folder.files)
    return list(zip(folder.files, counts, strict=True))


class TokenArray:
    """The tokens of N images of one grid, (N, h, w) or (N, h, w, C), in any number of files.

    Indexed by a row, a slice or a list of rows, it gives NumPy arrays, views of a file where they can be;
    `np.asarray(tokens)` is all of it. At most 64 files are open at once. What is pickled is the names of the files.

    Attributes:
        shape: (N, h, w) or (N, h, w, C).
        dtype: as in the files.
        header: of the first file: the checkpoint, how images became tokens.

    Args:
        files: path of each, and how many images it holds where that is known: such a file is opened when it is needed.

    Raises:
        InputError: see `load_tokens`.
    """

    def __init__(self, files: Sequence[tuple[str, int | None]]) -> None:
        self._paths = [path for path, _ in files]
        self._counts = [count for _, count in files]
        self._kind: _RowKind | None = None
        self._part = lru_cache(_FILES_OPEN)(self._opened)
        counts = [len(self._part(number).rows) if count is None else count for number, count in enumerate(self._counts)]
        if not any(counts):
            raise InputError(f"{self._paths[0]} holds no tokens")
        self._ends = np.cumsum(counts)
        kind = self._part(int(np.flatnonzero(counts)[0])).kind()
        self.shape = (sum(counts), *kind.shape[: 2 + (kind.shape[2] > 1)])
        self.dtype, self.header = kind.dtype, kind.header

    def _opened(self, number: int) -> _Part:
        part, count = _open_part(Path(self._paths[number])), self._counts[number]
        if count is not None and len(part.rows) != count:
            raise InputError(f"{part.path} holds {len(part.rows)} images, its folder's list says {count}: encode again")
        if len(part.rows):
            self._kind = self._kind or part.kind()
            self._kind.check(part.kind())
        return part

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the open files."""
        return {key: value for key, value in vars(self).items() if key != "_part"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set what was pickled, with no file open."""
        vars(self).update(state)
        self._part = lru_cache(_FILES_OPEN)(self._opened)

    def __len__(self) -> int:
        """Return N."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Return what a person wants to see of it."""
        return f"TokenArray({self.shape}, {self.dtype}, files={len(self._paths)})"

    @property
    def ndim(self) -> int:
        """3, or 4 where there are several codes per position."""
        return len(self.shape)

    @property
    def names(self) -> Sequence[str]:
        """The name of each row's image, read when it is asked for; of an array without names, its row in the file."""
        return LazySequence(range(len(self)), self._name)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Alphabet size of each of the C codes per position; empty where the file does not say."""
        return self.header.codebook_sizes

    @property
    def model(self) -> str | None:
        """Fingerprint of the checkpoint that made the tokens; None where the file does not say."""
        return self.header.model

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Array:
        """Return (h, w[, C]) for a row, (n, h, w[, C]) for several, counted from the end where they are negative.

        Raises:
            IndexError: there is no such row, or it is another kind of index.
            InputError: a file that is opened now is damaged, or does not fit the others.
        """
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        rows = _rows(index, len(self))
        return self._gather(rows) if rows.ndim else self._slice(range(int(rows), int(rows) + 1))[0]

    def __iter__(self) -> Iterator[Array]:
        """Yield each row."""
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return all rows: a view of the file, where it is one file."""
        rows = self[:]
        array = rows if dtype is None else rows.astype(dtype, copy=False)
        if copy is False and array.flags.writeable:  # files are mapped for reading
            raise ValueError("tokens in several files, or as another dtype, need a copy")
        return array.copy() if copy and not array.flags.writeable else array

    def _slice(self, rows: range) -> Array:
        # Views keep their files open: only where there are few.
        if rows and len(self._paths) <= _FILES_OPEN and self._file(rows[0]) == self._file(rows[-1]):
            number = self._file(rows[0])
            held, first = self._part(number).rows, self._start(number)
            if isinstance(held, np.ndarray):
                stop = rows.stop - first
                return self._shaped(held[rows.start - first : stop if stop >= 0 else None : rows.step])
        if rows:
            for number in range(self._file(min(rows[0], rows[-1])), self._file(max(rows[0], rows[-1])) + 1):
                self._part(number)  # before room is made for what an index says of a file
        return self._gather(np.arange(rows.start, rows.stop, rows.step))

    def _gather(self, rows: NDArray[np.int64]) -> Array:
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        files = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(files, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(files[order])) + 1) if len(rows) else ():
            number = int(files[places[0]])
            taken[places] = self._shaped(self._part(number).take(rows[places] - self._start(number)))
        return taken

    def _shaped(self, rows: Array) -> Array:
        return rows if self.ndim == 4 else rows[..., 0]

    def _file(self, row: int) -> int:
        return int(np.searchsorted(self._ends, row, side="right"))

    def _start(self, number: int) -> int:
        return int(self._ends[number - 1]) if number else 0

    def _name(self, row: int) -> str:
        number = self._file(row)
        return self._part(number).name(row - self._start(number))


def _rows(index: Any, count: int) -> NDArray[np.int64]:
    """Return a row or a list of rows as () or (n,) integers from 0; IndexError where they are none of that many."""
    rows = np.asarray(index)
    if (rows.size and rows.dtype.kind not in "iu") or rows.ndim > 1 or isinstance(index, tuple):
        raise IndexError(f"tokens are indexed by a row, a slice or a list of rows, not by {index!r:.60}")
    rows = rows.astype(np.int64)
    outside = rows[(rows < -count) | (rows >= count)]
    if outside.size:
        raise IndexError(f"row {outside[0]} of {count}")
    return np.where(rows < 0, rows + count, rows)


@dataclass(frozen=True)
class _RowKind:
    """What all files must have in common: who made them, and the (h, w, C) shape and dtype of a row."""

    path: Path
    header: Header
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def check(self, other: _RowKind) -> None:
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
class _Part:
    """One file; `rows` is an (n, h, w, C) array, or a sequence of n (h, w, C) ones."""

    path: Path
    tokens: TokenSet
    rows: Array | Sequence[Array]

    def kind(self) -> _RowKind:
        """Return what it must have in common with others; it must hold a row."""
        return _RowKind(self.path, self.tokens.header, self.rows[0].shape, self.rows[0].dtype)

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Return a copy of some rows, (n, h, w, C)."""
        return self.rows[rows] if isinstance(self.rows, np.ndarray) else np.stack([self.rows[row] for row in rows])

    def name(self, row: int) -> str:
        """Return the name of the image in a row."""
        grids = self.tokens.grids
        if isinstance(grids, MappedGrids) and grids.row(row) != row:
            raise TokenFileError(f"{self.path}: its manifest is not in the order of its rows")
        return self.tokens.images[row].name


def _open_part(path: Path) -> _Part:
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
    return _Part(path, tokens, stacks[grids[0]] if stacks else tokens.grids)


def _show(grid: tuple[int, ...]) -> str:
    return f"{grid[0]}x{grid[1]}"
