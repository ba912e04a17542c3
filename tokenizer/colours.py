"""What the samples of an image file mean: orientation, transparency, depth, colour spaces."""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps

from tokenizer.errors import ImageError
from tokenizer.profiles import in_srgb

_TOP = 2**16 - 1


def upright_rgb(image: Image.Image, alpha: tuple[int, int, int]) -> Image.Image:
    """Return an opened image as 8-bit RGB, upright as its EXIF says, and laid over the colour `alpha`.

    Colours are those of sRGB where the file holds a profile that says what they are. What PNG files say of gamma and
    chromaticities is not applied, as by most readers.

    Raises:
        ImageError: its samples have no meaning as colours.
    """
    image.load()
    _turn_upright(image)
    return _to_rgb(image, alpha)


def _turn_upright(image: Image.Image) -> None:
    # In place, as a copy loses the TIFF tags. A damaged EXIF block says nothing of the pixels.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image, alpha: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.mode == "F":
        raise ImageError("floating-point samples have no fixed range: save it as 8 or 16 bits")
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return ImageCms.applyTransform(image, transform) or image.convert("RGB")
    if image.has_transparency_data:
        above = in_srgb(image.convert("RGBA"))
        below = Image.new("RGBA", above.size, (*alpha, 255))
        return Image.alpha_composite(below, above).convert("RGB")
    return in_srgb(image).convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Return 16-bit gray, or 32-bit gray that fits 16, as 8-bit gray; with alpha where a sample means transparent."""
    samples = np.asarray(image)
    if image.mode == "I":
        if samples.min() < 0 or samples.max() > _TOP:
            raise ImageError(f"samples of {samples.min()} to {samples.max()} are not 16 bits: save it as 8 or 16 bits")
        samples = samples.astype(np.uint16)
    gray = Image.fromarray(_scale(image)[samples])
    gray.info = dict(image.info)
    if isinstance(clear := gray.info.pop("transparency", None), int):  # the sample that stands for transparent
        gray.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
    return gray


def _scale(image: Image.Image) -> NDArray[np.uint8]:
    """Return the 8-bit value of each 16-bit sample: (65536,) uint8, not a computation on large images in 64 bits."""
    tags = getattr(image, "tag_v2", {})
    top = 2 ** min(max(int(np.max(tags.get(ExifTags.Base.BitsPerSample, 16))), 8), 16) - 1
    scaled = (np.minimum(np.arange(_TOP + 1), top) * 255 + top // 2) // top
    # Where white is zero: Pillow inverts it up to 8 bits only.
    return (255 - scaled if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else scaled).astype(np.uint8)
