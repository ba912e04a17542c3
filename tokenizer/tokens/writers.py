"""Writers of token files, whose memory does not grow with the number of images."""

from __future__ import annotations

import json
import tarfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import UsageError
from tokenizer.files import canonical_json
from tokenizer.tokens.header import Header
from tokenizer.tokens.journal import MANIFEST, Journal, damaged_journal, journal_entries
from tokenizer.tokens.manifest import FailedInput, ImageRecord, manifest_line
from tokenizer.tokens.serialization import Stack, Stored, npy_bytes, token_file
from tokenizer.tokens.token_files import write_stored, write_with_sidecar
from tokenizer.tokens.token_set import Array, smallest_dtype

_ROWS = "rows"


@dataclass(frozen=True)
class EncodedRow:
    """What became of one input.

    Attributes:
        record: the image's, or why there is none.
        grid: its (h, w, C) tokens, none for a failure.
        carried: name and bytes of what belongs to the image in an archive of tokens too.
        has_more: the image's file has further frames or pages.
    """

    record: ImageRecord | FailedInput
    grid: Array | None = None
    carried: Sequence[tuple[str, bytes]] = ()
    has_more: bool = False


class Writer(Protocol):
    """Takes rows in the order of the inputs, then makes one token file of them."""

    journal: Journal
    images: int
    failed: int

    def add(self, row: EncodedRow) -> None:
        """Take the next row."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the file, after all is committed."""

    def write(self, path: Path) -> None:
        """Write the file, with what lies beside it, after all is committed."""


