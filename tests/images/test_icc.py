"""Colors of files with profiles, against arithmetic that knows nothing of the library that applies them."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.conftest import draw
from tokenizer.images import read_image
from tokenizer.images.icc import _transform

# (X, Y, Z) of red, green and blue, adapted to D50, and the exponent.
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.2
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 2.2
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)), 1.8
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)), 2.2
INKS = {(0, 0, 0, 0): (255, 128, 128), (1, 0, 0, 0): (140, 91, 78), (0, 1, 0, 0): (122, 202, 125)}


def icc(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of version 2."""
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        value = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    white = struct.pack(">iii", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    head = struct.pack(">I4xI4s4s4s12x4s", at + len(body), 0x02100000, kind, space, pcs, b"acsp")
    return head.ljust(68, b"\0") + white.ljust(60, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(v * 65536) for v in values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def display(primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    for name, values in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {name + b"XYZ": xyz(values), name + b"TRC": curve(gamma)}
    return icc(b"mntr", b"RGB ", b"XYZ ", tags)


def gray(gamma: float) -> bytes:
    return icc(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"kTRC": curve(gamma)})


def inks() -> bytes:
    """A CMYK profile whose corners have the (L, a, b) of `INKS`, or else are black."""
    ramp = bytes(range(256))
    corners = b"".join(bytes(INKS.get(corner, (0, 128, 128))) for corner in np.ndindex(2, 2, 2, 2))
    matrix = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + corners + ramp * 3
    return icc(b"prtr", b"CMYK", b"Lab ", {b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"A2B0": table})


def encoded(light: np.ndarray) -> np.ndarray:
    """Light 0 to 1 as sRGB, 0 to 255."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def wanted(pixels: np.ndarray, primaries: tuple[tuple[float, ...], ...], gamma: float) -> np.ndarray:
    light = (pixels / 255) ** gamma @ np.array(primaries)
    return encoded(light @ np.linalg.inv(np.array(SRGB[0])))


def stored(image: Image.Image, kind: str, profile: bytes, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, icc_profile=profile, **options)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("space", [P3, ADOBE, PROPHOTO], ids=["P3", "Adobe RGB", "ProPhoto"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_wider_colors_become_srgb(kind: str, space: tuple) -> None:
    pixels = draw(40, 60)
    options = {"lossless": True} if kind == "WEBP" else {}
    made = read_image(stored(Image.fromarray(pixels), kind, display(*space), **options))
    assert np.abs(made - wanted(pixels, *space)).max() <= 3
    assert np.abs(made - pixels.astype(float)).max() > 20


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("AVIF", "RGB")])
def test_compressed_files(kind: str, mode: str) -> None:
    image = Image.fromarray(draw(48, 64)).convert(mode)
    plain = read_image(stored(image, kind, b"", quality=95))
    assert np.abs(read_image(stored(image, kind, display(*P3), quality=95)) - wanted(plain, *P3)).max() <= 3


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA"])
def test_palettes_and_transparency(mode: str) -> None:
    image = Image.fromarray(draw(20, 30))
    if mode != "P":
        image.putalpha(Image.fromarray(np.full((20, 30), 102, np.uint8)))
    image = image.convert(mode)
    shown = np.asarray(image.convert("RGB"))
    share = 1 if mode == "P" else 102 / 255
    over = share * wanted(shown, *P3) + (1 - share) * np.array([10, 20, 30])
    assert np.abs(read_image(stored(image, "PNG", display(*P3)), (10, 20, 30)) - over).max() <= 3


@pytest.mark.parametrize("depth", [8, 16])
def test_gray_profiles(depth: int) -> None:
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(samples if depth == 8 else samples.astype(np.uint16) * 257)
    made = read_image(stored(image, "TIFF", gray(1.8)))
    assert np.abs(made - encoded((samples / 255) ** 1.8)[..., None]).max() <= 2


def test_inks() -> None:
    cmyk = np.array([[[*corner]] * 8 for corner in INKS], np.uint8) * 255
    image = Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(cmyk[..., c])) for c in range(4)])
    made = read_image(stored(image, "TIFF", inks()))[:, 0]
    for pixel, (l, a, b) in zip(made, INKS.values(), strict=True):
        roots = (l / 2.55 + 16) / 116 + np.array([(a - 128) / 500, 0, -(b - 128) / 200])
        adapted = np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 108 / 841) * (0.9642, 1.0, 0.8249)
        assert np.abs(pixel - encoded(adapted @ np.linalg.inv(np.array(SRGB[0])))).max() <= 3


def test_srgb_itself_leaves_every_pixel() -> None:
    pixels = draw(40, 60)
    ours = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(read_image(stored(Image.fromarray(pixels), "PNG", ours)), pixels)


@pytest.mark.parametrize("space", ["GRAY", "CMYK"])
def test_a_profile_of_other_samples_is_left_alone(space: str) -> None:
    pixels = draw(20, 20)
    profile = gray(1.8) if space == "GRAY" else inks()
    np.testing.assert_array_equal(read_image(stored(Image.fromarray(pixels), "PNG", profile)), pixels)


def test_a_damaged_profile_does_not_lose_the_image() -> None:
    pixels, whole, dice = draw(9, 9), display(*P3), np.random.default_rng(0)
    for number in range(300):
        damaged = bytearray(whole)
        for place in dice.integers(len(whole), size=number % 7 + 1):
            damaged[place] = dice.integers(256)
        cut = len(whole) if number % 2 else int(dice.integers(1, len(whole)))
        assert read_image(stored(Image.fromarray(pixels), "PNG", bytes(damaged[:cut]))).shape == (9, 9, 3)
    for profile in (b"\0", b"rubbish" * 50, whole[:200]):
        np.testing.assert_array_equal(read_image(stored(Image.fromarray(pixels), "PNG", profile)), pixels)


def test_several_threads_share_a_transform() -> None:
    _transform.cache_clear()
    file = stored(Image.fromarray(draw(300, 400)), "PNG", display(*ADOBE)).getvalue()
    alone = read_image(io.BytesIO(file))
    with ThreadPoolExecutor(8) as pool:
        for made in pool.map(lambda _: read_image(io.BytesIO(file)), range(32)):
            np.testing.assert_array_equal(made, alone)
    assert _transform.cache_info().misses == 1
