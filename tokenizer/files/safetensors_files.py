"""Files of tensors: the header of a `.safetensors`, read and written without torch, and the tensors of one.

The format: 8 bytes, the length of the header, little-endian; the header, a JSON object that says of each tensor which
type, shape and bytes it has; the bytes. See https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmap import mmap

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_METADATA = "__metadata__"
_LENGTH_BYTES = 8
# The types that numpy has too, as its `dtype.str`: the library knows others, such as BF16.
_DTYPES = {
    "BOOL": "|b1",
    **{f"{letter.upper()}8": f"|{letter}1" for letter in "ui"},
    **{f"{letter.upper()}{8 * size}": f"<{letter}{size}" for letter in "uif" for size in (2, 4, 8)},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor.

    Attributes:
        dtype: the format's name of its type: `U8`, `F32`, ...
        shape: its shape.
        start: its first byte, counted from the end of the header.
        end: the byte after its last one.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """Its type in numpy; None where numpy has none like it."""
        import numpy as np

        return np.dtype(_DTYPES[self.dtype]) if self.dtype in _DTYPES else None


@dataclass(frozen=True)
class SafetensorsHeader:
    """A header.

    Attributes:
        entries: of each tensor by name, in the order of the file.
        metadata: texts by key.
        length: bytes before those of the tensors.
    """

    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    length: int


def read_safetensors_header(data: bytes | mmap | NDArray[np.uint8], path: Path | None = None) -> SafetensorsHeader:
    """Return the header of a file, once the safetensors library has found it sound: no byte missing or shared.

    Args:
        data: the file's bytes.
        path: where it lies, which spares the library a copy of the bytes; None where it lies nowhere.

    Raises:
        OSError: the file at `path` cannot be read.
        SafetensorError, ValueError, RecursionError: it is truncated, foreign or damaged.
    """
    import safetensors

    if path is None:
        safetensors.deserialize(bytes(data))  # type: ignore[no-untyped-call]
    else:
        with safetensors.safe_open(path, "numpy"):
            pass
    length = _LENGTH_BYTES + int.from_bytes(bytes(data[:_LENGTH_BYTES]), "little")
    values = json.loads(bytes(data[_LENGTH_BYTES:length]))
    metadata = values.pop(_METADATA, None) or {}
    entries = {
        name: TensorEntry(value["dtype"], tuple(value["shape"]), *value["data_offsets"])
        for name, value in values.items()
    }
    return SafetensorsHeader(entries, metadata, length)


def safetensors_header_of(
    tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Return the bytes before those of tensors that follow each other in this order.

    Args:
        tensors: type and shape of each, by name.
        metadata: texts by key.
    """
    values: dict[str, Any] = {_METADATA: metadata}
    start = 0
    for name, (dtype, shape) in tensors.items():
        end = start + math.prod(shape) * dtype.itemsize
        values[name] = {"dtype": _NAMES[dtype.str], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(values, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Return the tensors of a file by name, mapped into memory where that can be, and its metadata.

    Raises:
        OSError: it cannot be read.
        SafetensorError, ValueError: it is truncated, foreign or damaged.
    """
    import safetensors.torch

    try:
        str(path).encode()
    except UnicodeEncodeError:  # torch maps only files whose names are UTF-8
        data = path.read_bytes()
        return safetensors.torch.load(data), read_safetensors_header(data, path).metadata
    with safetensors.safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
