"""Token files: `.npy` (with a JSON beside it) and `.safetensors`."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.files import canonical_json, write_bytes
from tokenizer.token_files.header import from_json
from tokenizer.token_files.tokens import Array, TokenSet, bare, stack, unstack

FORMATS = ("npy", "safetensors")
SUFFIXES = tuple(f".{name}" for name in FORMATS)
_KEY = "vqtok"
_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def sidecar(path: Path) -> Path:
    """Return where the header of a `.npy` lies."""
    return path.with_name(path.name + ".json")


def to_bytes(tokens: TokenSet, file_format: str) -> bytes:
    """Return the bytes of a token file; those of `npy` are the array alone, without the header.

    Raises:
        UsageError: the images have several grids and the format is `npy`, which holds one array.
    """
    # The numpy writer of safetensors stores the memory as it lies, whatever the strides say.
    arrays = {key: np.ascontiguousarray(array) for key, array in stack(tokens).items()}
    if file_format == "safetensors":
        # One key: safetensors writes several in a different order each time.
        return safetensors.numpy.save(arrays, metadata={_KEY: canonical_json(tokens.header.to_json())})
    if len(arrays) > 1:
        raise UsageError(
            f"images of {len(arrays)} different grids do not fit one .npy array: pass --image-size to give them "
            "one size, or write a .safetensors file or a folder"
        )
    buffer = io.BytesIO()
    np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    return buffer.getvalue()


def write(path: Path, tokens: TokenSet) -> None:
    """Write a token file in the format of its suffix; the header of a `.npy` goes to `sidecar(path)`.

    Raises:
        UsageError: the tokens do not fit the format.
        OutputError: the file cannot be written.
    """
    file_format = path.suffix.removeprefix(".")
    data = to_bytes(tokens, file_format)
    if file_format == "npy":
        write_bytes(sidecar(path), canonical_json(tokens.header.to_json()).encode())
    write_bytes(path, data)


def read(source: Path | bytes) -> TokenSet:
    """Read a token file, or the bytes of one; an array without a header is read by `bare`.

    Raises:
        InputError: the file is missing or cannot be read.
        TokenFileError: it is truncated, foreign, damaged, or holds tokens outside their alphabet.
    """
    if isinstance(source, bytes):
        return _parse(source, None)
    try:
        data = source.read_bytes()
        header = sidecar(source).read_text("utf-8") if sidecar(source).exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return _parse(data, header)
    except TokenFileError as error:
        raise TokenFileError(f"{source}: {error}") from error


def _parse(data: bytes, header: str | None) -> TokenSet:
    if data.startswith(_NPY_MAGIC):
        return _parse_npy(data, header)
    return _parse_safetensors(data)


def _parse_npy(data: bytes, header: str | None) -> TokenSet:
    try:
        with warnings.catch_warnings(action="ignore"):
            array = _npy_array(data)
    except Exception as error:  # numpy reads the header as Python, whose tokenizer and parser raise their own
        raise TokenFileError(f"it is damaged or holds no plain numbers: {_one_line(error)}") from error
    return bare(array) if header is None else unstack({"tokens": array}, from_json(_load_json(header)))


def _npy_array(data: bytes) -> Array:
    # Not np.load, which makes room for what the header promises before it looks for it.
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in _NPY_HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    shape, fortran, dtype = _NPY_HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("Python objects")
    promised, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if promised != there:
        raise ValueError(f"{there} bytes of data where its header promises {promised}")
    return np.ndarray(shape, dtype, data, stream.tell(), order="F" if fortran else "C")


def _parse_safetensors(data: bytes) -> TokenSet:
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        # Only now: these bytes can begin the header length of a good file too.
        if data.startswith((b"PK", b"\x80")):
            raise TokenFileError(
                "it is a pickle or a zip archive, which is never opened: save .npy or .safetensors"
            ) from error
        raise TokenFileError(
            f"it is neither a .npy nor a .safetensors file, or is damaged: {_one_line(error)}"
        ) from error
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    if _KEY in metadata:
        return unstack(arrays, from_json(_load_json(metadata[_KEY])))
    if len(arrays) == 1:
        return bare(next(iter(arrays.values())))
    raise TokenFileError(f"it holds {len(arrays)} arrays and no vqtok header: save one array of tokens")


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenFileError(f"its header is damaged: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
