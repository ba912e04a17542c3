"""Decoded pictures: at their sizes, written by threads, or laid out on one sheet."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenizer.errors import ImageError, UsageError
from tokenizer.files import write_bytes
from tokenizer.images import Pixels, encode_image, probe_image
from tokenizer.jobs.outcomes import Outcome
from tokenizer.tokens import ImageRecord

_PIXELS_HELD = 2**26
_PIXELS_ON_SHEET = 10**9
_LONGEST_SIDE = {"png": 2**31 - 1, "jpg": 65500, "webp": 16383}
_GAP = 2
_WHITE = 255
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class Picture:
    """A decoded image: its record, its (H, W, 3) canvas as the decoder made it, and the file it goes to."""

    record: ImageRecord
    canvas: Pixels
    path: Path


def restore_picture(record: ImageRecord, canvas: Pixels) -> Pixels:
    """Return a canvas without padding, at its original size; as it is where nobody recorded how it was fitted."""
    return record.placement.restore(canvas) if record.placement else canvas


def picture_size(record: ImageRecord, downsample: int) -> tuple[int, int]:
    """Return the (height, width) that `restore` gives, `downsample` pixels per position."""
    return record.placement.restored if record.placement else (record.grid[0] * downsample, record.grid[1] * downsample)


def is_whole_picture(path: Path, size: tuple[int, int], image_format: str) -> bool:
    """Return whether a file is a picture of that format and (height, width), from its first to its last byte.

    What lies between is not read.
    """
    try:
        if probe_image(path) != size:
            return False
        with path.open("rb") as file:
            start = file.read(8)
            length = file.seek(-len(_PNG_END), os.SEEK_END) + len(_PNG_END)
            end = file.read()
    except (ImageError, OSError):
        return False
    if image_format == "webp":
        return start[:4] == b"RIFF" and int.from_bytes(start[4:], "little") + len(start) == length
    return end.endswith(_PNG_END if image_format == "png" else _JPEG_END)


def write_pictures(pictures: Iterable[Picture], image_format: str, threads: int) -> Generator[Outcome]:
    """Compress and write pictures in threads, each whole or not at all, and yield an outcome of each, in order.

    A few wait at a time; what is being written when the generator is closed is finished.

    Raises:
        OutputError: one cannot be written, or does not fit the format.
    """
    waiting: deque[tuple[int, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
        try:
            for picture in pictures:
                height, width = picture.record.placement.restored if picture.record.placement else (0, 0)
                pixels = max(picture.canvas.size // 3, height * width)
                while waiting and (len(waiting) > 2 * threads or sum(n for n, _ in waiting) + pixels > _PIXELS_HELD):
                    yield waiting.popleft()[1].result()
                waiting.append((pixels, pool.submit(_write, picture, image_format)))
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()


def _write(picture: Picture, image_format: str) -> Outcome:
    write_bytes(picture.path, encode_image(restore_picture(picture.record, picture.canvas), image_format))
    return Outcome(picture.record.name, path=picture.path)


@dataclass(frozen=True)
class SheetLayout:
    """A sheet of `count` pictures in `columns` columns, each in a cell of (height, width) pixels."""

    count: int
    cell: tuple[int, int]
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the sheet in pixels."""
        rows = -(-self.count // self.columns)
        return rows * (self.cell[0] + _GAP) - _GAP, self.columns * (self.cell[1] + _GAP) - _GAP

    def corner(self, number: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (top, left) pixel of a picture of (height, width) in the middle of its cell."""
        row, column = divmod(number, self.columns)
        (tall, wide), (height, width) = self.cell, size
        return row * (tall + _GAP) + (tall - height) // 2, column * (wide + _GAP) + (wide - width) // 2


def lay_out_sheet(sizes: Iterable[tuple[int, int]], columns: int | None, image_format: str) -> SheetLayout:
    """Return the layout of a sheet of pictures of these (height, width), one at least.

    Without `columns`, the sheet is about square.

    Raises:
        UsageError: it is larger than the format, or reason, allows.
    """
    count, height, width = 0, 0, 0
    for tall, wide in sizes:
        count, height, width = count + 1, max(height, tall), max(width, wide)
    square = max(1, min(count, round(math.sqrt(count * height / width))))
    layout = SheetLayout(count, (height, width), min(columns or square, count))
    tall, wide = layout.size
    if max(tall, wide) > _LONGEST_SIDE[image_format]:
        raise UsageError(f"a sheet of {wide}x{tall} pixels does not fit a {image_format}: use png, or fewer images")
    if tall * wide > _PIXELS_ON_SHEET:
        raise UsageError(
            f"a sheet of {wide}x{tall} pixels is more than {_PIXELS_ON_SHEET // 10**6} megapixels: pick fewer images "
            "with --index"
        )
    return layout


class ContactSheet:
    """Pictures on one white sheet, row by row.

    Args:
        layout: of the sheet.

    Attributes:
        pixels: (H, W, 3).
    """

    def __init__(self, layout: SheetLayout) -> None:
        self._layout, self._count = layout, 0
        self.pixels: Pixels = np.full((*layout.size, 3), _WHITE, np.uint8)

    def add(self, picture: Pixels) -> None:
        """Put the next picture into its cell."""
        height, width = picture.shape[:2]
        top, left = self._layout.corner(self._count, (height, width))
        self.pixels[top : top + height, left : left + width] = picture
        self._count += 1
