"""Token files: `.npy` (with header and manifest beside it) and `.safetensors`; read also `.npz` and bare arrays."""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.files import replacing
from tokenizer.tokens.array_files import npy_array, npz_array, safetensors_arrays
from tokenizer.tokens.header import Header, header_from_json, load_json
from tokenizer.tokens.headerless import headerless_tokens
from tokenizer.tokens.lazy_sequence import LazySequence
from tokenizer.tokens.manifest import Manifest, manifest_line, parse_manifest
from tokenizer.tokens.serialization import MANIFEST_NAME, METADATA_KEY, Stack, Stored, header_line, token_file
from tokenizer.tokens.token_set import TokenSet, map_tokens, smallest_dtype
from tokenizer.tokens.token_tars import tar_tokens

TOKEN_FORMATS = ("npy", "safetensors", "tar")
TOKEN_SUFFIXES = (".npy", ".npz", ".safetensors", ".tar")
_NPY_MAGIC = b"\x93NUMPY"
_NPZ_MAGIC = b"PK\x03\x04"
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_HEADER_BYTES = 2**20


def sidecar_of(path: Path) -> Path:
    """Return where the header and the manifest of a `.npy` lie."""
    return path.with_name(path.name + ".jsonl")


def tokens_to_bytes(tokens: TokenSet, file_format: str) -> bytes:
    """Return the bytes of a token file; those of `npy` are the array alone.

    Raises:
        UsageError: the images have several grids and the format is `npy`, which holds one array.
        TokenFileError: a token lies outside its alphabet, and would turn into another one.
    """
    stacks, manifest = _laid_out(tokens)
    return b"".join(token_file(tokens.header, stacks, manifest, file_format))


def write_tokens(path: Path, tokens: TokenSet) -> None:
    """Write a token file in the format of its suffix; header and manifest of a `.npy` go to `sidecar_of(path)`.

    Raises:
        UsageError: the tokens do not fit the format.
        TokenFileError: a token lies outside its alphabet.
        OutputError: the file cannot be written.
    """
    write_stored(path, tokens.header, *_laid_out(tokens))


def write_stored(path: Path, header: Header, stacks: list[Stack], manifest: Stored) -> None:
    """Write a token file whose arrays lie elsewhere, as `write` does."""
    file_format = path.suffix.removeprefix(".")
    pieces = token_file(header, stacks, manifest, file_format)
    first = next(pieces)  # before anything is written: it raises where the tokens do not fit
    pieces = itertools.chain([first], pieces)
    if file_format == "npy":
        write_with_sidecar(path, pieces, header, manifest)
        return
    with replacing(path) as file:
        file.writelines(pieces)


def write_with_sidecar(path: Path, pieces: Iterable[bytes], header: Header, manifest: Stored) -> None:
    """Write a file, and header and manifest beside it; what was there before is gone as soon as one is replaced.

    Raises:
        OutputError: they cannot be written.
    """
    with replacing(path) as file, replacing(sidecar_of(path)) as beside:
        file.writelines(pieces)
        beside.write(header_line(header))
        beside.writelines(manifest.pieces())
        file.flush()
        beside.flush()
        path.unlink(missing_ok=True)  # a kill between the two leaves no old tokens beside new names


def _laid_out(tokens: TokenSet) -> tuple[list[Stack], Stored]:
    tokens.check_range(tokens.header.codebook_sizes)
    dtype = smallest_dtype(tokens.header.codebook_sizes)
    data: dict[tuple[int, int], list[bytes]] = {}
    lines = []
    for record, grid in zip(tokens.images, tokens.grids, strict=True):
        if grid.shape[:2] != record.grid:
            raise TokenFileError(
                f"{record.name!r} has tokens on a {grid.shape[:2]} grid, its record says {record.grid}"
            )
        rows = data.setdefault(record.grid, [])
        lines.append(manifest_line(len(rows), record))
        rows.append(grid.astype(dtype).tobytes())
    lines += [manifest_line(None, failure) for failure in tokens.failed]
    stacks = [Stack(grid, len(rows), _stored(rows)) for grid, rows in sorted(data.items())]
    return stacks, _stored(lines)


def _stored(pieces: list[bytes]) -> Stored:
    return Stored(sum(map(len, pieces)), lambda: iter(pieces))


