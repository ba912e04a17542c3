"""Nothing but named errors comes of files that are truncated, foreign or damaged."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.tokens.conftest import (
    header_with,
    lines_of,
    made,
    npy,
    one,
    raw_npy,
    raw_safetensors,
    read_all,
    row_with,
    with_header,
)
from tokenizer.errors import InputError, TokenFileError
from tokenizer.tokens import read_tokens, sidecar_of, tokens_to_bytes


def fault(tmp_path: Path, data: bytes, suffix: str = "safetensors") -> str:
    """Read from a file and from bytes, and return the message behind the file's name."""
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(data)
    with pytest.raises(TokenFileError):
        read_tokens(data)
    with pytest.raises(TokenFileError) as caught:
        read_tokens(path)
    name, _, message = str(caught.value).partition(": ")
    assert name == str(path)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("data", [b"", b"text\n", b"{}", b"\0" * 8, b"\xff" * 64, b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
def test_foreign(tmp_path: Path, data: bytes) -> None:
    assert "neither a .npy nor a .safetensors file" in fault(tmp_path, data)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "owned"),))

    for data in (pickle.dumps(Trap()), pickle.dumps(Trap(), 4), b"PK\x05\x06" + bytes(18)):
        assert fault(tmp_path, data).startswith("it is a pickle or a zip archive, which is never opened")
    objects = npy(np.array([[Trap()]], object), allow_pickle=True)
    assert "Python objects" in fault(tmp_path, objects, "npy")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("file_format", ["npy", "safetensors"])
def test_cut_anywhere(file_format: str) -> None:
    stored = tokens_to_bytes(made([(2, 3)] * 2), file_format)
    for length in range(len(stored)):
        with pytest.raises(TokenFileError):
            read_tokens(stored[:length])
    with pytest.raises(TokenFileError):
        read_tokens(stored + b"\0")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000000, 3, 3), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (9223372036854775807, 9, 9), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (-1, -3, 3), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (9223372036854775808, 0), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (1L, 1), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (0777, ), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': ",
        "{'descr': '<q7', 'fortran_order': False, 'shape': (1, 1), }",
        "'\\d'",
        "(" * 90,
        "-" * 110,
        "  x\n y",
        "'''",
        "",
    ],
)
def test_headers_of_npy(tmp_path: Path, header: str) -> None:
    assert fault(tmp_path, raw_npy(header), "npy").startswith("it is damaged or holds no plain numbers")


def test_shapes_below_nothing(tmp_path: Path) -> None:
    """The product of two negative sides is what the file holds."""
    data = raw_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (-1, -3, 3), }") + bytes(18)
    assert fault(tmp_path, data, "npy").startswith("it is damaged or holds no plain numbers")


@pytest.mark.parametrize(
    ("shape", "size"),
    [([2**63, 0], 0), ([2**64 - 1, 0], 0), ([2**64, 0], 0), ([1] * 70, 1), ([-1, -1], 1), ([0.5, 2], 1)],
)
def test_shapes_of_safetensors(tmp_path: Path, shape: list[Any], size: int) -> None:
    data = raw_safetensors({"t": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]}}, bytes(size))
    assert fault(tmp_path, data).startswith("it is neither a .npy nor a .safetensors file, or is damaged: ")


def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    """Whichever is meant, the file is covered by it, and read as it stands."""
    text = (
        b'{"t":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]}}'
    )
    np.testing.assert_array_equal(read_tokens(raw_safetensors(text, b"\5\6")).grids[0][..., 0], [[5, 6]])
    fault(tmp_path, raw_safetensors(text, b"\5"))


