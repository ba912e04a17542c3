"""Image files: reading, writing. Pixels are (H, W, 3) uint8 arrays of sRGB."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor
from PIL.JpegImagePlugin import JpegImageFile

from tokenizer.errors import OutputError, UsageError
from tokenizer.images.color import upright_rgb
from tokenizer.images.opening import File, open_image

Pixels = NDArray[np.uint8]

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_OF_FRAMES = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {"compress_level": 1}),  # four times as fast as 6, 2 to 15 % larger
    "jpg": ("JPEG", {"quality": 95}),
    "webp": ("WEBP", {"lossless": True}),
}


@dataclass(frozen=True)
class Source:
    """An image to read: its `name` (relative, with forward slashes) and where it lies, an open file, or a call.

    An image out of an archive carries what belongs to it there, such as a label: (name, bytes) each.
    """

    name: str
    file: File
    carried: tuple[tuple[str, bytes], ...] = ()


def parse_color(text: str) -> tuple[int, int, int]:
    """Return the (red, green, blue) of a color name or `#rrggbb`.

    Raises:
        UsageError: it is not a color.
    """
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a color: pass a name such as white, or #rrggbb") from None
    return red, green, blue


def read_image(file: File, alpha: tuple[int, int, int] = (255, 255, 255), shrink_to: int | None = None) -> Pixels:
    """Return the first frame of an image file as (H, W, 3) uint8.

    EXIF orientation is applied, or XMP's where EXIF has none; transparency is laid over the color `alpha`; 16-bit
    samples are rescaled; CMYK, LAB, gray and palette become RGB, by the file's color profile where it holds one. With
    `shrink_to`, an image whose shorter side is longer than that many pixels is shrunk to it, which large JPEG files
    allow at a fraction of the cost.

    Raises:
        ImageError: the file cannot be read as an image; the message is the reason alone.
    """
    with open_image(file) as image:
        if shrink_to:
            image.draft("", (2 * shrink_to, 2 * shrink_to))
        rgb = upright_rgb(image, alpha)
        return np.asarray(_shrink(rgb, shrink_to) if shrink_to else rgb)


@dataclass(frozen=True)
class Opened:
    """What is known of an image file before its pixels are decoded.

    Attributes:
        size: (height, width) in pixels; of the upright image where there are several `scales`.
        scales: what its sides can be divided by in decoding, at a fraction of the cost; 1 is the first.
        progressive: decoding holds the whole image whatever the scale.
    """

    size: tuple[int, int]
    scales: tuple[int, ...] = (1,)
    progressive: bool = False


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, 3) uint8, upright.
        original: (height, width) of the upright image in the file.
        scale: what its sides were divided by, rounded up.
        has_more: the file holds further frames or pages, which are not read.
    """

    pixels: Pixels
    original: tuple[int, int]
    scale: int
    has_more: bool


def read_scaled(file: File, alpha: tuple[int, int, int], choose: Callable[[Opened], int]) -> Decoded:
    """Return the first frame of an image file as `read` does, decoded at the scale that `choose` names.

    Args:
        file: the image.
        alpha: (red, green, blue) under transparent pixels.
        choose: called before the pixels are decoded; returns one of the scales.

    Raises:
        ImageError: the file cannot be read as an image; the message is the reason alone.
    """
    with open_image(file) as image:
        found = _look(image)
        scale = choose(found)
        if scale > 1:
            image.draft("", (image.width // scale, image.height // scale))
        pixels = np.asarray(upright_rgb(image, alpha))
        original = found.size if scale > 1 else (pixels.shape[0], pixels.shape[1])
        return Decoded(pixels, original, scale, _has_more(image))


def _has_more(image: Image.Image) -> bool:
    # Not of MPO and PSD: previews, depth maps and layers are no frames. Damage behind the first is no loss.
    with contextlib.suppress(Exception):
        return image.format in _OF_FRAMES and bool(getattr(image, "is_animated", False))
    return False


def _look(image: Image.Image) -> Opened:
    width, height = image.size
    if not isinstance(image, JpegImageFile):
        return Opened((height, width))
    orientation = 1
    with contextlib.suppress(Exception):  # as in `upright_rgb`
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # A side that the scale does not divide ends in part of a pixel, which a turned image would begin with.
    turned = orientation in range(2, 9)
    fitting = (s for s in (2, 4, 8) if s <= min(width, height) and not (turned and (width % s or height % s)))
    size = (width, height) if orientation in range(5, 9) else (height, width)
    return Opened(size, (1, *fitting), "progressive" in image.info)


def probe_image(file: File) -> tuple[int, int]:
    """Return the (height, width) that an image file's header names, without reading its pixels.

    Raises:
        ImageError: the file cannot be read as an image; the message is the reason alone.
    """
    with open_image(file, pixels=False) as image:
        return image.height, image.width


def _shrink(image: Image.Image, shortest: int) -> Image.Image:
    scale = min(1.0, shortest / min(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def encode_image(pixels: Pixels, image_format: str) -> bytes:
    """Return (H, W, 3) uint8 pixels as the bytes of a `png`, `jpg` or `webp` file.

    Raises:
        OutputError: the format cannot hold a picture of this size.
    """
    kind, options = WRITTEN[image_format]
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{pixels.shape[1]}x{pixels.shape[0]} pixels do not fit a {image_format}: {error}. use png"
        ) from error
    return buffer.getvalue()


def resize(pixels: Pixels, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> Pixels:
    """Return (H, W, 3) pixels resized to `height` x `width` with an anti-aliased bicubic filter.

    `box` is the (top, left, height, width) of the part to take, where a side may cut through pixels; all of it when
    None.
    """
    top, left, tall, wide = box or (0, 0, *pixels.shape[:2])
    row, column = math.floor(top), math.floor(left)
    region = pixels[row : math.ceil(top + tall), column : math.ceil(left + wide)]
    if region.shape[:2] == (height, width) == (tall, wide):
        return region
    inside = (left - column, top - row, left - column + wide, top - row + tall)
    return np.asarray(Image.fromarray(region).resize((width, height), Image.Resampling.BICUBIC, box=inside))
