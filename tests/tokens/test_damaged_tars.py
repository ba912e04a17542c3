"""Archives of tokens that are truncated, foreign or contradict themselves."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tokens.conftest import header_with, lines_of, made, npy, raw_npy, read_all, row_with
from tokenizer.errors import TokenFileError
from tokenizer.tokens import read_tokens, sidecar_of, tokens_to_bytes

Member = tuple[str, bytes]


def sample(stem: str, array: np.ndarray | bytes | None = None, **about: Any) -> list[Member]:
    """One image as vqtok lays it out: tokens, then what is said about them."""
    data = array if isinstance(array, bytes) else npy(np.zeros((2, 3), np.uint16) if array is None else array)
    values = {"header": header_with(), "image": row_with(name=f"{stem}.jpg"), **about}
    return [(f"{stem}.npy", data), (f"{stem}.vqtok.json", json.dumps(values).encode())]


def packed(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def fault(path: Path, data: bytes) -> str:
    """Read a file whole, and return the message behind its name."""
    path.write_bytes(data)
    with pytest.raises(TokenFileError) as caught:
        read_all(read_tokens(path))
    name, _, message = str(caught.value).partition(": ")
    assert name == str(path)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.tar"


def test_a_sound_one() -> None:
    arrays = [np.arange(6, dtype=np.uint16).reshape(2, 3), np.asfortranarray(np.ones((2, 3), ">i4"))]
    members = [member for stem, array in zip("ab", arrays, strict=True) for member in sample(stem, array)]
    tokens = read_all(read_tokens(packed(("a.cls", b"7"), *members, ("b.txt", b"caption"))))
    assert [record.name for record in tokens.images] == ["a.jpg", "b.jpg"]
    for grid, array in zip(tokens.grids[::-1], arrays[::-1], strict=True):
        np.testing.assert_array_equal(grid[..., 0], array)
    with pytest.raises(TokenFileError, match=r"token 5 at row 0 \(1, 2\) is outside 0\.\.4"):
        tokens.check_range((5,))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (sample("a", np.zeros((3, 2), np.uint8)), "'a.jpg' has tokens on a (3, 2) grid, its record says (2, 3)"),
        (sample("a", np.zeros((2, 3))), "'a.jpg': its tokens are float64, expected integers"),
        (sample("a", np.zeros(6, int)), "'a.jpg': its array has the shape (1, 6), expected (N, h, w)"),
        (sample("a", b""), "'a.jpg': it is damaged or holds no plain numbers"),
        (sample("a", raw_npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }")), "'a.jpg': it is damaged"),
        (sample("a", image=None), "its manifest is damaged at byte "),
        (sample("a", image=row_with(grid=[9, 9])), "its manifest is damaged at byte "),
        (sample("a", header=None), "its header is not that of a vqtok token file"),
        (sample("a", header=header_with(version=1)), "it has format version 1, this vqtok reads 2"),
        ([*sample("a"), *sample("b", header=header_with(model="g"))], "it was made by another model or with other"),
        (sample("a")[:1], "it is a tar without tokens: expected samples of .npy and .vqtok.json"),
        (sample("a")[1:], "it is a damaged tar: a.vqtok.json does not follow its tokens"),
        (sample("a")[::-1], "it is a damaged tar: a.vqtok.json does not follow its tokens"),
        ([*sample("a"), sample("b")[1]], "it is a damaged tar: b.vqtok.json does not follow its tokens"),
        ([("a.jpg", b"x")], "it is a tar without tokens"),
        ([("a.npy", b""), ("a.vqtok.json", b"{")], "its header is damaged"),
        ([("a.npy", b""), ("a.vqtok.json", b"[]")], "its header is not that of a vqtok token file"),
    ],
)
def test_samples(path: Path, members: list[Member], message: str) -> None:
    assert message in fault(path, packed(*members))


def test_cut_anywhere(path: Path) -> None:
    """With the manifest beside it, a cut between two samples is found too."""
    data = packed(*sample("a"), *sample("b"))
    sidecar_of(path).write_bytes(lines_of([header_with(), row_with(0), row_with(1)]))
    path.write_bytes(data)
    assert len(read_all(read_tokens(path)).images) == 2
    last = data.index(b"b.vqtok.json") + 512 + len(sample("b")[1][1])
    for length in range(0, last, 37):
        fault(path, data[:length])


@pytest.mark.parametrize("data", [b"", b"\0" * 10240, packed(*sample("a"))])
def test_another_number_of_images_than_the_manifest_names(path: Path, data: bytes) -> None:
    sidecar_of(path).write_bytes(lines_of([header_with(), row_with(0), row_with(1)]))
    fault(path, data)


def test_no_image_at_all(path: Path) -> None:
    tokens = made([])
    sidecar_of(path).write_bytes(lines_of([header_with(), {"status": "failed", "name": "bad.png", "reason": "empty"}]))
    path.write_bytes(b"\0" * 10240)
    assert read_all(read_tokens(path)).header == tokens.header
    assert [failure.name for failure in read_tokens(path).failed] == ["bad.png"]
    assert "neither a .npy nor a .safetensors file" in fault(path, b"")
    assert "it holds 1 images, its manifest names 0" in fault(path, packed(*sample("a")))


def test_zeros_in_the_place_of_an_array(tmp_path: Path) -> None:
    """As after a crash of the machine: it is no archive without samples."""
    path = tmp_path / "t.npy"
    sidecar_of(path).write_bytes(lines_of([header_with(), row_with(0)]))
    assert "it holds 0 images, its manifest names 1" in fault(path, bytes(len(tokens_to_bytes(made([(2, 3)]), "npy"))))
