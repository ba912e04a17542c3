"""Image files: finding, reading, writing. Pixels are (H, W, 3) uint8 arrays, sRGB as the file holds them."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from tokenizer.errors import ImageError, InputError, UsageError

Pixels = NDArray[np.uint8]

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "jpg": ("JPEG", {"quality": 95}),
    "webp": ("WEBP", {"lossless": True}),
}


@dataclass(frozen=True)
class Source:
    """An image to read: its `name` (relative, with forward slashes) and where it lies, or an open file."""

    name: str
    file: Path | BinaryIO


def find(paths: Sequence[Path]) -> list[Source]:
    """Return the images that `paths` name: files as they are, folders searched recursively by suffix.

    Names are relative to the deepest folder that holds everything named; a folder's images come sorted by name,
    whatever the file system's order.

    Raises:
        InputError: a path is missing, or a folder holds no image.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"{path} does not exist")
    roots = [(path if path.is_dir() else path.parent).absolute() for path in paths]
    base = os.path.commonpath(roots) if roots else ""
    found: dict[str, Source] = {}
    for path in paths:
        files = _search(path) if path.is_dir() else [path]
        for file in files:
            name = Path(os.path.relpath(file, base)).as_posix()
            found.setdefault(name, Source(name, file))
    return list(found.values())


def _search(folder: Path) -> list[Path]:
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    if not files:
        raise InputError(f"no images in {folder}: looked for {' '.join(SUFFIXES)}")
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return the (red, green, blue) of a colour name or `#rrggbb`.

    Raises:
        UsageError: it is not a colour.
    """
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a colour: pass a name such as white, or #rrggbb") from None
    return red, green, blue


def read(file: Path | BinaryIO, alpha: tuple[int, int, int] = (255, 255, 255), shrink_to: int | None = None) -> Pixels:
    """Return the first frame of an image file as (H, W, 3) uint8.

    EXIF orientation is applied, transparency is laid over the colour `alpha`, 16-bit samples are rescaled,
    CMYK, LAB, gray and palette become RGB. With `shrink_to`, an image whose shorter side is longer than that many
    pixels is shrunk to it, which large JPEG files allow at a fraction of the cost.

    Raises:
        ImageError: the file cannot be read as an image; the message is the reason alone.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if shrink_to:
                    image.draft("", (2 * shrink_to, 2 * shrink_to))
                image.load()
                rgb = _to_rgb(_upright(image), alpha)
                return np.asarray(_shrink(rgb, shrink_to) if shrink_to else rgb)
    except FileNotFoundError as error:
        raise ImageError("it does not exist, or is a link to nothing") from error
    except (MemoryError, RecursionError) as error:
        raise ImageError("it needs more memory than there is") from error
    except Exception as error:  # decoders raise anything: ValueError, TypeError, struct.error, ...
        raise ImageError(_reason(error)) from error


def _shrink(image: Image.Image, shortest: int) -> Image.Image:
    scale = shortest / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    return " ".join(str(error).split()) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  # a damaged EXIF block says nothing of the pixels
        return image


def _to_rgb(image: Image.Image, alpha: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.mode == "F":
        raise ImageError("floating-point samples have no fixed range: save it as 8 or 16 bits")
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        return converted if converted is not None else image.convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        below = Image.new("RGBA", above.size, (*alpha, 255))
        return Image.alpha_composite(below, above).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    samples = np.asarray(image).astype(np.int64)
    tags = getattr(image, "tag_v2", {})
    bits = int(np.max(tags.get(258, 16)))
    top = 2 ** min(max(bits, 8), 16) - 1
    scaled = np.clip(samples, 0, top) * 255 + top // 2
    return Image.fromarray((scaled // top).astype(np.uint8))


def encode_image(pixels: Pixels, image_format: str) -> bytes:
    """Return (H, W, 3) uint8 pixels as the bytes of a `png`, `jpg` or `webp` file."""
    kind, options = WRITTEN[image_format]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def resize(pixels: Pixels, height: int, width: int, box: tuple[int, int, int, int] | None = None) -> Pixels:
    """Return pixels resized to `height` x `width` with an anti-aliased bicubic filter.

    Args:
        pixels: (H, W, 3) uint8.
        height: of the result.
        width: of the result.
        box: (top, left, height, width) of the part to take; all of it when None.
    """
    top, left, tall, wide = box or (0, 0, *pixels.shape[:2])
    region = pixels[top : top + tall, left : left + wide]
    if region.shape[:2] == (height, width):
        return region
    return np.asarray(Image.fromarray(region).resize((width, height), Image.Resampling.BICUBIC))


def unique_names(names: Iterable[str], suffix: str) -> list[str]:
    """Return a file name ending in `suffix` for each image name, all different, none leaving its folder.

    `a/b.jpg` becomes `a/b.png`; where `b.jpg` and `b.webp` lie side by side, both keep their suffix
    (`b.jpg.png`, `b.webp.png`); names that still coincide are numbered.
    """
    safe = [_inside(name) for name in names]
    stems = [name[: len(name) - len(Path(name).suffix)] for name in safe]
    shared = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    taken: set[str] = set()
    chosen = []
    for name, stem in zip(safe, stems, strict=True):
        base = name if stem in shared else stem
        candidate, number = base + suffix, 1
        while candidate in taken:
            candidate, number = f"{base}-{number}{suffix}", number + 1
        taken.add(candidate)
        chosen.append(candidate)
    return chosen


def _inside(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    cleaned = "/".join(part.replace("\0", "") for part in parts)
    return cleaned or "image"
