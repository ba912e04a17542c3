"""What the samples of an image file mean: orientation, transparency, depth, color spaces."""

from __future__ import annotations

import contextlib
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageColor, ImageOps
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from tokenizer.errors import ImageError, UsageError
from tokenizer.images.icc import to_srgb

_TOP = 2**16 - 1
_BYTE = 8
# Of TIFF: sample format, planar configuration.
_SIGNED, _PLANES = 2, 2
_MOST_SCANS = 200  # of a JPEG; encoders make about 10, and 40 bytes suffice for one of the largest image
_STEPS = {"L;2": 255 // 3, "L;4": 255 // 15}  # between samples of a PNG of 2 or 4 bits


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


def upright_rgb(image: Image.Image, alpha: tuple[int, int, int]) -> Image.Image:
    """Return an opened image as 8-bit RGB, upright as its EXIF says, and laid over the color `alpha`.

    Colors are those of sRGB where the file holds a profile that says what they are. What PNG files say of gamma and
    chromaticities is not applied, as by most readers.

    Raises:
        ImageError: its samples have no meaning as colors.
    """
    _refuse_misread(image)
    _scale_transparent_sample(image)
    image.load()
    _turn_upright(image)
    return _to_rgb(image, alpha)


def _refuse_misread(image: Image.Image) -> None:
    """Raise ImageError for what Pillow would decode wrongly without an error, or for hours."""
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        if not _is_covered(image):
            raise ImageError("it is damaged: its strips or tiles do not cover it")
        if _SIGNED in np.atleast_1d(tags.get(ExifTags.Base.SampleFormat, 1)) and image.mode != "LAB":
            raise ImageError("signed samples have no fixed range: save it as 8 or 16 bits without a sign")
        planes = tags.get(ExifTags.Base.PlanarConfiguration) == _PLANES
        if planes and image.tile[0].codec_name == "raw" and np.max(tags.get(ExifTags.Base.BitsPerSample, 1)) > _BYTE:
            raise ImageError("16-bit samples in planes, not compressed: save it compressed, or not in planes")
    if isinstance(image, Jpeg2KImageFile) and image.mode != "I;16" and _bits(image) > _BYTE:
        raise ImageError("a JPEG 2000 of more than 8 bits a sample: save it as PNG or TIFF")
    if isinstance(image, JpegImageFile) and (scans := _scans(image)) > _MOST_SCANS:
        raise ImageError(f"it has {scans} scans, which would take very long: save it again")


def _is_covered(image: TiffImageFile) -> bool:
    """Return whether there are pixels for the whole image: Pillow leaves the rest black."""
    right = max((tile.extents[2] for tile in image.tile if tile.extents), default=0)
    bottom = max((tile.extents[3] for tile in image.tile if tile.extents), default=0)
    return right >= image.tag_v2[ExifTags.Base.ImageWidth] and bottom >= image.tag_v2[ExifTags.Base.ImageLength]


def _bits(image: Jpeg2KImageFile) -> int:
    """Return the bits of the first component's samples, from the SIZ marker of a JPEG 2000 (ISO 15444-1, A.5.1)."""
    file = cast("BinaryIO", image.fp)  # until the pixels are loaded
    file.seek(0)
    head = file.read(2**16)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 127) + 1 if 0 <= start < len(head) - 42 else 0


def _scans(image: JpegImageFile) -> int:
    """Return how often a progressive JPEG goes over the image after its first time, before it ends."""
    if "progressive" not in image.info:
        return 0
    rest = cast("BinaryIO", image.fp).read()  # from the first scan on; loading begins at the start
    end = rest.find(b"\xff\xd9")
    return rest.count(b"\xff\xda", 0, end if end >= 0 else None)


def _scale_transparent_sample(image: Image.Image) -> None:
    """Give the sample of a PNG that stands for transparent the 8 bits that Pillow gives the others.

    Of 16-bit colors, the upper bytes are left: one that differs in the lower ones alone is transparent too.
    """
    clear = image.info.get("transparency")
    if not isinstance(image, PngImageFile) or clear is None or not image.tile:
        return
    depth = image.tile[0].args
    if isinstance(clear, int) and depth in _STEPS:
        image.info["transparency"] = clear * _STEPS[str(depth)]
    elif isinstance(clear, tuple) and depth == "RGB;16B":
        image.info["transparency"] = tuple(sample >> _BYTE for sample in clear)


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
        above = to_srgb(image.convert("RGBA"))
        below = Image.new("RGBA", above.size, (*alpha, 255))
        return Image.alpha_composite(below, above).convert("RGB")
    return to_srgb(image).convert("RGB")


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
    """Return the 8-bit value of each 16-bit sample as a table, (65536,) uint8.

    To look samples up takes less memory than arithmetic on a whole image.
    """
    tags = getattr(image, "tag_v2", {})
    top = 2 ** min(max(int(np.max(tags.get(ExifTags.Base.BitsPerSample, 16))), 8), 16) - 1
    # x * 255 / top, rounded to the nearest integer.
    scaled = (np.minimum(np.arange(_TOP + 1), top) * 255 + top // 2) // top
    # Where white is zero: Pillow inverts it up to 8 bits only.
    return (255 - scaled if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else scaled).astype(np.uint8)
