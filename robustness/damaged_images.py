"""Small image files of every kind, and ways to damage them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms


def _compressions(names: str) -> list[dict[str, Any]]:
    return [{"compression": f"tiff_{name}"} for name in names.split()]


KINDS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "AVIF": ("RGB RGBA L", ({},)),
    "BLP": ("P", ({},)),
    "BMP": ("1 L P RGB RGBA", ({},)),
    "DDS": ("RGB RGBA L LA", ({}, {"pixel_format": "DXT1"}, {"pixel_format": "DXT5"})),
    "GIF": ("L P RGB", ({}, {"interlace": False}, {"transparency": 1})),
    "ICO": ("RGBA P", ({}, {"bitmap_format": "bmp"})),
    "JPEG": ("L RGB CMYK", ({}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1})),
    "JPEG2000": ("L LA RGB RGBA I;16", ({}, {"irreversible": True}, {"no_jp2": True}, {"tile_size": (16, 16)})),
    "MPO": ("RGB", ({},)),
    "PCX": ("1 L P RGB", ({},)),
    "PNG": ("1 L LA P RGB RGBA I;16", ({}, {"transparency": 1})),
    "PPM": ("1 L RGB I;16 F", ({},)),
    "QOI": ("RGB RGBA", ({},)),
    "SGI": ("L RGB RGBA", ({}, {"bpc": 2})),
    "TGA": ("1 L LA P RGB RGBA", ({}, {"compression": "tga_rle"})),
    "TIFF": ("1 L LA P RGB RGBA CMYK LAB I;16 F", ({}, *_compressions("lzw adobe_deflate zstd"), {"big_tiff": True})),
    "WEBP": ("RGB RGBA", ({}, {"lossless": True})),
}
_OF_SOME_MODES = (("TIFF", "1", {"compression": "group4"}), ("TIFF", "1", {"compression": "packbits"}))
_OF_SOME_MODES += tuple(("TIFF", mode, {"compression": "jpeg"}) for mode in ("L", "RGB", "CMYK"))
_MOVING = ("AVIF", "GIF", "MPO", "PNG", "TIFF", "WEBP")
_WITH_PROFILE = ("AVIF", "JPEG", "PNG", "TIFF", "WEBP")
_EXTREMES = (0, 1, 0x7F, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def drawn_files() -> list[bytes]:
    """Return a small file of every format, mode, compression and kind of metadata."""
    return [data for make in _makers() if (data := _saved(make))]


def _makers() -> Iterator[Callable[[io.BytesIO], None]]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "drawn"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind, mode, options in _OF_SOME_MODES:
        yield lambda file, kind=kind, mode=mode, options=options: in_mode(mode).save(file, kind, **options)
    for kind, (modes, variants) in KINDS.items():
        for mode in modes.split():
            image = in_mode(mode)
            for options in variants:
                yield lambda file, image=image, kind=kind, options=options: image.save(file, kind, **options)
        frames = [image, image.transpose(Image.Transpose.ROTATE_180)]
        if kind in _MOVING:
            yield lambda file, f=frames, kind=kind: f[0].save(file, kind, save_all=True, append_images=f[1:])
        if kind in _WITH_PROFILE:
            about = {"exif": exif, "icc_profile": profile}
            yield lambda file, kind=kind, about=about: in_mode("RGB").save(file, kind, **about)


def _saved(make: Callable[[io.BytesIO], None]) -> bytes:
    file = io.BytesIO()
    try:
        make(file)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        struct.error,
    ):  # a mode that the format, or this option of it, has not
        return b""
    return file.getvalue()


def in_mode(mode: str) -> Image.Image:
    """Return a drawn image of 24x33 pixels in one of Pillow's modes."""
    row, column = np.mgrid[:24, :33]
    image = Image.fromarray(np.stack([column * 7, row * 9, row * column % 256], axis=-1).astype(np.uint8))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert lab is not None
        return lab
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode in ("LA", "RGBA"):
        image.putalpha(image.convert("L"))
    return image.convert(mode)


def damaged(files: list[bytes], dice: np.random.Generator) -> bytes:
    """Return one of some files after one or two kinds of damage, drawn by `dice`."""
    data = bytearray(files[dice.integers(len(files))])
    for _ in range(dice.integers(1, 3)):
        if data:
            _DAMAGES[dice.integers(len(_DAMAGES))](data, files, dice)
    return bytes(data)


def _place(data: bytearray, dice: np.random.Generator) -> int:
    """Return a position; every third one lies in the first 64 bytes, where headers are."""
    return int(dice.integers(min(len(data), 64) if dice.random() < 0.3 else len(data)))


def _cut(data: bytearray, _: list[bytes], dice: np.random.Generator) -> None:
    del data[_place(data, dice) :]


def _flip(data: bytearray, _: list[bytes], dice: np.random.Generator) -> None:
    data[_place(data, dice)] ^= 1 << int(dice.integers(8))


def _scatter(data: bytearray, _: list[bytes], dice: np.random.Generator) -> None:
    for _unused in range(dice.integers(2, 20)):
        data[_place(data, dice)] = int(dice.integers(256))


def _insert(data: bytearray, _: list[bytes], dice: np.random.Generator) -> None:
    place = _place(data, dice)
    data[place:place] = dice.bytes(int(dice.integers(1, 20)))


def _remove(data: bytearray, _: list[bytes], dice: np.random.Generator) -> None:
    place = _place(data, dice)
    del data[place : place + int(dice.integers(1, 20))]


def _splice(data: bytearray, files: list[bytes], dice: np.random.Generator) -> None:
    other = files[dice.integers(len(files))]
    start = int(dice.integers(len(other)))
    place = _place(data, dice)
    data[place : place + int(dice.integers(len(other)))] = other[start : start + int(dice.integers(1, 200))]


def _extreme(data: bytearray, _: list[bytes], dice: np.random.Generator) -> None:
    """Write a number that counts and sizes break at."""
    size = int(dice.choice([1, 2, 4]))
    value = _EXTREMES[dice.integers(len(_EXTREMES))] & (256**size - 1)
    place = _place(data, dice)
    data[place : place + size] = value.to_bytes(size, "big" if dice.random() < 0.5 else "little")


_DAMAGES = (_cut, _flip, _scatter, _insert, _remove, _splice, _extreme)
