"""Opening image files: whatever is wrong with one becomes one error of one line, and nothing reaches stderr."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import io
import logging
import os
import re
import stat
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tokenizer.errors import ImageError, reason
from tokenizer.runtime import SharedContext, pillow_library

# A call returns the same image each time; bytes are those of an image file.
ImageFile = Path | BinaryIO | Callable[[], NDArray[np.uint8] | Image.Image | bytes]

# Smaller files are read whole before they are decoded: Pillow and libtiff would map them, and a file that another
# process cuts short while it is mapped ends this one (SIGBUS).
_READ_WHOLE = 2**26
_DRAWINGS = ("EPS", "WMF")  # Pillow has another program paint them
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextlib.contextmanager
def open_image(file: ImageFile, *, pixels: bool = True) -> Generator[Image.Image]:
    """Open an image, and raise ImageError for whatever goes wrong until it is closed; its message is the reason alone.

    Args:
        file: the image.
        pixels: they are wanted, not only what the file's header says.
    """
    try:
        with _quiet, contextlib.ExitStack() as held:
            yield held.enter_context(_open(file, held, pixels=pixels))
    except FileNotFoundError as error:
        raise ImageError("it does not exist, or is a link to nothing") from error
    except (MemoryError, RecursionError) as error:
        raise ImageError("it needs more memory than there is") from error
    except Exception as error:  # decoders raise anything: ValueError, TypeError, struct.error, ...
        raise ImageError(_reason(error)) from error


def _open(file: ImageFile, held: contextlib.ExitStack, *, pixels: bool) -> Image.Image:
    if isinstance(file, Path):
        return _identified(held.enter_context(_stream(file, whole=pixels)))
    if not callable(file):
        return _identified(file)
    made = file()
    if isinstance(made, bytes):
        return _identified(io.BytesIO(made))
    image = made.copy() if isinstance(made, Image.Image) else Image.fromarray(made)  # a caller's own is left as it is
    if not all(image.size):
        raise ImageError(f"it has no pixels: {image.width}x{image.height}")
    return image


def _identified(stream: BinaryIO) -> Image.Image:
    try:
        image = Image.open(stream)
    except UnidentifiedImageError as error:
        stream.seek(0)
        if stream.read(4) in _TIFF_STARTS:
            raise ImageError("a TIFF that is damaged, or has samples of an unknown kind") from error
        raise ImageError("not an image, or of an unknown format") from error
    if image.format in _DRAWINGS:
        raise ImageError(f"a drawing ({image.format}), not pixels: convert it to PNG")
    return image


def _stream(path: Path, *, whole: bool) -> BinaryIO:
    """Return an open file; with `whole`, its bytes in memory unless it is large, which no other process can change."""
    # Looked at before, as opening a device can do something; and after, as the file can have become another.
    _refuse_special(path.stat().st_mode)
    stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # Path.open takes no opener
    try:
        status = os.fstat(stream.fileno())
        _refuse_special(status.st_mode)
        if not whole or status.st_size > _READ_WHOLE:
            return stream
        with stream:
            return io.BytesIO(stream.read(status.st_size + 1))
    except BaseException:
        stream.close()
        raise


def _refuse_special(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise ImageError("it is a pipe or a device, not a file")  # opening it could wait for ever


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", str(error))
        return f"{pixels[0] if pixels else 'its'} pixels are more than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} allowed"
    return reason(error)


@contextlib.contextmanager
def _silenced() -> Generator[None]:
    logger, handler = logging.getLogger("PIL"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(action="ignore"), _libtiff_silenced():
            yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _libtiff_silenced() -> Generator[None]:
    """Keep libtiff from writing to stderr, where its symbols can be found: it calls functions that can be taken out.

    Pillow leaves these functions in. Redirecting stderr instead would swallow what other threads write to it.
    """
    setters = _libtiff_setters()
    before = [set_handler(None) for set_handler in setters]
    try:
        yield
    finally:
        for set_handler, handler in zip(setters, before, strict=True):
            set_handler(handler)


@functools.cache
def _libtiff_setters() -> list[Any]:
    """Return the two functions that set libtiff's handlers of errors and warnings; none where they cannot be found.

    They are looked up in Pillow's own library: a lookup goes on to the libraries that it is linked to, and so finds the
    libtiff that Pillow uses, not another one in this process.
    """
    path = pillow_library()
    if path is None:
        return []
    try:
        library = ctypes.CDLL(path)
        setters = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
    except (AttributeError, OSError):
        return []
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setters


# Shared: filters of `warnings` and libtiff's handlers are those of all threads, so that Pillow stays silent until the
# last thread has read its image.
_quiet = SharedContext(_silenced)
