"""Archives of tokens, as `TarWriter` writes them, read in place."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.tokens.array_files import npy_array
from tokenizer.tokens.header import header_from_json, load_json
from tokenizer.tokens.lazy_sequence import LazySequence
from tokenizer.tokens.manifest import FailedInput, ImageRecord, manifest_lines, record_from_json
from tokenizer.tokens.token_set import Array, TokenSet, with_codes

TOKENS = ".npy"
ABOUT = ".vqtok.json"


def tar_tokens(data: NDArray[np.uint8], where: str, failed: Sequence[FailedInput]) -> TokenSet:
    """Return the tokens of an archive, views of its (bytes,) uint8.

    Args:
        data: the archive.
        where: what messages begin with: the file's name and a colon, or nothing.
        failed: inputs without tokens, which an archive does not name.

    Raises:
        TokenFileError: it is damaged, or holds no tokens of vqtok's.
    """
    try:
        spans = _samples(data)
    except Exception as error:  # tarfile takes sizes and recursion as they come
        raise TokenFileError(f"it is a damaged tar: {' '.join(str(error).split())}") from error
    if not len(spans):
        raise TokenFileError(f"it is a tar without tokens: expected samples of {TOKENS} and {ABOUT}")
    first = load_json(data[spans[0, 2] : spans[0, 3]].tobytes())
    header = header_from_json(first.get("header") if isinstance(first, dict) else None)

    def parse(values: Any) -> ImageRecord:
        if values["header"] != first["header"]:
            raise ValueError("it was made by another model or with other options than the first sample")
        return record_from_json(values["image"], header.downsample)

    images = manifest_lines(data, spans[:, 2], spans[:, 3], parse, where)

    def grid(number: int) -> Array:
        start, end = spans[number, :2]
        return _grid(data[start:end], images[number], header.codes_per_position, where)

    return TokenSet(header, images, LazySequence(range(len(spans)), grid), failed)


def _grid(data: NDArray[np.uint8], image: ImageRecord, codes: int, where: str) -> Array:
    """Return the (h, w, C) tokens of a `.npy`, on the grid that the image's record says."""
    try:
        grid = with_codes(npy_array(data)[None], codes)[0]
    except TokenFileError as error:
        raise TokenFileError(f"{where}{image.name!r}: {error}") from error
    if grid.shape[:2] != image.grid:
        raise TokenFileError(
            f"{where}{image.name!r} has tokens on a {grid.shape[:2]} grid, its record says {image.grid}"
        )
    return grid


class _View(io.RawIOBase):
    """The bytes of an array as a file: a read returns no more than there is, whatever a header asks for."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data, self._at = data, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        start, end = self._at, len(self._data) if size < 0 else self._at + size
        found = self._data[start:end].tobytes()
        self._at += len(found)
        return found


def _samples(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (N, 4): where each image's tokens begin and end, and then what is said about them, which follows."""
    spans: list[tuple[int, int, int, int]] = []
    before = tarfile.TarInfo()
    for member in _walk(_View(data)):
        if not 0 <= member.offset_data <= member.offset_data + member.size <= len(data):
            raise EOFError(f"it ends within {member.name}")
        if member.name.endswith(ABOUT):
            if before.name != member.name.removesuffix(ABOUT) + TOKENS:
                raise ValueError(f"{member.name} does not follow its tokens")
            spans.append((*_span(before), *_span(member)))
        before = member
    return np.array(spans, np.int64).reshape(-1, 4)


def _span(member: tarfile.TarInfo) -> tuple[int, int]:
    return member.offset_data, member.offset_data + member.size


def _walk(stream: _View) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        end = -1
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if archive.offset <= end:
                raise ValueError(f"{member.name} ends before it begins")
            end = archive.offset
            if member.isfile() and not member.issparse():
                yield member
