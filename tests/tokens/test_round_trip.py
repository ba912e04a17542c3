"""What is written comes back, and other readers find the same."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokens.conftest import assert_same, made, npy
from tokenizer.errors import OutputError, TokenFileError, UsageError
from tokenizer.images import placement_of
from tokenizer.images.placement import RESIZE_MODES
from tokenizer.tokens import (
    Header,
    ImageRecord,
    TokenSet,
    headerless_tokens,
    read_tokens,
    sidecar_of,
    smallest_dtype,
    tokens_to_bytes,
    write_tokens,
)

shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=0, max_size=5)
alphabets = st.lists(
    st.one_of(st.integers(2, 70_000), st.sampled_from([2, 256, 257, 65536, 65537])), min_size=1, max_size=3
)
any_name = st.text(max_size=8) | st.binary(max_size=4).map(os.fsdecode)


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of tokens in a `.safetensors`, as its own library finds them."""
    arrays = safetensors.numpy.load(data)
    assert arrays.pop("manifest").dtype == np.uint8
    return arrays


@settings(max_examples=60, deadline=None)
@given(shapes, alphabets.map(tuple), st.integers(0, 99), st.data())
def test_safetensors(grids: list[tuple[int, int]], sizes: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    names = [data.draw(any_name) for _ in grids]
    tokens = made(grids, sizes, seed, names)
    stored = tokens_to_bytes(tokens, "safetensors")
    assert_same(read_tokens(stored), tokens)
    assert tokens_to_bytes(read_tokens(stored), "safetensors") == stored
    for array in arrays_of(stored).values():
        assert array.dtype == min(
            (d for d in (np.uint8, np.uint16, np.uint32) if np.iinfo(d).max >= max(sizes) - 1),
            key=lambda d: np.iinfo(d).max,
        )


@pytest.mark.parametrize("sizes", [(300,), (300, 4, 70_000)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_npy_with_its_sidecar(tmp_path: Path, sizes: tuple[int, ...], count: int) -> None:
    tokens = made([(2, 5)] * count, sizes)
    path = tmp_path / "t.npy"
    write_tokens(path, tokens)
    assert_same(read_tokens(path), tokens)
    assert {file.name for file in tmp_path.iterdir()} == {"t.npy", "t.npy.jsonl"}
    assert sidecar_of(path) == tmp_path / "t.npy.jsonl"
    assert path.read_bytes() == tokens_to_bytes(tokens, "npy")
    plain = np.load(path, mmap_mode="r")
    if count:
        assert plain.shape == ((count, 2, 5) if len(sizes) == 1 else (count, 2, 5, 3))
        np.testing.assert_array_equal(plain, np.stack([g[..., 0] if len(sizes) == 1 else g for g in tokens.grids]))
        assert path.read_bytes() == npy(np.asarray(plain))


@pytest.mark.parametrize("sizes", [(300,), (300, 4, 70_000)])
def test_safetensors_for_its_own_library(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    tokens = made([(2, 3), (4, 1), (2, 3)], sizes)
    path = tmp_path / "t.safetensors"
    write_tokens(path, tokens)
    whole = safetensors.numpy.load_file(path)
    assert set(whole) == {"tokens_2x3", "tokens_4x1", "manifest"}
    wanted = np.stack([tokens.grids[0], tokens.grids[2]])[..., 0 if len(sizes) == 1 else slice(None)]
    np.testing.assert_array_equal(whole["tokens_2x3"], wanted)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata().keys() == {"vqtok"}
        piece = file.get_slice("tokens_2x3")
        assert piece.get_shape() == list(wanted.shape)
        np.testing.assert_array_equal(piece[1:2, :, 1:], wanted[1:2, :, 1:])


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_placements_come_back(mode: str) -> None:
    placement = dataclasses.replace(placement_of((21, 50), mode, 24, 8), scale=4)
    grid = (placement.canvas[0] // 8, placement.canvas[1] // 8)
    record = ImageRecord("a.png", grid, placement)
    tokens = TokenSet(Header(codebook_sizes=(4,), downsample=8), [record], [np.zeros((*grid, 1), int)])
    assert read_tokens(tokens_to_bytes(tokens, "safetensors")).images[0].placement == placement


def test_keys_and_shapes() -> None:
    alone = arrays_of(tokens_to_bytes(made([(2, 3)] * 4), "safetensors"))
    assert {key: value.shape for key, value in alone.items()} == {"tokens": (4, 2, 3)}
    several = arrays_of(tokens_to_bytes(made([(2, 3), (3, 2), (2, 3)], (9, 9)), "safetensors"))
    assert {key: value.shape for key, value in several.items()} == {
        "tokens_2x3": (2, 2, 3, 2),
        "tokens_3x2": (1, 3, 2, 2),
    }


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ((1,), "u1"),
        ((256,), "u1"),
        ((257,), "u2"),
        ((65536,), "u2"),
        ((65537,), "u4"),
        ((2, 300), "u2"),
        ((2**40,), "u8"),
    ],
)
def test_smallest_dtype(sizes: tuple[int, ...], dtype: str) -> None:
    assert smallest_dtype(sizes) == np.dtype(dtype)
    tokens = made([(1, 2)], sizes)
    assert read_tokens(tokens_to_bytes(tokens, "safetensors")).grids[0].dtype == np.dtype(dtype)


@pytest.mark.parametrize("file_format", ["npy", "safetensors"])
def test_arrays_that_are_no_plain_memory(file_format: str) -> None:
    tokens = made([(4, 6)] * 2)
    views = (tokens.grids[0].transpose(1, 0, 2), np.repeat(tokens.grids[1], 2, axis=0)[::2].transpose(1, 0, 2)[::-1])
    turned = dataclasses.replace(tokens, images=[ImageRecord(f"{row}", (6, 4)) for row in range(2)], grids=views)
    stored = tokens_to_bytes(turned, file_format)
    found = np.load(io.BytesIO(stored)) if file_format == "npy" else arrays_of(stored)["tokens"]
    np.testing.assert_array_equal(found[0], tokens.grids[0][..., 0].T)
    np.testing.assert_array_equal(found[1], tokens.grids[1][..., 0].T[::-1])


@pytest.mark.parametrize("file_format", ["npy", "safetensors"])
def test_two_saves_are_the_same_bytes(tmp_path: Path, file_format: str) -> None:
    tokens = made([(2, 3)] * 3)
    turned = {name: dict(reversed(getattr(tokens.header, name).items())) for name in ("made_by", "options")}
    assert list(turned["options"]) != list(tokens.header.options)
    write_tokens(tmp_path / f"a.{file_format}", tokens)
    write_tokens(
        tmp_path / f"b.{file_format}", dataclasses.replace(tokens, header=dataclasses.replace(tokens.header, **turned))
    )
    assert (tmp_path / f"a.{file_format}").read_bytes() == (tmp_path / f"b.{file_format}").read_bytes()
    if file_format == "npy":
        assert sidecar_of(tmp_path / "a.npy").read_bytes() == sidecar_of(tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_names_keep_their_order_and_bytes(tmp_path: Path, suffix: str) -> None:
    names = ["z.png", "two\nlines", os.fsdecode(b"\xff\xe9"), "[x]", "z.png", "", "é中\U0001f600", "\ud800"]
    tokens = made([(1, 2)] * 8 if suffix == "npy" else [(1, 2), (2, 1)] * 4, names=names)
    write_tokens(tmp_path / f"t.{suffix}", tokens)
    assert [record.name for record in read_tokens(tmp_path / f"t.{suffix}").images] == names


def test_every_length_of_header() -> None:
    """The first bytes of a safetensors file are a length, which can look like the mark of a pickle."""
    tokens = made([(1, 1)])
    firsts = set()
    for length in range(0, 264, 8):
        header = dataclasses.replace(tokens.header, model="x" * length)
        stored = tokens_to_bytes(dataclasses.replace(tokens, header=header), "safetensors")
        firsts.add(stored[0])
        assert read_tokens(stored).header.model == "x" * length
    assert {0x80, ord("P")} <= firsts


def test_several_grids_do_not_fit_npy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 different grids .*pass --image-size .*\.safetensors file or a folder"):
        write_tokens(tmp_path / "t.npy", made([(1, 2), (2, 1)]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["npz", "bin", ""])
def test_other_formats_are_not_written(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match=f"tokens are not written as '{suffix}': use npy or safetensors"):
        write_tokens(tmp_path / f"t.{suffix}", made([(1, 2)]))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*t\.safetensors"):
        write_tokens(tmp_path / "t.safetensors", made([(1, 2)]))


@pytest.mark.parametrize("value", [256, -1, 1000])
def test_what_would_turn_into_another_token_is_not_written(value: int) -> None:
    header = Header(codebook_sizes=(256,))
    with pytest.raises(TokenFileError, match=rf"token {value} at row 0 \(0, 1\) is outside 0\.\.255"):
        tokens_to_bytes(TokenSet(header, [ImageRecord("a", (1, 2))], [np.array([[[0], [value]]])]), "safetensors")


def test_tokens_of_another_grid_than_the_record_says_are_not_written() -> None:
    tokens = TokenSet(Header(codebook_sizes=(4,)), [ImageRecord("a\nb", (3, 2))], [np.zeros((2, 3, 1), int)])
    with pytest.raises(TokenFileError, match=r"^'a\\nb' has tokens on a \(2, 3\) grid, its record says \(3, 2\)$"):
        tokens_to_bytes(tokens, "safetensors")


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_a_file_is_written_over_the_one_that_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    write_tokens(path, made([(2, 3)] * 3))
    before = path.read_bytes()
    tokens = read_tokens(path)
    write_tokens(path, tokens)
    assert path.read_bytes() == before
    assert_same(tokens, read_tokens(path))


def test_codes_per_position() -> None:
    assert made([(1, 1)], (4, 4)).codes_per_position == 2
    assert made([], (4, 4, 4)).codes_per_position == 3
    assert headerless_tokens(np.zeros((2, 2), int)).codes_per_position == 1