class StackWriter:
    """A `.npy` or `.safetensors`: one array for the images of one grid.

    Args:
        journal: where rows and manifest grow; what an earlier process left there counts.
        header: of the file.
        file_format: npy or safetensors.
    """

    def __init__(self, journal: Journal, header: Header, file_format: str) -> None:
        self.journal, self._header, self._format = journal, header, file_format
        self._dtype = smallest_dtype(header.codebook_sizes)
        self._grids: dict[tuple[int, int], int] = {}  # number of each grid
        self._counts: list[int] = []  # rows of each grid
        self._which = array("i")  # number of the grid of each row
        self.images = self.failed = 0
        for row, entry in journal_entries(journal, header.downsample):
            if isinstance(entry, FailedInput):
                self.failed += 1
            elif self._count(entry) != row:
                raise damaged_journal(journal, f"{entry.name} is in row {row}")
        held = sum(count * self._row_bytes(grid) for grid, count in zip(self._grids, self._counts, strict=True))
        if held != journal.stored(_ROWS).size:
            raise damaged_journal(journal, f"{held} bytes of tokens are named, {journal.stored(_ROWS).size} are there")

    def _count(self, image: ImageRecord) -> int:
        """Note one more image and return its row among those of its grid."""
        grid = image.grid
        if self._format == "npy" and self._grids and grid not in self._grids:
            (first,) = self._grids
            raise UsageError(
                f"{image.name} has a {grid[0]}x{grid[1]} grid, others {first[0]}x{first[1]}: one .npy array holds one "
                "size. Pass --image-size, or write .safetensors or a folder"
            )
        number = self._grids.setdefault(grid, len(self._grids))
        if number == len(self._counts):
            self._counts.append(0)
        self._which.append(number)
        self._counts[number] += 1
        self.images += 1
        return self._counts[number] - 1

    def add(self, row: EncodedRow) -> None:
        """Take the next row.

        Raises:
            UsageError: its grid is another one than those before, and the format is npy.
        """
        if isinstance(row.record, FailedInput) or row.grid is None:
            self.journal.append(MANIFEST, manifest_line(None, row.record))
            self.failed += 1
        else:
            self.journal.append(MANIFEST, manifest_line(self._count(row.record), row.record))
            self.journal.append(_ROWS, row.grid.astype(self._dtype).tobytes())
        self.journal.mark(self.images + self.failed)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the file, after all is committed; those of a `.npy` are the array alone."""
        return token_file(self._header, self._stacks(), self.journal.stored(MANIFEST), self._format)

    def write(self, path: Path) -> None:
        """Write the file, and beside a `.npy` what it cannot hold, after all is committed."""
        write_stored(path, self._header, self._stacks(), self.journal.stored(MANIFEST))

    def _stacks(self) -> list[Stack]:
        return [self._stack(grid, self._grids[grid]) for grid in sorted(self._grids)]

    def _stack(self, grid: tuple[int, int], number: int) -> Stack:
        size = self._row_bytes(grid)
        if len(self._grids) == 1:
            stored = self.journal.stored(_ROWS)
        else:
            stored = Stored(self._counts[number] * size, lambda: self._gather(number, size))
        return Stack(grid, self._counts[number], stored)

    def _row_bytes(self, grid: tuple[int, int]) -> int:
        return grid[0] * grid[1] * self._header.codes_per_position * self._dtype.itemsize

    def entries(self) -> Iterator[tuple[int | None, ImageRecord | FailedInput]]:
        """Yield what became of each input that is safe, with its row."""
        return journal_entries(self.journal, self._header.downsample)

    def rows(self) -> Iterator[Array]:
        """Yield the (h, w, C) grid of each image, after all is committed."""
        grids, log, end = list(self._grids), self._log(), 0
        for number in self._which:
            end += self._row_bytes(grids[number])
            row = log[end - self._row_bytes(grids[number]) : end].view(self._dtype)
            yield row.reshape(*grids[number], self._header.codes_per_position)

    def add_part(self, part: StackWriter) -> None:
        """Take all rows of a part of the inputs, whose journal is finished."""
        rows = part.rows()
        for _, entry in part.entries():
            self.add(EncodedRow(entry, next(rows) if isinstance(entry, ImageRecord) else None))

    def _log(self) -> NDArray[np.uint8]:
        return np.memmap(self.journal.path(_ROWS), np.uint8, "r")

    def _gather(self, number: int, size: int) -> Iterator[bytes]:
        which = np.frombuffer(self._which, np.dtype("i"))
        sizes = np.array([self._row_bytes(grid) for grid in self._grids])
        ends = np.cumsum(sizes[which])
        rows = self._log()
        for end in ends[which == number]:
            yield rows[end - size : end].tobytes()


class TarWriter:
    """A tar in webdataset layout: `KEY.npy` and `KEY.vqtok.json` for each image, and what its sample carried along.

    Args:
        journal: where archive and manifest grow; what an earlier process left there counts.
        header: of the tokens; each `.vqtok.json` holds it, so that a sample can be decoded alone.
    """

    def __init__(self, journal: Journal, header: Header) -> None:
        self.journal, self._header = journal, header
        self._dtype = smallest_dtype(header.codebook_sizes)
        self.images = self.failed = 0
        self._stem = ""
        for _, entry in journal_entries(journal, header.downsample):
            if isinstance(entry, FailedInput):
                self.failed += 1
            else:
                self.images += 1
                self._stem = _stem(entry.name)

    def add(self, row: EncodedRow) -> None:
        """Take the next row; a failure is named in the manifest alone."""
        if isinstance(row.record, FailedInput) or row.grid is None:
            self.journal.append(MANIFEST, manifest_line(None, row.record))
            self.failed += 1
        else:
            text = manifest_line(self.images, row.record)
            self.journal.append(MANIFEST, text)
            self.journal.append(_ROWS, b"".join(self._members(row.record, row.grid, text, row.carried)))
            self.images += 1
        self.journal.mark(self.images + self.failed)

    def _members(
        self, record: ImageRecord, grid: Array, text: bytes, carried: Iterable[tuple[str, bytes]]
    ) -> Iterator[bytes]:
        stem = _stem(record.name)
        if stem == self._stem:
            stem = record.name  # `a.jpg` and `a.png` of one sample
        self._stem = _stem(record.name)
        rows = grid if self._header.codes_per_position > 1 else grid[..., 0]
        yield from _member(f"{stem}.npy", npy_bytes(rows.astype(self._dtype)))
        about = {"header": self._header.to_json(), "image": json.loads(text)}
        yield from _member(f"{stem}.vqtok.json", canonical_json(about).encode())
        for name, data in carried:
            yield from _member(name, data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the archive, after all is committed."""
        yield from self.journal.stored(_ROWS).pieces()
        yield bytes(2 * tarfile.BLOCKSIZE)

    def write(self, path: Path) -> None:
        """Write the archive, and beside it header and manifest, after all is committed."""
        write_with_sidecar(path, self.pieces(), self._header, self.journal.stored(MANIFEST))


def _stem(name: str) -> str:
    return name[: len(name) - len(Path(name).suffix)]


def _member(name: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield data
    yield bytes(-len(data) % tarfile.BLOCKSIZE)
