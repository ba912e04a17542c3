"""How an image is fitted to the network's grid, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tokenizer.images.pixels import Pixels, resize

ResizeMode = Literal["none", "crop", "pad", "squash"]
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
# More than any image that is read from a file has: Pillow refuses those above 179 million.
_MOST_PIXELS = 2**28


@dataclass(frozen=True)
class Placement:
    """What happened to one image on its way to the network; all sizes are (height, width) in pixels.

    The `box` (top, left, height, width) of the original was resized to `content`, laid at `offset` (top, left)
    on a `canvas` whose sides are multiples of the network's downsampling; the rest repeats the edge pixels. Where the
    image becomes much smaller, its file is decoded at 1 / `scale`; box and original are in pixels of scale 1.
    """

    mode: str
    original: tuple[int, int]
    box: tuple[int, int, int, int]
    content: tuple[int, int]
    offset: tuple[int, int]
    canvas: tuple[int, int]
    scale: int = 1

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the canvas for the original's (H, W, 3) pixels, decoded at `scale`."""
        top, left, height, width = (side / self.scale for side in self.box)
        content = resize(pixels, *self.content, box=(top, left, height, width))
        margins = [
            (before, canvas - size - before)
            for before, canvas, size in zip(self.offset, self.canvas, self.content, strict=True)
        ]
        return np.pad(content, (*margins, (0, 0)), mode="edge")

    def content_of(self, canvas: Pixels) -> Pixels:
        """Return the part of a canvas that is picture, without padding."""
        (top, left), (height, width) = self.offset, self.content
        return canvas[top : top + height, left : left + width]

    @property
    def restored(self) -> tuple[int, int]:
        """(height, width) of the picture that comes back: that of the original, or of the crop."""
        return self.content if self.mode == "crop" else self.original

    def check(self) -> None:
        """Raise ValueError unless `placement_of` could have made this of an image.

        What is asked for to restore a picture is then at most what its tokens decode to, or what its reader held.
        """
        if self.mode not in RESIZE_MODES:
            raise ValueError(f"the resize mode {self.mode!r:.40}")
        _check_inside(self.offset, self.content, self.canvas, "canvas")
        _check_inside(self.box[:2], self.box[2:], self.original, "original")
        if self.mode == "none" and not self.content == self.original == self.box[2:]:
            raise ValueError(f"a picture of {self.original} pixels that became {self.content} in mode none")
        height, width = self.restored
        if self.restored != self.content and height * width > _MOST_PIXELS:
            raise ValueError(f"a picture of {self.original} pixels, more than any reader takes")

    def restore(self, canvas: Pixels) -> Pixels:
        """Return the picture at the size `restored`."""
        return resize(self.content_of(canvas), *self.restored)


def _check_inside(corner: tuple[int, int], size: tuple[int, int], whole: tuple[int, int], what: str) -> None:
    for first, length, side in zip(corner, size, whole, strict=True):
        if first < 0 or length < 1 or first + length > side:
            raise ValueError(f"a picture lies outside its {what}")


def placement_of(
    original: tuple[int, int], mode: str, size: int | None, multiple: int, scales: tuple[int, ...] = (1,)
) -> Placement:
    """Return how an image of `original` (height, width) is fitted.

    Args:
        original: (height, width) in pixels, both at least 1.
        mode: `none` keeps the size; `crop` takes the center square, `pad` fits the whole image inside the square,
            `squash` stretches it to the square.
        size: side of the square in pixels, for every mode but `none`.
        multiple: the network's downsampling; the canvas is rounded up to it.
        scales: that the file can be decoded at; the largest is taken that leaves both sides of the box at least twice
            as long as the content's, so that the resizing filter still sees more pixels than it makes.
    """
    height, width = original
    box = (0, 0, height, width)
    offset = (0, 0)
    if mode == "none" or size is None:
        content = square = original
    elif mode == "crop":
        side = min(height, width)
        box = ((height - side) // 2, (width - side) // 2, side, side)
        content = square = (size, size)
    elif mode == "pad":
        scale = size / max(height, width)
        content = max(1, round(height * scale)), max(1, round(width * scale))
        square = (size, size)
        offset = (size - content[0]) // 2, (size - content[1]) // 2
    else:
        content = square = (size, size)
    # Rounded up to multiples.
    canvas = -(-square[0] // multiple) * multiple, -(-square[1] // multiple) * multiple
    fine = (s for s in scales if box[2] >= 2 * s * content[0] and box[3] >= 2 * s * content[1])
    return Placement(mode, original, box, content, offset, canvas, max(fine, default=1))