def read_tokens(source: Path | bytes, grid: tuple[int, int] | None = None, codes: int = 1) -> TokenSet:
    """Return the tokens of a file, mapped into memory, or of the bytes of one.

    `grid` and `codes` are for arrays without a header, see `bare`.

    Raises:
        InputError: the file is missing or cannot be read.
        TokenFileError: it is truncated, foreign or damaged. Tokens outside their alphabet are found by
            `TokenSet.check_range`, damaged rows of the manifest when they are read.
        UsageError: `grid` is for sequences, and these are none of that length.
    """
    if isinstance(source, bytes):
        return _parse(np.frombuffer(source, np.uint8), None, None, grid, codes)
    try:
        data = _mapped(source)
        beside = _mapped(sidecar_of(source)) if sidecar_of(source).exists() else None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return _parse(data, source, beside, grid, codes)
    except (TokenFileError, UsageError) as error:
        raise type(error)(f"{source}: {error}") from error


def _mapped(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):  # a pipe, as of a shell's <(...)
            return np.frombuffer(file.read(), np.uint8)
        if not status.st_size:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _parse(
    data: NDArray[np.uint8],
    path: Path | None,
    beside: NDArray[np.uint8] | None,
    grid: tuple[int, int] | None,
    codes: int,
) -> TokenSet:
    magic = data[:8].tobytes()
    lies = path if path and path.is_file() else None  # a pipe cannot be opened again
    if magic.startswith(_NPY_MAGIC):
        array = npy_array(data)
        return headerless_tokens(array, grid, codes) if beside is None else _beside(array, beside, _where(path))
    if magic.startswith(_NPZ_MAGIC):
        return headerless_tokens(npz_array(data), grid, codes)
    is_tar = data[_TAR_MAGIC_AT : _TAR_MAGIC_AT + len(_TAR_MAGIC)].tobytes() == _TAR_MAGIC
    if is_tar and beside is None:
        return tar_tokens(data, _where(path), ())
    if beside is not None and len(data) and (is_tar or not data.any()):  # a tar of no samples is zeros alone
        return _archive_beside(data, beside, _where(path))
    arrays, metadata = safetensors_arrays(data, lies)
    if METADATA_KEY not in metadata:
        if len(arrays) == 1:
            return headerless_tokens(next(iter(arrays.values())), grid, codes)
        raise TokenFileError(f"it holds {len(arrays)} arrays and no vqtok header: save one array of tokens")
    header = header_from_json(load_json(metadata[METADATA_KEY]))
    lines = arrays.pop(MANIFEST_NAME, None)
    if lines is None or lines.dtype != np.uint8 or lines.ndim != 1:
        raise TokenFileError("it holds no manifest")
    return map_tokens(arrays, header, parse_manifest(lines, header.downsample, _where(path)))


def _where(path: Path | None) -> str:
    return "" if path is None else f"{path}: "


def _beside(array: NDArray[Any], beside: NDArray[np.uint8], where: str) -> TokenSet:
    header, manifest = parse_sidecar(beside, where)
    return map_tokens({"tokens": array}, header, manifest)


def _archive_beside(data: NDArray[np.uint8], beside: NDArray[np.uint8], where: str) -> TokenSet:
    header, manifest = parse_sidecar(beside, where)
    tokens = tar_tokens(data, where, manifest.failed) if data.any() else TokenSet(header, (), (), manifest.failed)
    if len(tokens.images) != len(manifest.images):
        raise TokenFileError(f"it holds {len(tokens.images)} images, its manifest names {len(manifest.images)}")
    return tokens


def parse_sidecar(text: NDArray[np.uint8], where: str = "") -> tuple[Header, Manifest]:
    """Return the header in the first line of a sidecar, and the manifest after it.

    `where` begins the messages of what is found wrong later, when a row is read.

    Raises:
        TokenFileError: it is damaged.
    """
    first, newline, _ = text[:_HEADER_BYTES].tobytes().partition(b"\n")
    header = header_from_json(load_json(first))
    if not newline:
        raise TokenFileError("its manifest is truncated")
    return header, parse_manifest(text[len(first) + 1 :], header.downsample, where)


def select_rows(tokens: TokenSet, rows: range) -> TokenSet:
    """Return the tokens of some images."""
    images, grids = LazySequence(rows, tokens.images.__getitem__), LazySequence(rows, tokens.grids.__getitem__)
    return dataclasses.replace(tokens, images=images, grids=grids)
