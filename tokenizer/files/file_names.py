"""A file name of its own for each of any number of images."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tokenizer.files.safe_names import safe_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Digests = NDArray[np.uint64]


class FileNames:
    """A file name for each image name, all different, none leaving its folder, decided for all images at once.

    `a/b.jpg` becomes `a/b.png`; where `b.jpg` and `b.webp` lie side by side, both keep their suffix
    (`b.jpg.png`, `b.webp.png`); names that still coincide are numbered. Those that differ only by case, or by how an
    accent is written, count as equal, as they are to some file systems. An image costs one byte, and some more while
    they are compared.

    Args:
        names: a call that yields the names of all images, the same each time.
        suffix: of the files, such as `.png`.
    """

    def __init__(self, names: Callable[[], Iterable[str]], suffix: str) -> None:
        import numpy as np  # here, as most of what imports this room names no files

        self._suffix = suffix
        wholes, stems = array("Q"), array("Q")
        for name in names():
            whole = safe_name(name)
            wholes.append(_digest(whole))
            stems.append(_digest(_stem(whole)))
        by_whole, by_stem = np.array(wholes, np.uint64), np.array(stems, np.uint64)
        self._shared = np.zeros(len(by_stem), bool)
        order, again = _repeats(by_stem)
        self._shared[order[1:][again]] = self._shared[order[:-1][again]] = True
        bases = np.where(self._shared, by_whole, by_stem)
        self._numbered: dict[int, str] = {}
        order, again = _repeats(bases)
        if again.any():
            self._number(names(), bases, set(order[1:][again].tolist()))

    def _number(self, names: Iterable[str], bases: Digests, rows: set[int]) -> None:
        import numpy as np

        taken, added = np.unique(bases), set[int]()
        last: dict[int, int] = {}
        for row, name in enumerate(names):
            if row not in rows:
                continue
            base, number = self._base(row, name), last.get(int(bases[row]), 0)
            while True:
                number += 1
                digest = _digest(f"{base}-{number}")
                place = np.searchsorted(taken, np.uint64(digest))
                if digest not in added and (place == len(taken) or taken[place] != digest):
                    break
            last[int(bases[row])] = number
            added.add(digest)
            self._numbered[row] = f"{base}-{number}"

    def _base(self, row: int, name: str) -> str:
        whole = safe_name(name)
        return whole if self._shared[row] else _stem(whole)

    def of(self, row: int, name: str) -> str:
        """Return the file name of the image in that row, from 0; `name` is the one that was given for it."""
        return (self._numbered.get(row) or self._base(row, name)) + self._suffix


def _repeats(digests: Digests) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows sorted by digest, and which of all but the first equals the one before it."""
    import numpy as np

    order = np.argsort(digests, kind="stable")
    ranked = digests[order]
    return order, ranked[1:] == ranked[:-1]


def _digest(text: str) -> int:
    text = text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())
    # Not hash(): processes that share the work must agree where two differ by chance.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122  # five times as fast as Path, for millions of names
