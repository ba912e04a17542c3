"""The bytes of a token file, in pieces, so that one of any size is written in little memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import UsageError
from tokenizer.files import canonical_json, safetensors_header_of
from tokenizer.tokens.header import Header
from tokenizer.tokens.token_set import smallest_dtype, stack_key

METADATA_KEY = "vqtok"
MANIFEST_NAME = "manifest"


@dataclass(frozen=True)
class Stored:
    """Bytes in memory or on disk: how many they are, and a call that yields them in pieces."""

    size: int
    pieces: Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Stack:
    """The rows of all images of one (h, w) grid, in the dtype of the file."""

    grid: tuple[int, int]
    rows: int
    data: Stored

    def shape(self, codes: int) -> tuple[int, ...]:
        """Return (N, h, w), or (N, h, w, C) when C is more than 1."""
        return (self.rows, *self.grid, codes)[: 3 + (codes > 1)]


def token_file(header: Header, stacks: Sequence[Stack], manifest: Stored, file_format: str) -> Iterator[bytes]:
    """Yield the bytes of a token file; those of `npy` are the array alone.

    Raises:
        UsageError: the format is another, or the images have several grids and it is `npy`, which holds one array.
    """
    if file_format not in ("npy", "safetensors"):
        raise UsageError(f"tokens are not written as {file_format!r}: use npy or safetensors")
    dtype = smallest_dtype(header.codebook_sizes)
    if file_format == "npy":
        if len(stacks) > 1:
            raise UsageError(several_grids(len(stacks)))
        stack = stacks[0] if stacks else Stack((0, 0), 0, Stored(0, list))
        yield _npy_header(stack.shape(header.codes_per_position), dtype)
        yield from stack.data.pieces()
        return
    yield _safetensors_header(header, stacks, manifest.size, dtype)
    for stack in stacks:
        yield from stack.data.pieces()
    yield from manifest.pieces()


def several_grids(count: int) -> str:
    """Return the message for a `.npy` that would hold that many different grids."""
    return (
        f"images of {count} different grids do not fit one .npy array: pass --image-size to give them one size, or "
        "write a .safetensors file or a folder"
    )


def header_line(header: Header) -> bytes:
    """Return the first line of what lies beside a `.npy` and a tar; the manifest follows."""
    return canonical_json(header.to_json()).encode() + b"\n"


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return the bytes of a `.npy` of an array."""
    return _npy_header(array.shape, array.dtype) + array.tobytes()


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _safetensors_header(header: Header, stacks: Sequence[Stack], manifest: int, dtype: np.dtype[Any]) -> bytes:
    codes = header.codes_per_position
    tensors = {stack_key(stack.grid, len(stacks)): (dtype, stack.shape(codes)) for stack in stacks}
    # The manifest comes last, so that the tokens are aligned.
    tensors[MANIFEST_NAME] = (np.dtype(np.uint8), (manifest,))
    # One metadata key: other writers of safetensors put several in a different order each time.
    return safetensors_header_of(tensors, {METADATA_KEY: canonical_json(header.to_json())})
