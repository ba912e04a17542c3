"""Whatever bytes a file holds, only named errors of one line escape, also from reading every row."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tokens.conftest import header_with, lines_of, made, npy, one, read_all, row_with, with_header
from tokenizer.errors import TokenFileError, UsageError, VqtokError
from tokenizer.tokens import TokenSet, read_tokens, sidecar_of, tokens_to_bytes, write_tokens


def npz(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, tokens=np.arange(6).reshape(1, 2, 3))
    return buffer.getvalue()


def tar() -> bytes:
    """One sample as vqtok lays it out."""
    about = {"header": header_with(), "image": row_with()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in [("a.npy", npy(np.zeros((2, 3), np.uint16))), ("a.vqtok.json", json.dumps(about).encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


SAFETENSORS = tokens_to_bytes(made([(2, 3), (1, 2), (2, 3)], (300, 7)), "safetensors")
PLAIN = safetensors.numpy.save({"tokens": np.arange(6, dtype=np.uint16).reshape(1, 2, 3)})
NPY = tokens_to_bytes(made([(2, 3)] * 2), "npy")
FILES = [SAFETENSORS, PLAIN, NPY, npz(compressed=False), npz(compressed=True), tar()]

flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def flipped(stored: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    data = bytearray(stored)
    for position, value in changes:
        data[position % len(data)] = value
    return bytes(data[: len(data) - cut])


def look(source: bytes | Path) -> TokenSet | None:
    """Read a file and every row of it; None where it is refused in one line."""
    try:
        tokens = read_tokens(source)
        with contextlib.suppress(TokenFileError):
            tokens.check_range(tokens.header.codebook_sizes)
        return read_all(tokens)
    except VqtokError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return None


def test_the_files_are_sound() -> None:
    assert all(look(stored) for stored in FILES)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(FILES), flips, st.just(0) | st.integers(0, 40))
@example(NPY, [(NPY.index(b"<u2") + 1, ord("m"))], 0)
def test_changed_bytes(stored: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    look(flipped(stored, changes, cut))


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzzed") / "t.npy"
    write_tokens(path, made([(2, 3)] * 2))
    return path, sidecar_of(path).read_bytes()


@settings(max_examples=200, deadline=None)
@given(flips, st.just(0) | st.integers(0, 400))
def test_changed_sidecars(beside: tuple[Path, bytes], changes: list[tuple[int, int]], cut: int) -> None:
    path, text = beside
    sidecar_of(path).write_bytes(flipped(text, changes, cut))
    look(path)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\0v\0", b"\x20\0\0\0\0\0\0\0{", b"PK", b"PK\x03\x04"]),
)
def test_rubbish(data: bytes, start: bytes) -> None:
    assert look(start + data) is None


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(header_with())), any_value)
def test_headers_of_any_values(key: str, value: Any) -> None:
    look(with_header(one(), header_with(**{key: value}), [row_with()]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(row_with())), any_value)
def test_rows_of_any_values(key: str, value: Any) -> None:
    look(with_header(one(rows=2), header_with(), [row_with(0), row_with(1, **{key: value})]))


@settings(max_examples=50, deadline=None)
@given(any_value)
def test_lines_of_any_values(value: Any) -> None:
    look(with_header(one(), header_with(), lines_of([row_with()]) + json.dumps(value).encode() + b"\n"))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-2, 8), max_size=5).map(lambda shape: [abs(side) for side in shape]),
    st.tuples(st.integers(-1, 4), st.integers(-1, 4)),
    st.integers(1, 3),
    st.sampled_from(["u1", ">i2", "<i8", "f4"]),
)
def test_bare_arrays_of_any_shape(shape: list[int], grid: tuple[int, int], codes: int, dtype: str) -> None:
    array = np.zeros(shape, dtype)
    for asked in (None, grid):
        try:
            tokens = read_tokens(npy(array), asked, codes)
        except (UsageError, TokenFileError) as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        else:
            assert read_all(tokens).images[0].grid == (asked or tokens.images[0].grid)
            assert sum(grid.size for grid in tokens.grids) == array.size
