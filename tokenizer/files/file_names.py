"""Names of images as names of files: none leads out of its folder, and each of any number has one of its own."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Digests = NDArray[np.uint64]

# Bytes of a name, and of each of its parts: systems allow 4,096 and 255, some of them less, with folder and suffixes.
_LONGEST_NAME, _LONGEST_PART, _LONGEST_SUFFIX = 1000, 220, 20


def safe_name(name: str) -> str:
    """Return a name without what would lead out of its folder, in parts that file systems can hold."""
    # NUL and halves of surrogate pairs, which no file name holds, go first: without them a part can be "..".
    name = re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", name).replace("\\", "/")
    name = re.sub("(^|/)([A-Za-z]):", r"\1\2_", name)  # a drive, to Windows
    parts = [_shortened(part) for part in name.split("/") if part not in ("", ".", "..")]
    whole = "/".join(parts) or "image"
    if len(whole) * 4 > _LONGEST_NAME and len(_bytes(whole)) > _LONGEST_NAME:
        return f"{_digest(whole)}/{parts[-1]}"
    return whole


def _shortened(part: str) -> str:
    """Return part of a name, or its start and its suffix with a digest of all of it between where it is too long."""
    if len(part) * 4 <= _LONGEST_PART or len(_bytes(part)) <= _LONGEST_PART:
        return part
    suffix = Path(part).suffix if len(_bytes(Path(part).suffix)) <= _LONGEST_SUFFIX else ""
    kept = _bytes(part)[: _LONGEST_PART // 2].decode("utf-8", "ignore")
    return f"{kept}~{_digest(part)}{suffix}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(text: str) -> str:
    return hashlib.blake2b(_bytes(text), digest_size=8).hexdigest()


def path_beneath(folder: Path, name: str) -> Path:
    """Return where a name lies in a folder.

    Raises:
        OutputError: a link on the way there leads out of the folder.
    """
    path = folder / name
    root, parent = (os.path.realpath(place) for place in (folder, path.parent))
    if os.path.commonpath([root, parent]) != root:
        raise OutputError(f"{path.parent} leads out of {folder} through a link: remove the link")
    return path


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
            wholes.append(_number_of(whole))
            stems.append(_number_of(_stem(whole)))
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
                digest = _number_of(f"{base}-{number}")
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


def _number_of(text: str) -> int:
    text = text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())
    # Not hash(): processes that share the work must agree where two differ by chance.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122  # five times as fast as Path, for millions of names
