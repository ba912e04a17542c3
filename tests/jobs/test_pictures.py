"""Decoded pictures on their way to disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import draw
from tokenizer.errors import OutputError, UsageError
from tokenizer.images import encode_image, placement_of
from tokenizer.jobs import Outcome, pictures
from tokenizer.jobs.pictures import (
    ContactSheet,
    Picture,
    SheetLayout,
    is_whole_picture,
    lay_out_sheet,
    write_pictures,
)
from tokenizer.tokens import ImageRecord

BARE = ImageRecord("x", (2, 3))


def some(folder: Path, count: int) -> list[Picture]:
    return [Picture(BARE, draw(16, 24, seed), folder / f"{seed}.png") for seed in range(count)]


def test_sizes_and_padding_come_back() -> None:
    canvas = draw(24, 40)
    fitted = ImageRecord("x", (3, 5), placement_of((17, 33), "none", None, 8))
    assert np.array_equal(pictures.restore_picture(fitted, canvas), canvas[:17, :33])
    assert pictures.picture_size(fitted, 8) == (17, 33)
    assert np.array_equal(pictures.restore_picture(BARE, canvas), canvas)
    assert pictures.picture_size(BARE, 8) == (16, 24)
    for mode in ("crop", "pad", "squash"):
        record = ImageRecord("x", (3, 3), placement_of((17, 33), mode, 24, 8))
        assert pictures.restore_picture(record, draw(24, 24)).shape[:2] == pictures.picture_size(record, 8)


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_whole_pictures_are_told_from_others(tmp_path: Path, image_format: str) -> None:
    path, data = tmp_path / "x", encode_image(draw(16, 25), image_format)
    path.write_bytes(data)
    assert is_whole_picture(path, (16, 25), image_format)
    assert not is_whole_picture(path, (25, 16), image_format)
    assert not is_whole_picture(path, (16, 25), {"png": "jpg", "jpg": "webp", "webp": "png"}[image_format])
    assert not is_whole_picture(tmp_path / "gone", (16, 25), image_format)
    assert not is_whole_picture(tmp_path, (16, 25), image_format)
    for cut in (0, 5, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert not is_whole_picture(path, (16, 25), image_format)


@pytest.mark.parametrize("threads", [1, 3])
def test_all_are_written_in_order(tmp_path: Path, threads: int) -> None:
    given = some(tmp_path, 20)
    assert list(write_pictures(given, "png", threads)) == [Outcome("x", path=picture.path) for picture in given]
    for picture in given:
        with Image.open(picture.path) as image:
            assert np.array_equal(np.asarray(image), picture.canvas)


def test_few_wait_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def given() -> Iterator[Picture]:
        nonlocal taken
        for picture in some(tmp_path, 30):
            taken += 1
            yield picture

    for done, _ in enumerate(write_pictures(given(), "png", 2), 1):
        assert taken - done <= 5
    taken = 0
    monkeypatch.setattr(pictures, "_PIXELS_HELD", 1000)
    for done, _ in enumerate(write_pictures(given(), "png", 2), 1):
        assert taken - done <= 2


def test_errors_reach_the_caller(tmp_path: Path) -> None:
    (tmp_path / "7.png").mkdir()
    (tmp_path / "7.png/full").touch()
    before = threading.active_count()
    with pytest.raises(OutputError, match=r"7\.png"):
        list(write_pictures(some(tmp_path, 20), "png", 2))
    assert threading.active_count() == before
    assert not list(tmp_path.rglob("*.tmp"))
    huge = Picture(BARE, np.zeros((1, 70_000, 3), np.uint8), tmp_path / "x.jpg")
    with pytest.raises(OutputError, match="do not fit a jpg"):
        list(write_pictures([huge], "jpg", 1))


def test_closing_early_leaves_whole_files(tmp_path: Path) -> None:
    written = write_pictures(some(tmp_path, 20), "png", 2)
    next(written)
    written.close()
    there = list(tmp_path.iterdir())
    assert 0 < len(there) < 20
    assert all(is_whole_picture(path, (16, 24), "png") for path in there)


@pytest.mark.parametrize(
    ("sizes", "columns", "layout"),
    [
        ([(8, 8)] * 9, None, SheetLayout(9, (8, 8), 3)),
        ([(8, 8)] * 10, 4, SheetLayout(10, (8, 8), 4)),
        ([(8, 8)] * 2, 5, SheetLayout(2, (8, 8), 2)),
        ([(8, 4), (2, 16)], None, SheetLayout(2, (8, 16), 1)),
        ([(300, 10)] * 8, None, SheetLayout(8, (300, 10), 8)),
    ],
)
def test_layouts(sizes: list[tuple[int, int]], columns: int | None, layout: SheetLayout) -> None:
    assert lay_out_sheet(iter(sizes), columns, "png") == layout


def sheet_of(layout: SheetLayout, shown: list[np.ndarray]) -> np.ndarray:
    sheet = ContactSheet(layout)
    for picture in shown:
        sheet.add(picture)
    return sheet.pixels


def test_contact_sheet() -> None:
    shown = [draw(10, 6, 1), draw(4, 9, 2), draw(10, 9, 3)]
    layout = lay_out_sheet([picture.shape[:2] for picture in shown], 2, "png")
    wanted = np.full((22, 20, 3), 255, np.uint8)
    wanted[0:10, 1:7] = shown[0]
    wanted[3:7, 11:20] = shown[1]
    wanted[12:22, 0:9] = shown[2]
    assert np.array_equal(sheet_of(layout, shown), wanted)
    alone = lay_out_sheet([(10, 6)], None, "png")
    assert np.array_equal(sheet_of(alone, shown[:1]), shown[0])


def test_sheets_that_are_too_large() -> None:
    with pytest.raises(UsageError, match=r"40038x40038 pixels is more than 1000 megapixels: pick fewer"):
        lay_out_sheet([(2000, 2000)] * 399, 20, "png")
    with pytest.raises(UsageError, match=r"a sheet of 16384x8 pixels does not fit a webp: use png"):
        lay_out_sheet([(8, 16384)], None, "webp")
    assert lay_out_sheet([(8, 16384)], None, "jpg").size == (8, 16384)
