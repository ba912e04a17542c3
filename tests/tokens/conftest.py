"""Token sets and the bytes of token files, sound and not."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from tokenizer.images import placement_of
from tokenizer.tokens import FailedInput, Header, ImageRecord, TokenSet, manifest_line


def made(
    grids: list[tuple[int, int]], sizes: tuple[int, ...] = (1000,), seed: int = 0, names: list[str] | None = None
) -> TokenSet:
    """Random tokens of a tokenizer that divides by 8, and one input that failed."""
    random = np.random.default_rng(seed)
    records = [
        ImageRecord(
            names[row] if names else f"{row}.png", grid, placement_of((grid[0] * 8, grid[1] * 8), "none", None, 8)
        )
        for row, grid in enumerate(grids)
    ]
    tokens = [np.stack([random.integers(0, size, grid) for size in sizes], axis=-1) for grid in grids]
    header = Header("f" * 64, sizes, 8, {"vqtok": "1", "device": "cpu"}, {"resize_mode": "none", "image_size": None})
    return TokenSet(header, records, tokens, [FailedInput("bad.png", "not an image")])


def assert_same(first: TokenSet, second: TokenSet) -> None:
    assert first.header == second.header
    assert list(first.images) == list(second.images)
    assert list(first.failed) == list(second.failed)
    assert len(first.grids) == len(second.grids)
    for one, other in zip(first.grids, second.grids, strict=True):
        np.testing.assert_array_equal(one, other)


def read_all(tokens: TokenSet) -> TokenSet:
    """Read everything that a token set holds, and return it."""
    for records in (tokens.images, tokens.failed):
        assert len(list(records)) == len(records)
    for record, grid in zip(tokens.images, tokens.grids, strict=True):
        assert grid.shape == (*record.grid, tokens.codes_per_position)
        assert grid.dtype.kind in "iu"
    assert sum(block.size for _, _, block in tokens.blocks()) == sum(grid.size for grid in tokens.grids)
    return tokens


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def raw_npy(header: str) -> bytes:
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def raw_safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + data


def header_with(**changes: Any) -> dict[str, Any]:
    """A header as plain values."""
    return {**made([(2, 3)]).header.to_json(), **changes}


def row_with(row: int = 0, grid: tuple[int, int] = (2, 3), /, **changes: Any) -> dict[str, Any]:
    """The line of an image as plain values."""
    (record,) = made([grid]).images
    return {**json.loads(manifest_line(row, record)), **changes}


def lines_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def with_header(
    arrays: Mapping[str, np.ndarray], header: Mapping[str, Any] | str, manifest: Sequence[Mapping[str, Any]] | bytes
) -> bytes:
    """A `.safetensors` of the library's own making."""
    lines = manifest if isinstance(manifest, bytes) else lines_of(manifest)
    text = header if isinstance(header, str) else json.dumps(header)
    return safetensors.numpy.save({**arrays, "manifest": np.frombuffer(lines, np.uint8)}, metadata={"vqtok": text})


def one(value: int = 0, grid: tuple[int, int] = (2, 3), rows: int = 1) -> dict[str, np.ndarray]:
    """The array of some images of one grid."""
    return {"tokens": np.full((rows, *grid), value, np.uint8)}
