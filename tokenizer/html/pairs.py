"""Pairs of pictures of one size, which the page shows under a slider."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from tokenizer.images import Pixels

MOST_SHOWN = 768
WEBP_QUALITY = 90
_LOSSLESS = 256 * 256
_SMALL = 256

PAIRS_NOTE = (
    f"Of larger pictures the middle {MOST_SHOWN} x {MOST_SHOWN} pixels are shown; those of more than 256 x 256 pixels "
    f"are stored as WebP of quality {WEBP_QUALITY}, smaller ones without loss."
)


@dataclass(frozen=True)
class PicturePair:
    """Two WebP pictures of one size.

    Attributes:
        anchor: the pair's own name in the page.
        name: of the picture.
        note: what stands behind the name.
        left: bytes of the picture on the left of the split.
        right: bytes of the other.
        width: of both, in pixels.
        height: of both, in pixels.
        left_label: what the left one is.
        right_label: what the right one is.
    """

    anchor: str
    name: str
    note: str
    left: bytes
    right: bytes
    width: int
    height: int
    left_label: str = "original"
    right_label: str = "decoded"

    @property
    def small(self) -> bool:
        """Whether single pixels should be seen when the page enlarges it."""
        return max(self.width, self.height) <= _SMALL


def make_pair(anchor: str, name: str, note: str, left: Pixels, right: Pixels) -> PicturePair:
    """Return (H, W, 3) uint8 pictures as a pair: the middle of large ones, as WebP."""
    left, right = center_crop(left), center_crop(right)
    return PicturePair(anchor, name, note, encode_webp(left), encode_webp(right), left.shape[1], left.shape[0])


def center_crop(pixels: Pixels) -> Pixels:
    """Return the middle of (H, W, 3) pixels, at most 768 a side."""
    top, left = (max(0, side - MOST_SHOWN) // 2 for side in pixels.shape[:2])
    return pixels[top : top + MOST_SHOWN, left : left + MOST_SHOWN]


def encode_webp(pixels: Pixels) -> bytes:
    """Return (H, W, 3) uint8 pixels as WebP, small ones without loss."""
    stream = io.BytesIO()
    small = pixels.shape[0] * pixels.shape[1] <= _LOSSLESS
    Image.fromarray(pixels).save(stream, "WEBP", lossless=small, quality=WEBP_QUALITY, method=4)
    return stream.getvalue()
