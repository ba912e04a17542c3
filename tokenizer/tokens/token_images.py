"""Token files as one sequence, and their images as another; few files are open at once."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from tokenizer.errors import TokenFileError, UsageError
from tokenizer.tokens.header import Header
from tokenizer.tokens.manifest import ImageRecord
from tokenizer.tokens.token_files import read_tokens, select_rows
from tokenizer.tokens.token_set import Array, TokenSet

_OPEN = 16


@dataclass(frozen=True)
class TokenFile:
    """A token file.

    Attributes:
        name: its path, or `stdin`.
        images: how many it should hold, where an index says it.
        tokens: its tokens, where they are in memory.
    """

    name: str
    images: int | None = None
    tokens: TokenSet | None = None


class TokenFiles(Sequence[TokenSet]):
    """Token files, each opened when it is asked for; the last few stay open.

    Args:
        files: the files, in order.
        grid: (h, w) of the sequences in arrays without a header; None where there are none.
        codes: codes per position of these.
        warnings: what to tell of where they were found, one line each.
    """

    def __init__(
        self,
        files: Sequence[TokenFile],
        grid: tuple[int, int] | None = None,
        codes: int = 1,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.files, self.warnings, self._grid, self._codes = files, warnings, grid, codes
        self._open: dict[int, TokenSet] = {}

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    @property
    def names(self) -> list[str]:
        """What the files are called."""
        return [file.name for file in self.files]

    def __iter__(self) -> Iterator[TokenSet]:
        """Yield the tokens of each file."""
        return (self[number] for number in range(len(self)))

    def of(self, files: Sequence[TokenFile]) -> TokenFiles:
        """Return other files, read as these are."""
        return TokenFiles(files, self._grid, self._codes, self.warnings)

    @overload
    def __getitem__(self, index: int) -> TokenSet: ...
    @overload
    def __getitem__(self, index: slice) -> TokenFiles: ...
    def __getitem__(self, index: int | slice) -> TokenSet | TokenFiles:
        """Return the tokens of a file, see `read_tokens`.

        Raises:
            UsageError: there is a `grid`, and the file says itself what its grids are.
        """
        if isinstance(index, slice):
            return self.of(self.files[index])
        number = range(len(self))[index]
        if number not in self._open:
            tokens = self._read(self.files[number])
            while len(self._open) >= _OPEN:
                del self._open[next(iter(self._open))]
            self._open[number] = tokens
        return self._open[number]

    def _read(self, file: TokenFile) -> TokenSet:
        tokens = file.tokens or read_tokens(Path(file.name), self._grid, self._codes)
        if self._grid and tokens.header != Header():
            raise UsageError(f"{file.name} says itself what its grids are: drop --grid")
        if file.images not in (None, len(tokens.grids)):
            raise TokenFileError(
                f"{file.name}: it holds {len(tokens.grids)} images, the index beside it says {file.images}"
            )
        return tokens

    def images(self, number: int) -> int:
        """Return how many images a file holds; where an index says it, without opening the file."""
        said = self.files[number].images
        return len(self[number].grids) if said is None else said


@dataclass(frozen=True)
class TokenImages:
    """Images of token files, numbered from 0.

    Attributes:
        files: where they are.
        parts: number of a file and its rows, in order.
    """

    files: TokenFiles
    parts: tuple[tuple[int, range], ...]

    def __len__(self) -> int:
        """Return how many."""
        return sum(len(rows) for _, rows in self.parts)

    def tokens(self, part: int) -> TokenSet:
        """Return what is taken of a file."""
        number, rows = self.parts[part]
        whole = self.files[number]
        return whole if len(rows) == len(whole.grids) else select_rows(whole, rows)

    def only(self, parts: Collection[int]) -> TokenImages:
        """Return the images of the parts of these numbers."""
        return replace(self, parts=tuple(part for number, part in enumerate(self.parts) if number in parts))

    def names(self) -> Iterator[str]:
        """Yield the name of each image."""
        return (record.name for record in self.records())

    def records(self, numbers: slice = slice(None)) -> Iterator[ImageRecord]:
        """Yield the record of each image, or of every `numbers.step`-th."""
        return (tokens.images[row] for tokens, row in self._find(numbers))

    def rows(self, numbers: slice = slice(None)) -> Iterator[tuple[ImageRecord, Array]]:
        """Yield record and (h, w, C) grid of each image, or of every `numbers.step`-th."""
        return ((tokens.images[row], tokens.grids[row]) for tokens, row in self._find(numbers))

    def _find(self, numbers: slice) -> Iterator[tuple[TokenSet, int]]:
        wanted, first = range(len(self))[numbers], 0
        for number, rows in self.parts:
            # This part holds the images `first` to `first + len(rows) - 1`. The n-th wanted one is start + n * step, so
            # that n begins at (first - start) / step, rounded up, and ends likewise: -(a // b) is -a / b rounded up.
            begin, end = (max(0, -((wanted.start - edge) // wanted.step)) for edge in (first, first + len(rows)))
            for image in wanted[begin:end]:
                yield self.files[number], rows[image - first]
            first += len(rows)


def select_images(files: TokenFiles, start: int | None = None, stop: int | None = None) -> TokenImages:
    """Return the images `start` to `stop` - 1 of all files taken together; as in a slice, either may be negative.

    Only the files that are needed are opened.
    """
    whole = stop is None or min(start or 0, stop) < 0
    ends = [0]
    for number in range(len(files)):
        if not whole and ends[-1] >= (stop or 0):
            break
        ends.append(ends[-1] + files.images(number))
    chosen = range(ends[-1])[start:stop]
    parts = []
    for number, (first, end) in enumerate(itertools.pairwise(ends)):
        rows = range(max(chosen.start, first) - first, min(chosen.stop, end) - first)
        if rows:
            parts.append((number, rows))
    return TokenImages(files, tuple(parts))