def test_promises_cost_no_memory() -> None:
    empty = {"tokens": np.zeros((0, 0, 0), np.uint8)}
    data = [
        raw_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (100000, 100, 100), }"),
        raw_safetensors({"t": {"dtype": "U8", "shape": [10**9, 10, 10], "data_offsets": [0, 10**11]}}),
        raw_safetensors({"t": {"dtype": "U8", "shape": [2**40, 0], "data_offsets": [0, 0]}}),
        (2**40).to_bytes(8, "little") + b"{}",
        with_header(empty, header_with(codebook_sizes=[2**62]), []),
        with_header(one(), header_with(codebook_sizes=[2**62]), [row_with()]),
        with_header({"tokens": np.zeros((2, 0, 3), np.uint8)}, header_with(), [row_with(grid=[2**31, 2**31])] * 2),
    ]
    tracemalloc.start()
    for file in data:
        try:
            read_all(read_tokens(file))
        except TokenFileError:
            continue
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "its header is not that of a vqtok token file"),
        ({"version": 1}, "it has format version 1, this vqtok reads 2: encode the images again"),
        ({"version": 3}, "it has format version 3, this vqtok reads up to 2: upgrade vqtok"),
        ({"version": None}, "it has format version None"),
        ({"version": "2\n"}, "it has format version '2\\n'"),
        ({"codebook_sizes": None}, "its header is damaged: TypeError"),
        ({"codebook_sizes": [0]}, "its header is damaged: ValueError"),
        ({"codebook_sizes": [10**30]}, "its header is damaged: ValueError"),
        ({"codebook_sizes": [float("inf")]}, "its header is damaged: OverflowError"),
        ({"codebook_sizes": [float("nan")]}, "its header is damaged: ValueError"),
        ({"codebook_sizes": ["9\n9"]}, "its header is damaged: ValueError"),
        ({"codebook_sizes": []}, "its header is damaged: ValueError no codebook_sizes"),
        ({"codebook_sizes": [9, 9]}, "its array has the shape (1, 2, 3), expected (N, h, w, 2)"),
        ({"downsample": 0}, "its header is damaged: ValueError"),
        ({"made_by": []}, "its header is damaged: AttributeError"),
        ({"options": []}, "its header is damaged: AttributeError"),
        ({"options": {"a": [1]}}, "its header is damaged: ValueError an option is list"),
        ({"options": {"a": 0.5}}, "its header is damaged: ValueError an option is float"),
    ],
)
def test_headers(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    header = header_with(**changes)
    assert message in fault(tmp_path, with_header(one(), header, [row_with()]))
    path = tmp_path / "t.npy"
    path.write_bytes(npy(one()["tokens"]))
    sidecar_of(path).write_bytes(lines_of([header, row_with()]))
    with pytest.raises(TokenFileError) as caught:
        read_tokens(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("missing", list(header_with()))
def test_headers_without_a_key(tmp_path: Path, missing: str) -> None:
    values = header_with()
    del values[missing]
    assert fault(tmp_path, with_header(one(), values, [row_with()])).startswith(
        "it" if missing == "version" else "its header is"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"', "[" * 100_000, "9" * 5000, "\n\n"])
def test_headers_that_are_no_table(tmp_path: Path, text: str) -> None:
    assert "its header is" in fault(tmp_path, with_header(one(), text, [row_with()]))


@pytest.mark.parametrize(
    "arrays",
    [
        {"tokens": (2, 2, 3)},
        {"tokens": (0, 2, 3)},
        {"tokens": (1, 2, 3), "more": (1, 2, 3)},
        {"tokens_2x3": (1, 2, 3), "tokens_3x2": (1, 3, 2)},
        {"tokens_2x3": (1, 2, 3), "tokens_3x2": (0, 2, 3)},
        {"tokens\n": (1, 2, 3)},
        {"other": (1, 2, 3)},
        {"tokens_2x3": (1, 2, 3)},
        {"tokens": (2, 3)},
        {"tokens": ()},
        {},
    ],
)
def test_arrays_that_contradict_the_manifest(tmp_path: Path, arrays: dict[str, tuple[int, ...]]) -> None:
    zeros = {key: np.zeros(shape, np.uint8) for key, shape in arrays.items()}
    fault(tmp_path, with_header(zeros, header_with(), [row_with()]))


def test_float_tokens_under_a_header(tmp_path: Path) -> None:
    data = with_header({"tokens": np.zeros((1, 2, 3), np.float32)}, header_with(), [row_with()])
    assert fault(tmp_path, data) == "its tokens are float32, expected integers"


@pytest.mark.parametrize("manifest", [None, np.zeros(3, np.int8), np.zeros((1, 3), np.uint8), np.zeros((), np.uint8)])
def test_without_a_manifest(tmp_path: Path, manifest: np.ndarray | None) -> None:
    arrays = one() if manifest is None else {**one(), "manifest": manifest}
    data = safetensors.numpy.save(arrays, metadata={"vqtok": json.dumps(header_with())})
    assert fault(tmp_path, data) == "it holds no manifest"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.npy: No such file or directory$"):
        read_tokens(tmp_path / "gone.npy")
    with pytest.raises(InputError, match=r"Is a directory$"):
        read_tokens(tmp_path)
