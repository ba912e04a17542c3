"""Lists of images by the million: of each, the text of its path or URL is held, and its name follows from that."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np

from tokenizer.images import Source
from tokenizer.inputs.urls import fetch_url, is_url, path_of


class Texts:
    """A list of strings that takes the bytes of each and 8 more."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a string to the end."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> str:
        """Return the string in `row`, from 0."""
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogatepass")


class Listing(Sequence[Source]):
    """Images in order, each made into a `Source` when it is asked for; a slice is a listing too.

    Args:
        locations: paths and URLs.
        folder: absolute; the names of paths are relative to it.
        site: how what `path_of` returns for the URLs begins; their names are relative to it.
        rows: which locations, in which order.
    """

    def __init__(self, locations: Texts, folder: str, site: str, rows: Sequence[int]) -> None:
        self._locations, self._folder, self._site, self.rows = locations, folder, site, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> Listing: ...
    def __getitem__(self, index: int | slice) -> Source | Listing:
        if isinstance(index, slice):
            return Listing(self._locations, self._folder, self._site, self.rows[index])
        location = self._locations[self.rows[index]]
        if is_url(location):
            name = path_of(location).removeprefix(self._site).lstrip("/")
            return Source(name, partial(fetch_url, location))
        name = _place(location)[len(self._folder) :].replace(os.sep, "/").lstrip("/")
        return Source(name or location, Path(location))


def without_repeats(locations: Texts) -> Sequence[int]:
    """Return the rows of the locations that lie where no earlier one does, in order.

    Hashes of 8 bytes are compared first, and the texts only where hashes are the same: all texts in a set would take
    many times the memory.
    """
    hashes = np.fromiter((hash(_place(locations[row])) for row in range(len(locations))), np.int64, len(locations))
    values, counts = np.unique(hashes, return_counts=True)
    shared = set(values[counts > 1].tolist())
    if not shared:
        return range(len(locations))
    rows, seen = array("q"), set[str]()
    for row, value in enumerate(hashes.tolist()):
        if value in shared:
            place = _place(locations[row])
            if place in seen:
                continue
            seen.add(place)
        rows.append(row)
    return rows


def _place(location: str) -> str:
    return location if is_url(location) else os.path.abspath(location)  # noqa: PTH100  # links are not followed
