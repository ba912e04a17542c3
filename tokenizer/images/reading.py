"""Image files, read as pixels: the first frame, upright, in sRGB; whole, or decoded at a fraction of its size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from tokenizer.images.color import upright_rgb
from tokenizer.images.opening import ImageFile, open_image
from tokenizer.images.pixels import Pixels

IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Those whose further images are frames or pages; in MPO and PSD they are previews, depth maps and layers.
_OF_FRAMES = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")


@dataclass(frozen=True)
class Source:
    """An image to read.

    Attributes:
        name: relative, with forward slashes.
        file: a path, an open file, or a call that returns the image.
        carried: name and bytes of what belongs to it in an archive, such as a label.
    """

    name: str
    file: ImageFile
    carried: tuple[tuple[str, bytes], ...] = ()


def read_image(file: ImageFile, alpha: tuple[int, int, int] = (255, 255, 255), shrink_to: int | None = None) -> Pixels:
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
class ImageInfo:
    """What an image file says of itself before its pixels are decoded.

    Attributes:
        size: (height, width) in pixels; of the upright image where there are several `scales`.
        scales: what its sides can be divided by in decoding, at a fraction of the cost; 1 is the first.
        progressive: decoding holds the whole image whatever the scale.
    """

    size: tuple[int, int]
    scales: tuple[int, ...] = (1,)
    progressive: bool = False


@dataclass(frozen=True)
class DecodedImage:
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


def read_scaled(file: ImageFile, alpha: tuple[int, int, int], choose: Callable[[ImageInfo], int]) -> DecodedImage:
    """Return the first frame of an image file as `read_image` does, decoded at the scale that `choose` names.

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
        return DecodedImage(pixels, original, scale, _has_more(image))


def _has_more(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # damage behind the first frame loses nothing
        return image.format in _OF_FRAMES and bool(getattr(image, "is_animated", False))
    return False


def _look(image: Image.Image) -> ImageInfo:
    width, height = image.size
    if not isinstance(image, JpegImageFile):
        return ImageInfo((height, width))
    orientation = 1
    with contextlib.suppress(Exception):  # as in `upright_rgb`
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Where the scale does not divide a side, the last pixel of the scaled image stands for fewer of the file's. Turning
    # would put it first, and move all others by a fraction of a pixel.
    turned = orientation in range(2, 9)
    fitting = (s for s in (2, 4, 8) if s <= min(width, height) and not (turned and (width % s or height % s)))
    size = (width, height) if orientation in range(5, 9) else (height, width)
    return ImageInfo(size, (1, *fitting), "progressive" in image.info)


def probe_image(file: ImageFile) -> tuple[int, int]:
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
