"""Arrays without a header, as generators write them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.tokens.conftest import npy, raw_safetensors
from tokenizer.errors import TokenFileError, UsageError
from tokenizer.tokens import Header, ImageRecord, headerless_tokens, read_tokens


@pytest.mark.parametrize(
    ("shape", "grid", "count", "codes"),
    [((2, 3), (2, 3), 1, 1), ((4, 2, 3), (2, 3), 4, 1), ((4, 2, 3, 2), (2, 3), 4, 2), ((4, 2, 3, 1), (2, 3), 4, 1)],
)
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i8", "u8"])
def test_shapes(shape: tuple[int, ...], grid: tuple[int, int], count: int, codes: int, dtype: str) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for data in (npy(array), npy(np.asfortranarray(array)), safetensors.numpy.save({"codes": array.astype("i8")})):
        for asked in (None, grid):
            tokens = read_tokens(data, asked)
            assert tokens.header == Header()
            assert list(tokens.images) == [ImageRecord(f"{row:06d}", grid) for row in range(count)]
            assert [found.shape for found in tokens.grids] == [(*grid, codes)] * count
            np.testing.assert_array_equal(np.stack(list(tokens.grids)).ravel(), array.ravel())
            assert list(tokens.failed) == []


@pytest.mark.parametrize(
    ("shape", "codes", "found"),
    [
        ((6,), 1, (1, 2, 3, 1)),
        ((4, 6), 1, (4, 2, 3, 1)),
        ((4, 6), 2, (4, 2, 3, 1)),
        ((4, 6, 5), 1, (4, 2, 3, 5)),
        ((4, 12), 2, (4, 2, 3, 2)),
        ((12,), 2, (1, 2, 3, 2)),
    ],
)
def test_sequences(shape: tuple[int, ...], codes: int, found: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    for data in (npy(array), npy(np.asfortranarray(array)), npy(array.astype(">u2"))):
        tokens = read_tokens(data, (2, 3), codes)
        np.testing.assert_array_equal(np.stack(list(tokens.grids)), array.reshape(found))
        assert [record.grid for record in tokens.images] == [(2, 3)] * found[0]


def test_sequences_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^its array has the shape \(4, 7\), a grid of 2x3 needs \(N, 6\)$"):
        read_tokens(npy(np.zeros((4, 7), int)), (2, 3))
    (tmp_path / "t.npy").write_bytes(npy(np.zeros((4, 7), int)))
    with pytest.raises(UsageError, match=r"t\.npy: its array .* a grid of 2x3 needs \(N, 6\) or \(N, 12\)$"):
        read_tokens(tmp_path / "t.npy", (2, 3), 2)
    for shape in [(), (4, 3, 2), (1, 1, 2, 4), (1, 2, 3, 1, 1)]:
        with pytest.raises((UsageError, TokenFileError), match="its array has the shape"):
            headerless_tokens(np.zeros(shape, int), (2, 3))


@pytest.mark.parametrize("grid", [(0, 3), (-2, -3), (2, 0)])
def test_grids_without_positions(grid: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=rf"^a grid of {grid[0]}x{grid[1]} has no positions$"):
        headerless_tokens(np.zeros((4, 6), int), grid)


def test_many_rows_have_names_that_sort() -> None:
    tokens = headerless_tokens(np.zeros((3_000_000, 1, 1), np.uint8))
    names = [tokens.images[row].name for row in (0, 999, 2_999_999, -1)]
    assert names == ["0000000", "0000999", "2999999", "2999999"]


def test_versions_of_npy() -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ones((2, 3), int), version=(2, 0))
    assert read_tokens(buffer.getvalue()).grids[0].sum() == 6


@pytest.mark.parametrize("grid", [None, (2, 3)])
@pytest.mark.parametrize("shape", [(), (3,), (1, 1, 1, 1, 1), (0, 3), (0, 2, 3), (0, 2, 3, 2), (2, 0, 3), (1, 2, 3, 0)])
def test_other_shapes(shape: tuple[int, ...], grid: tuple[int, int] | None) -> None:
    with pytest.raises((UsageError, TokenFileError), match=r"its array has the shape \(.*(expected|needs)") as caught:
        read_tokens(npy(np.zeros(shape, int)), grid)
    if grid is None:
        assert caught.type is TokenFileError
        assert "expected (h, w), (N, h, w) or (N, h, w, C); for sequences, pass --grid HxW" in str(caught.value)


def test_sequences_without_codes() -> None:
    with pytest.raises(TokenFileError, match=r"its array has the shape \(4, 6, 0\)"):
        headerless_tokens(np.zeros((4, 6, 0), int), (2, 3))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "complex64", "M8[s]", "m8[s]", "S3", "U2"])
def test_no_integers(dtype: str) -> None:
    array = np.zeros((2, 2), dtype)
    with pytest.raises(TokenFileError, match=r"its tokens are .*, expected integers$"):
        read_tokens(npy(array))


def test_a_structured_array() -> None:
    with pytest.raises(TokenFileError, match="expected integers"):
        read_tokens(npy(np.zeros((2, 2), [("a", "u1")])))


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64", "BF16", "BOOL", "F8_E4M3"])
def test_safetensors_without_integers(dtype: str) -> None:
    size = {"BOOL": 1, "F8_E4M3": 1, "F32": 4, "F64": 8}.get(dtype, 2)
    data = raw_safetensors({"t": {"dtype": dtype, "shape": [1, 1], "data_offsets": [0, size]}}, bytes(size))
    with pytest.raises(TokenFileError, match=r"its tokens are .*, expected integers$"):
        read_tokens(data)


def test_several_arrays_without_a_header() -> None:
    arrays = {"a": np.zeros((1, 1), np.uint8), "b": np.zeros((1, 1), np.uint8)}
    with pytest.raises(TokenFileError, match="it holds 2 arrays and no vqtok header"):
        read_tokens(safetensors.numpy.save(arrays))


def test_an_empty_safetensors() -> None:
    with pytest.raises(TokenFileError, match="it holds 0 arrays"):
        read_tokens(raw_safetensors({}))
    with pytest.raises(TokenFileError, match="it holds 0 arrays"):
        read_tokens(raw_safetensors({"__metadata__": None}))


def test_foreign_metadata_is_no_header() -> None:
    data = safetensors.numpy.save({"x": np.ones((1, 2), np.uint8)}, metadata={"format": "pt"})
    assert read_tokens(data).header.codebook_sizes == ()
