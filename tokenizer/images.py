"""Image files: finding, reading, writing. Pixels are (H, W, 3) uint8 arrays, sRGB as the file holds them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from tokenizer.errors import ImageError, InputError, OutputError, UsageError

Pixels = NDArray[np.uint8]
File = Path | BinaryIO | Callable[[], Pixels | Image.Image]  # a call returns the same image each time

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "jpg": ("JPEG", {"quality": 95}),
    "webp": ("WEBP", {"lossless": True}),
}


@dataclass(frozen=True)
class Source:
    """An image to read: its `name` (relative, with forward slashes) and where it lies, an open file, or a call."""

    name: str
    file: File


def find(paths: Sequence[Path]) -> list[Source]:
    """Return the images that `paths` name: files as they are, folders searched recursively by suffix.

    Names are relative to the deepest folder that holds everything named; a folder's images come sorted by name,
    whatever the file system's order. What begins with a dot is left out, files and folders.

    Raises:
        InputError: a path is missing, or a folder holds no image or cannot be listed.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"{path} does not exist")
    roots = [(path if path.is_dir() else path.parent).absolute() for path in paths]
    base = os.path.commonpath(roots) if roots else ""
    found: dict[str, Source] = {}
    for path in paths:
        for file in _files_of(path, alone=len(paths) == 1):
            name = Path(os.path.relpath(file, base)).as_posix()
            found.setdefault(name, Source(name, file))
    return list(found.values())


def _files_of(path: Path, *, alone: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = _search(path)
    if files:
        return files
    if not alone and path.name.lower().endswith(SUFFIXES):
        return [path]  # a folder that is called like an image, in a list of images: unreadable, like others
    raise InputError(f"no images in {path}: looked for {' '.join(SUFFIXES)}")


def _search(folder: Path) -> list[Path]:
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def _cannot_list(error: OSError) -> NoReturn:
    raise InputError(f"cannot list the folder {error.filename}: {error.strerror}") from error


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


class _Quiet:
    """Silences Pillow while any thread reads: `warnings` has one list of filters, which all threads share."""

    def __init__(self) -> None:
        self._lock, self._readers, self._undo = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                logger, handler = logging.getLogger("PIL"), logging.NullHandler()
                logger.addHandler(handler)
                self._undo.callback(logger.removeHandler, handler)
                self._undo.enter_context(warnings.catch_warnings(action="ignore"))
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._undo.close()


_quiet = _Quiet()


def read(file: File, alpha: tuple[int, int, int] = (255, 255, 255), shrink_to: int | None = None) -> Pixels:
    """Return the first frame of an image file as (H, W, 3) uint8.

    EXIF orientation is applied, transparency is laid over the colour `alpha`, 16-bit samples are rescaled,
    CMYK, LAB, gray and palette become RGB. With `shrink_to`, an image whose shorter side is longer than that many
    pixels is shrunk to it, which large JPEG files allow at a fraction of the cost.

    Raises:
        ImageError: the file cannot be read as an image; the message is the reason alone.
    """
    try:
        with _quiet, _open(file) as image:
            if shrink_to:
                image.draft("", (2 * shrink_to, 2 * shrink_to))
            image.load()
            _turn_upright(image)
            rgb = _to_rgb(image, alpha)
            return np.asarray(_shrink(rgb, shrink_to) if shrink_to else rgb)
    except FileNotFoundError as error:
        raise ImageError("it does not exist, or is a link to nothing") from error
    except (MemoryError, RecursionError) as error:
        raise ImageError("it needs more memory than there is") from error
    except Exception as error:  # decoders raise anything: ValueError, TypeError, struct.error, ...
        raise ImageError(_reason(error)) from error


def probe(file: File) -> tuple[int, int]:
    """Return the (height, width) that an image file's header names, without reading its pixels.

    Raises:
        ImageError: the file cannot be read as an image; the message is the reason alone.
    """
    try:
        with _quiet, _open(file) as image:
            return image.height, image.width
    except Exception as error:  # as in `read`
        raise ImageError(_reason(error)) from error


def _open(file: File) -> Image.Image:
    if callable(file):
        made = file()
        image = made.copy() if isinstance(made, Image.Image) else Image.fromarray(made)  # another's is not turned
        if not all(image.size):
            raise ImageError(f"it has no pixels: {image.width}x{image.height}")
        return image
    if isinstance(file, Path) and file.exists() and not (file.is_file() or file.is_dir()):
        raise ImageError("it is a pipe or a device, not a file")  # opening it could wait for ever
    return Image.open(file)


def _shrink(image: Image.Image, shortest: int) -> Image.Image:
    scale = min(1.0, shortest / min(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    return " ".join(str(error).split()) or type(error).__name__


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


def resize(pixels: Pixels, height: int, width: int, box: tuple[int, int, int, int] | None = None) -> Pixels:
    """Return (H, W, 3) pixels resized to `height` x `width` with an anti-aliased bicubic filter.

    `box` is the (top, left, height, width) of the part to take; all of it when None.
    """
    top, left, tall, wide = box or (0, 0, *pixels.shape[:2])
    region = pixels[top : top + tall, left : left + wide]
    if region.shape[:2] == (height, width):
        return region
    return np.asarray(Image.fromarray(region).resize((width, height), Image.Resampling.BICUBIC))
