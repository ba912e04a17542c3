"""Samples that Pillow alone reads wrong, and what says which way is up."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import draw
from tests.images.test_reading import EXIF_TURNS, chunk, png, saved
from tokenizer.errors import ImageError, UsageError
from tokenizer.images import parse_color, read_image, read_scaled

WHITE, KEY = (255, 255, 255), (10, 200, 30)


def written(samples: np.ndarray, **options: object) -> io.BytesIO:
    """A TIFF as another library writes it."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    buffer.seek(0)
    return buffer


def packed(samples: np.ndarray, bits: int, transparent: int) -> bytes:
    """A gray PNG of 2 or 4 bits a sample."""
    height, width = samples.shape
    rows = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    clear = chunk(b"tRNS", struct.pack(">H", transparent))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + clear + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("clear", [0, 1])
def test_the_transparent_sample_of_a_gray_png(bits: int, clear: int) -> None:
    samples = np.random.default_rng(bits).integers(0, 2**bits, (9, 13))
    shown = np.repeat(samples[..., None] * 255 // (2**bits - 1), 3, axis=2)
    shown[samples == clear] = KEY
    np.testing.assert_array_equal(read_image(io.BytesIO(packed(samples, bits, clear)), KEY), shown)


def test_the_transparent_color_of_a_16_bit_png() -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (9, 13, 3)).astype(np.uint16)
    samples[3, 4] = samples[0, 0]
    clear = chunk(b"tRNS", struct.pack(">HHH", *samples[0, 0]))
    shown = samples / 257
    shown[0, 0] = shown[3, 4] = KEY
    assert np.abs(read_image(io.BytesIO(png(samples, 2, clear)), KEY) - shown).max() <= 1


LAYOUTS = [
    {},
    {"byteorder": ">"},
    {"bigtiff": True},
    {"tile": (16, 16)},
    {"rowsperstrip": 7},
    {"compression": "zlib", "predictor": True},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_layouts(layout: dict[str, object], depth: int) -> None:
    """Against the library that wrote them."""
    rgb = draw(40, 56)
    alpha = np.arange(40 * 56).reshape(40, 56, 1) % 256
    shown = rgb * (alpha / 255) + np.array(KEY) * (1 - alpha / 255)
    scale = 1 if depth == 8 else 257
    for samples, wanted, options in [
        (rgb, rgb, {"photometric": "rgb"}),
        (rgb[..., 0], rgb[..., :1].repeat(3, 2), {"photometric": "minisblack"}),
        (rgb[..., 0], 255 - rgb[..., :1].repeat(3, 2), {"photometric": "miniswhite"}),
        (np.dstack([rgb, alpha]), shown, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ]:
        file = written(samples.astype(f"u{depth // 8}") * scale, **layout, **options)
        if (depth, options["photometric"], layout) == (16, "miniswhite", {"byteorder": ">"}):
            with pytest.raises(ImageError, match="samples of an unknown kind"):  # of which Pillow reads only the other
                read_image(file)
            continue
        assert np.abs(read_image(file, KEY) - wanted).max() <= 1


def test_tiff_planes() -> None:
    planes = np.moveaxis(draw(40, 56), -1, 0)
    options = {"photometric": "rgb", "planarconfig": "separate"}
    for depth, compression in ((np.uint8, None), (np.uint8, "zlib"), (np.uint16, "zlib")):
        samples = planes.astype(depth) * (257 if depth == np.uint16 else 1)
        np.testing.assert_array_equal(read_image(written(samples, compression=compression, **options)), draw(40, 56))
    with pytest.raises(ImageError, match="16-bit samples in planes, not compressed: save it compressed"):
        read_image(written(planes.astype(np.uint16) * 257, **options))


@pytest.mark.parametrize("depth", [np.int8, np.int16, np.int32])
def test_signed_samples_are_refused(depth: type) -> None:
    with pytest.raises(ImageError, match="signed samples have no fixed range: save it as 8 or 16 bits"):
        read_image(written(draw(8, 8)[..., 0].astype(depth)))


def test_32_bits_are_read_where_they_are_16() -> None:
    gray = draw(20, 30)[..., 0]
    np.testing.assert_array_equal(read_image(written(gray.astype(np.uint32) * 257))[..., 0], gray)
    with pytest.raises(ImageError, match=r"samples of 0 to 1000000 are not 16 bits: save it as 8 or 16 bits$"):
        read_image(written(np.array([[0, 10**6]], np.uint32)))


def test_jpeg_2000_of_16_bits() -> None:
    gray = np.array([[0, 257, 32896, 65535]] * 4, np.uint16)
    assert read_image(saved(Image.fromarray(gray), "JPEG2000"))[0, :, 0].tolist() == [0, 1, 128, 255]
    data = bytearray(saved(Image.fromarray(draw(16, 16)), "JPEG2000").getvalue())
    np.testing.assert_array_equal(read_image(io.BytesIO(data)), draw(16, 16))
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 15
    with pytest.raises(ImageError, match="a JPEG 2000 of more than 8 bits a sample"):
        read_image(io.BytesIO(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_says_which_way_is_up_where_exif_does_not(kind: str, orientation: int) -> None:
    pixels = np.full((16, 24, 3), 90, np.uint8)
    pixels[:8, :16] = 200
    text = f"<x:xmpmeta><rdf:Description tiff:Orientation='{orientation}'/>".replace("'", '"')
    silent, other = Image.Exif(), Image.Exif()
    silent[0x010E], other[0x0112] = "drawn", 3
    for exif, turn in ((silent, orientation), (other, 3)):
        options: dict[str, object] = {"xmp": text.encode(), "exif": exif}
        if kind == "TIFF":
            options = {"exif": exif, "tiffinfo": {700: text.encode(), 274: exif.get(0x0112, 1)}}
            turn = exif.get(0x0112, 1)  # noqa: PLW2901  # a TIFF's own tag is always there
        if kind == "PNG":
            options = {"exif": exif, "pnginfo": xmp_chunk(text)}
        if kind == "WEBP":
            options["lossless"] = True
        file = saved(Image.fromarray(pixels), kind, **options)
        wanted = EXIF_TURNS[turn](pixels).astype(int)
        found = read_image(file)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).mean() < 3
        assert read_scaled(file, WHITE, lambda opened: opened.scales[-1]).original == wanted.shape[:2]


def xmp_chunk(text: str) -> object:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text)
    return info


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_compressed_tiff_stands_upright(compression: str, orientation: int) -> None:
    pixels = np.full((16, 32, 3), 90, np.uint8)
    pixels[:8, :16] = 200
    file = saved(Image.fromarray(pixels), "TIFF", compression=compression, tiffinfo={274: orientation})
    assert np.abs(read_image(file) - EXIF_TURNS[orientation](pixels).astype(int)).max() <= 3


class TestParseColor:
    @pytest.mark.parametrize(
        ("text", "wanted"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48)), ("#10203040", (16, 32, 48))]
    )
    def test_names_and_numbers(self, text: str, wanted: tuple[int, int, int]) -> None:
        assert parse_color(text) == wanted

    @pytest.mark.parametrize("text", ["", "whiteish", "#12", "1,2,3"])
    def test_no_color(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not a color: pass a name"):
            parse_color(text)
