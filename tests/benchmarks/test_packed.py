"""Photographs that are packed for another machine: they fit, and keep their scale."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import packed
from tests.conftest import draw, save
from tokenizer.inputs import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        save(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", draw(200, 300, number))
    return tmp_path / "photos"


def size_of(file: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(file)).size


def test_a_crop_is_a_piece_at_the_same_scale() -> None:
    pixels = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60, 1).repeat(3, axis=2)
    piece = packed.cropped(pixels, 0.5, 10, "a.jpg")
    assert piece.shape == (20, 30, 3)
    top, left = divmod(int(piece[0, 0, 0]), 60)
    np.testing.assert_array_equal(piece, pixels[top : top + 20, left : left + 30])
    np.testing.assert_array_equal(piece, packed.cropped(pixels, 0.5, 10, "a.jpg"))
    assert packed.cropped(pixels, 0.1, 16, "a.jpg").shape == (16, 16, 3)
    assert packed.cropped(pixels, 0.1, 50, "a.jpg").shape == (40, 50, 3)


def test_what_fits_stays_whole(folder: Path) -> None:
    files = packed.pack(list(find_images([folder])), 2**20)
    assert len(files) == 6
    assert {size_of(file) for file in files.values()} == {(300, 200)}


def test_what_does_not_is_cropped(folder: Path) -> None:
    sources = list(find_images([folder]))
    whole = sum(map(len, packed.pack(sources, 2**20).values()))
    files = packed.pack(sources, whole // 2, least=32)
    assert len(files) == 6
    assert whole // 4 < sum(map(len, files.values())) <= whole // 2
    width, height = size_of(next(iter(files.values())))
    assert width < 300
    assert width / height == pytest.approx(1.5, abs=0.02)


def test_then_some_go_of_the_largest_folder() -> None:
    files = {f"a/{number}": bytes(10) for number in range(6)} | {f"b/{number}": bytes(10) for number in range(2)}
    kept = packed.thinned(files, 45)
    assert sorted({name[0] for name in kept}) == ["a", "b"]
    assert sum(name[0] == "a" for name in kept) == 2
    assert packed.thinned(files, 80) == files


def test_the_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.txt").write_text("a/0.png\n")
    arguments = [str(folder), "-o", str(tmp_path / "packed"), "--mib", "1", "--leave-out", str(tmp_path / "out.txt")]
    monkeypatch.setattr(sys, "argv", ["packed", *arguments])
    packed.main()
    names = sorted(path.relative_to(tmp_path / "packed").as_posix() for path in (tmp_path / "packed").rglob("*.webp"))
    assert names == [f"photos/{'ab'[number % 2]}/{number}.webp" for number in (2, 4, 1, 3, 5)]
