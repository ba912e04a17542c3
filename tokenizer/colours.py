"""What the samples of an image file mean: orientation, transparency, depth, colour spaces."""

from __future__ import annotations

import contextlib

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from tokenizer.errors import ImageError


def upright_rgb(image: Image.Image, alpha: tuple[int, int, int]) -> Image.Image:
    """Return an opened image as 8-bit RGB, upright as its EXIF says, and laid over the colour `alpha`.

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
        above = image.convert("RGBA")
        below = Image.new("RGBA", above.size, (*alpha, 255))
        return Image.alpha_composite(below, above).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    samples = np.asarray(image).astype(np.int64)
    tags = getattr(image, "tag_v2", {})
    top = 2 ** min(max(int(np.max(tags.get(ExifTags.Base.BitsPerSample, 16))), 8), 16) - 1
    scaled = (np.clip(samples, 0, top) * 255 + top // 2) // top
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero: Pillow inverts it up to 8 bits only
        scaled = 255 - scaled
    gray = Image.fromarray(scaled.astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):  # the sample that stands for transparent
        gray.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
    return gray
