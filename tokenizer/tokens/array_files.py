"""The arrays inside `.npy`, `.npz` and `.safetensors`, as views of the file; nothing is unpickled.

What a file promises is compared with what is there before any memory is taken.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray

from tokenizer.errors import TokenFileError
from tokenizer.files import TensorEntry, read_safetensors_header
from tokenizer.tokens.token_set import Array

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NPY_HEADER_BYTES = 2**16
# Inside a .npz: as large as anything, or as well compressed as tokens may be.
_UNPACKED_BYTES = 2**28
_RATIO = 100


def npy_array(data: NDArray[np.uint8]) -> Array:
    """Return the array of a `.npy`, a view of its (bytes,) uint8.

    Raises:
        TokenFileError: it is truncated, damaged, or holds Python objects.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _npy_array(data)
    except Exception as error:  # numpy reads the header as Python, whose tokenizer and parser raise their own
        raise TokenFileError(f"it is damaged or holds no plain numbers: {_one_line(error)}") from error


def _npy_array(data: NDArray[np.uint8]) -> Array:
    # Not np.load, which makes room for what the header promises before it looks for it.
    stream = io.BytesIO(data[:_NPY_HEADER_BYTES].tobytes())
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


def npz_array(data: NDArray[np.uint8]) -> Array:
    """Return the one array of a `.npz`, or the one called `tokens`.

    Raises:
        TokenFileError: it is damaged, holds several arrays, or is compressed too well to be true.
    """
    try:
        unpacked = _member(data)
    except TokenFileError:
        raise
    except Exception as error:  # each method of compression has errors of its own
        raise TokenFileError(f"it is a damaged .npz: {_one_line(error)}") from error
    return npy_array(np.frombuffer(unpacked, np.uint8))


def _member(data: NDArray[np.uint8]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data.tobytes())) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        named = [info for info in members if info.filename == "tokens.npy"] or members
        if not members:
            raise TokenFileError("it is a zip archive without arrays, maybe a pickle: save .npy or .safetensors")
        if len(named) != 1:
            raise TokenFileError(f"it holds {len(members)} arrays: save one, or call it tokens")
        (info,) = named
        if info.file_size > max(_UNPACKED_BYTES, _RATIO * min(info.compress_size, len(data))):
            raise TokenFileError(f"it unpacks to {info.file_size} bytes: save it as .npy")
        with archive.open(info) as member:
            return member.read(info.file_size + 1)


def safetensors_arrays(data: NDArray[np.uint8], path: Path | None) -> tuple[dict[str, Array], Mapping[str, str]]:
    """Return the arrays of a `.safetensors`, views of its (bytes,) uint8, and its metadata.

    Args:
        data: the file.
        path: where it lies, or None.

    Raises:
        TokenFileError: it is truncated, foreign or damaged.
    """
    try:
        header = read_safetensors_header(data, path)
        return {key: _view(data[header.length :], entry) for key, entry in header.entries.items()}, header.metadata
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        # Only now: these bytes can begin the header length of a good file too.
        if data[:1].tobytes() in (b"P", b"\x80"):
            raise TokenFileError(
                "it is a pickle or a zip archive, which is never opened: save .npy or .safetensors"
            ) from error
        raise TokenFileError(
            f"it is neither a .npy nor a .safetensors file, or is damaged: {_one_line(error)}"
        ) from error


def _view(data: NDArray[np.uint8], entry: TensorEntry) -> Array:
    if entry.numpy_dtype is None:
        raise TokenFileError(f"its tokens are {entry.dtype}, expected integers")
    array: Array = data[entry.start : entry.end].view(entry.numpy_dtype).reshape(entry.shape)
    return array


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
