"""Pixels, (H, W, 3) uint8 of sRGB: resized, and as the bytes of an image file."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.errors import OutputError

Pixels = NDArray[np.uint8]

_WRITTEN_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {"compress_level": 1}),  # four times as fast as 6, 2 to 15 % larger
    "jpg": ("JPEG", {"quality": 95}),
    "webp": ("WEBP", {"lossless": True}),
}


def encode_image(pixels: Pixels, image_format: str) -> bytes:
    """Return (H, W, 3) uint8 pixels as the bytes of a `png`, `jpg` or `webp` file.

    Raises:
        OutputError: the format cannot hold a picture of this size.
    """
    kind, options = _WRITTEN_FORMATS[image_format]
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{pixels.shape[1]}x{pixels.shape[0]} pixels do not fit a {image_format}: {error}. use png"
        ) from error
    return buffer.getvalue()


def resize(
    pixels: Pixels,
    height: int,
    width: int,
    box: tuple[float, float, float, float] | None = None,
    *,
    fast: bool = False,
) -> Pixels:
    """Return (H, W, 3) pixels resized to `height` x `width` with an anti-aliased bicubic filter.

    `box` is the (top, left, height, width) of the part to take, where a side may cut through pixels; all of it when
    None. `fast` averages whole pixels first where the part becomes a fourth of its size or less, which changes the
    result a little.
    """
    # PIL takes the part as (left, top, right, bottom), and reads whole pixels: the region is all that the part touches,
    # so that the filter sees nothing beyond it.
    top, left, tall, wide = box or (0, 0, *pixels.shape[:2])
    row, column = math.floor(top), math.floor(left)
    region = pixels[row : math.ceil(top + tall), column : math.ceil(left + wide)]
    if region.shape[:2] == (height, width) == (tall, wide):
        return region
    inside = (left - column, top - row, left - column + wide, top - row + tall)
    gap = 2.0 if fast else None
    return np.asarray(Image.fromarray(region).resize((width, height), Image.Resampling.BICUBIC, inside, gap))
