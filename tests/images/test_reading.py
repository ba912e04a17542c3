"""Image files: what is read from every mode, what is refused, what is written."""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from tests.conftest import draw, save
from tokenizer.errors import ImageError
from tokenizer.images import probe_image, read_image, resize
from tokenizer.images.opening import _quiet

EXIF_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, color_type: int, *before: bytes) -> bytes:
    """A PNG of (H, W) or (H, W, C) uint8 or uint16 samples, written by hand: Pillow writes no 16-bit RGB."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, color_type, 0, 0, 0)
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(data: bytes, width: int, height: int, bits: int, photometric: int = 1) -> bytes:
    """An uncompressed little-endian gray TIFF."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(data)))
    data += b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def saved(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def over(rgba: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    alpha = rgba[..., 3:].astype(float) / 255
    return rgba[..., :3] * alpha + np.array(color) * (1 - alpha)


class TestModes:
    """Each mode against its own arithmetic."""

    def test_rgb(self) -> None:
        np.testing.assert_array_equal(read_image(io.BytesIO(png(draw(7, 5), 2))), draw(7, 5))

    def test_gray(self) -> None:
        gray = draw(7, 5)[..., 0]
        np.testing.assert_array_equal(read_image(io.BytesIO(png(gray, 0))), np.stack([gray] * 3, axis=-1))

    def test_16_bit_gray_is_rescaled(self, tmp_path: Path) -> None:
        samples = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)
        wanted = np.round(samples / 65535 * 255).astype(np.uint8)
        (tmp_path / "a.tif").write_bytes(tiff(samples.tobytes(), 30, 20, 16))
        for file in (io.BytesIO(png(samples, 0)), tmp_path / "a.tif"):
            np.testing.assert_array_equal(read_image(file), np.stack([wanted] * 3, axis=-1))

    def test_16_bit_gray_big_endian_tiff(self) -> None:
        samples = np.array([[0, 257, 32768, 65535]], ">u2")
        data = tiff(samples.tobytes(), 4, 1, 16)
        count = 9
        tags = struct.unpack("<" + "HHII" * count, data[-4 - 12 * count : -4])
        entries = struct.pack(">" + "HHII" * count, *tags)
        big = b"MM\0*" + struct.pack(">I", 8 + 8) + samples.tobytes() + struct.pack(">H", count) + entries + b"\0" * 4
        assert read_image(io.BytesIO(big))[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_12_bit_tiff_is_rescaled_by_12_bits(self) -> None:
        samples = np.array([[0, 1000, 2048, 4095], [16, 17, 3000, 100]])
        pairs = samples.reshape(-1, 2)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=-1)
        pixels = read_image(io.BytesIO(tiff(packed.astype(np.uint8).tobytes(), 4, 2, 12)))
        np.testing.assert_array_equal(pixels[..., 1], np.round(samples / 4095 * 255))

    @pytest.mark.parametrize(("dtype", "quarter", "top"), [(np.uint8, 63, 255), (np.uint16, 63 * 257, 65535)])
    def test_tiff_where_white_is_zero(self, dtype: type, quarter: int, top: int) -> None:
        samples = np.array([[0, quarter, top]], dtype)
        pixels = read_image(io.BytesIO(tiff(samples.tobytes(), 3, 1, 8 * samples.itemsize, photometric=0)))
        assert pixels[0, :, 2].tolist() == [255, 192, 0]

    def test_16_bit_rgb_keeps_its_range(self) -> None:
        samples = np.arange(0, 65536, 97, dtype=np.uint16)[:648].reshape(12, 18, 3)
        pixels = read_image(io.BytesIO(png(samples, 2)))
        assert np.abs(pixels - samples / 65535 * 255).max() < 1
        assert read_image(io.BytesIO(png(np.full((1, 1, 3), 65535, np.uint16), 2))).tolist() == [[[255, 255, 255]]]

    def test_16_bit_gray_png_with_a_transparent_sample(self) -> None:
        samples = np.array([[1000, 40000, 65535]], np.uint16)
        data = png(samples, 0, chunk(b"tRNS", struct.pack(">H", 40000)))
        assert read_image(io.BytesIO(data), (10, 20, 30))[0].tolist() == [[4, 4, 4], [10, 20, 30], [255, 255, 255]]

    def test_pgm_with_its_own_maximum(self) -> None:
        data = b"P5 3 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes()
        assert read_image(io.BytesIO(data))[0, :, 0].tolist() == [0, 128, 255]

    def test_one_bit(self) -> None:
        bits = np.random.default_rng(0).random((9, 11)) > 0.5
        pixels = read_image(saved(Image.fromarray(bits), "PNG"))
        np.testing.assert_array_equal(pixels, np.stack([bits * 255] * 3, axis=-1))

    def test_palette(self) -> None:
        index = np.random.default_rng(0).integers(0, 5, (6, 7), np.uint8)
        colors = np.random.default_rng(1).integers(0, 256, (5, 3), np.uint8)
        image = Image.fromarray(index)
        image.putpalette(colors.tobytes())
        np.testing.assert_array_equal(read_image(saved(image, "PNG")), colors[index])
        clear = read_image(saved(image, "PNG", transparency=2), (1, 2, 3))
        np.testing.assert_array_equal(clear, np.where(index[..., None] == 2, [1, 2, 3], colors[index]))

    def test_palette_with_an_alpha_for_each_color(self) -> None:
        index = np.arange(4, dtype=np.uint8).reshape(2, 2)
        colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
        alphas = np.array([0, 128, 255, 64], np.uint8)
        image = Image.fromarray(index)
        image.putpalette(colors.tobytes())
        pixels = read_image(saved(image, "PNG", transparency=alphas.tobytes()), (40, 50, 60))
        wanted = over(np.concatenate([colors, alphas[:, None]], axis=1)[index], (40, 50, 60))
        assert np.abs(pixels - wanted).max() <= 1

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_rgba_over_a_color(self, kind: str) -> None:
        rgba = np.dstack([draw(8, 9), np.linspace(0, 255, 72).astype(np.uint8).reshape(8, 9)])
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        pixels = read_image(saved(Image.fromarray(rgba), kind, **options), (200, 100, 50))
        assert np.abs(pixels - over(rgba, (200, 100, 50))).max() <= 1

    def test_hidden_colors_do_not_shine_through(self) -> None:
        rgba = np.zeros((2, 2, 4), np.uint8)
        rgba[..., 0] = 255
        assert np.unique(read_image(saved(Image.fromarray(rgba), "PNG"))).tolist() == [255]

    def test_gray_with_alpha(self) -> None:
        la = np.array([[[0, 255], [0, 0], [100, 128]]], np.uint8)
        pixels = read_image(io.BytesIO(png(la, 4)), (255, 0, 255))
        assert pixels[0, 0].tolist() == [0, 0, 0]
        assert pixels[0, 1].tolist() == [255, 0, 255]
        assert np.abs(pixels[0, 2] - np.array([177.2, 50.2, 177.2])).max() <= 1

    def test_rgb_with_one_transparent_color(self) -> None:
        pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
        data = png(pixels, 2, chunk(b"tRNS", struct.pack(">HHH", 4, 5, 6)))
        assert read_image(io.BytesIO(data), (7, 8, 9))[0].tolist() == [[1, 2, 3], [7, 8, 9]]

    def test_cmyk_tiff(self) -> None:
        cmyk = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
        pixels = read_image(saved(as_cmyk(cmyk), "TIFF"))
        wanted = (255 - cmyk[..., :3].astype(float)) * (255 - cmyk[..., 3:].astype(float)) / 255
        assert np.abs(pixels - wanted).max() <= 1

    def test_cmyk_jpeg_is_not_a_negative(self) -> None:
        cmyk = np.zeros((16, 16, 4), np.uint8)
        cmyk[..., 1:3] = 255
        pixels = read_image(saved(as_cmyk(cmyk), "JPEG", quality=95))
        assert np.abs(pixels - np.array([255.0, 0, 0])).max() <= 3

    def test_lab_tiff(self) -> None:
        rgb = np.array(
            [[[255, 255, 255], [0, 0, 0], [200, 120, 110], [110, 170, 120], [100, 120, 190], [128, 128, 128]]]
        )
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.applyTransform(
            Image.fromarray(rgb.astype(np.uint8)), ImageCms.buildTransform(*profiles, "RGB", "LAB")
        )
        assert lab is not None
        assert lab.mode == "LAB"
        assert np.abs(read_image(saved(lab, "TIFF")) - rgb).max() <= 4  # L, a and b have 8 bits each

    @pytest.mark.skipif(
        int(PIL.__version__.split(".")[0]) < 13,
        reason="before 13, Pillow cannot read back the uncompressed YCbCr TIFF that it writes",
    )
    def test_ycbcr_tiff(self) -> None:
        image = Image.fromarray(draw(16, 16))
        pixels = read_image(saved(image.convert("YCbCr"), "TIFF"))
        assert np.abs(pixels.astype(int) - draw(16, 16)).max() <= 3

    def test_floating_point_is_refused_with_advice(self) -> None:
        with pytest.raises(ImageError, match=r"save it as 8 or 16 bits$"):
            read_image(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (3000, 1)])
    def test_extreme_sizes(self, height: int, width: int) -> None:
        np.testing.assert_array_equal(read_image(io.BytesIO(png(draw(height, width), 2))), draw(height, width))

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_first_frame_of_an_animation(self, kind: str) -> None:
        frames = [Image.fromarray(np.full((8, 10, 3), color, np.uint8)) for color in ((200, 0, 0), (0, 0, 200))]
        options = {"lossless": True} if kind == "WEBP" else {}
        pixels = read_image(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        np.testing.assert_array_equal(pixels, np.full((8, 10, 3), (200, 0, 0)))

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "PPM", "TIFF", "JPEG"])
    def test_from_an_open_file_and_under_a_wrong_suffix(self, tmp_path: Path, kind: str) -> None:
        options = {"lossless": True} if kind == "WEBP" else {}
        buffer = saved(Image.fromarray(draw(16, 24)), kind, **options)
        path = tmp_path / "wrong.gif"
        path.write_bytes(buffer.getvalue())
        np.testing.assert_array_equal(read_image(path), read_image(buffer))
        assert np.abs(read_image(path).astype(int) - draw(16, 24)).mean() <= (4 if kind == "JPEG" else 0)


def as_cmyk(samples: np.ndarray) -> Image.Image:
    return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(samples[..., c])) for c in range(4)])


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_pixels_stand_upright(self, kind: str, orientation: int) -> None:
        pixels = draw(6, 10)
        exif = Image.Exif()
        exif[274] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        upright = read_image(saved(Image.fromarray(pixels), kind, exif=exif, **options))
        np.testing.assert_array_equal(upright, EXIF_TURNS[orientation](pixels))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_jpeg(self, orientation: int) -> None:
        pixels = draw(16, 32)
        exif = Image.Exif()
        exif[274] = orientation
        stored = np.asarray(Image.open(saved(Image.fromarray(pixels), "JPEG", quality=95)))
        upright = read_image(saved(Image.fromarray(pixels), "JPEG", quality=95, exif=exif))
        np.testing.assert_array_equal(upright, EXIF_TURNS[orientation](stored))

    def test_16_bit_gray(self) -> None:
        samples = np.array([[0, 65535, 32768], [257, 514, 771]], np.uint16)
        exif = Image.Exif()
        exif[274] = 6
        image = Image.fromarray(samples)
        assert read_image(saved(image, "TIFF", exif=exif))[..., 0].tolist() == [[1, 0], [2, 255], [3, 128]]

    @pytest.mark.parametrize("block", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish", b"Exif\0\0"])
    def test_a_damaged_block_leaves_the_pixels(self, block: bytes) -> None:
        plain = saved(Image.fromarray(draw(16, 16)), "JPEG")
        damaged = saved(Image.fromarray(draw(16, 16)), "JPEG", exif=block)
        assert block in damaged.getvalue()
        np.testing.assert_array_equal(read_image(damaged), read_image(plain))


class TestFailures:
    def reason(self, file: Path | io.BytesIO) -> str:
        with pytest.raises(ImageError) as caught:
            read_image(file)
        reason = str(caught.value)
        assert reason
        assert len(reason.splitlines()) == 1
        return reason

    @pytest.mark.parametrize("data", [b"", b"hello\nworld\n", b"\0" * 100, b"GIF89a", b"RIFF\0\0\0\0WEBP", b"\xff\xd8"])
    def test_no_image(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "x.png").write_bytes(data)
        assert self.reason(tmp_path / "x.png") == "not an image, or of an unknown format"

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_truncated(self, kind: str, share: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        data = saved(Image.fromarray(noise), kind).getvalue()
        self.reason(io.BytesIO(data[: int(share * len(data))]))

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "x.png").mkdir()
        assert self.reason(tmp_path / "x.png") == "is a directory"

    def test_missing(self, tmp_path: Path) -> None:
        assert self.reason(tmp_path / "x.png") == "it does not exist, or is a link to nothing"

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "x.png").symlink_to(tmp_path / "x.png")
        self.reason(tmp_path / "x.png")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path: Path) -> None:
        save(tmp_path / "x.png", draw(4, 4)).chmod(0)
        assert self.reason(tmp_path / "x.png") == "permission denied"

    @pytest.mark.timeout(10)
    def test_a_pipe_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.png")
        assert self.reason(tmp_path / "x.png") == "it is a pipe or a device, not a file"

    @pytest.mark.timeout(10)
    def test_an_endless_device(self) -> None:
        assert self.reason(Path("/dev/zero")) == "it is a pipe or a device, not a file"

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        assert "3600000000 pixels" in self.reason(io.BytesIO(data))

    def test_a_bomb_of_text(self) -> None:
        text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 2**26))
        assert "too large" in self.reason(io.BytesIO(png(draw(4, 4), 2, text)))

    def test_reasons_have_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise ValueError("two\nlines")

        monkeypatch.setattr(Image, "open", fail)
        assert self.reason(io.BytesIO()) == "two lines"

    @pytest.mark.parametrize("error", [MemoryError(), RecursionError()])
    def test_no_memory(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(Image, "open", fail)
        assert self.reason(io.BytesIO()) == "it needs more memory than there is"


class Held(io.BytesIO):
    """A file whose reader waits for `go`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reached, self.go = threading.Event(), threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.reached.set()
        assert self.go.wait(5)
        return super().read(size)


class TestQuiet:
    def test_readers_that_overlap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first one out must not restore the filters while another one still reads."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        data = png(draw(12, 12), 2)
        with pytest.warns(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(data))
        before = list(warnings.filters)
        first, second = Held(data), Held(data)
        with ThreadPoolExecutor(2) as pool:
            results = []
            for file in (first, second):
                results.append(pool.submit(read_image, file))
                assert file.reached.wait(5)
            first.go.set()
            np.testing.assert_array_equal(results[0].result(5), draw(12, 12))
            second.go.set()
            np.testing.assert_array_equal(results[1].result(5), draw(12, 12))
        assert warnings.filters == before

    def test_the_last_reader_restores_them(self) -> None:
        before = list(warnings.filters)
        with _quiet:
            with _quiet:
                warnings.warn("unseen", stacklevel=1)
            warnings.warn("unseen too", stacklevel=1)
        assert warnings.filters == before
        assert logging.getLogger("PIL").handlers == []

    def test_what_pillow_logs_stays_off_stderr(
        self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # without pytest's own
        entries = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 10**6), (278, 1), (279, 1)]
        body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        data = b"II*\0" + struct.pack("<I", 9) + b"\0" + struct.pack("<H", len(entries)) + body + b"\0" * 4
        with pytest.raises(ImageError):
            read_image(io.BytesIO(data))
        assert capfd.readouterr() == ("", "")


class TestShrink:
    @pytest.mark.parametrize(("height", "width", "wanted"), [(400, 600, (100, 150)), (600, 400, (150, 100))])
    def test_the_shorter_side(self, tmp_path: Path, height: int, width: int, wanted: tuple[int, int]) -> None:
        pixels = draw(height, width)
        shrunk = read_image(save(tmp_path / "a.png", pixels), shrink_to=100)
        assert shrunk.shape[:2] == wanted
        best = np.asarray(Image.fromarray(pixels).resize(wanted[::-1], Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(shrunk - best).mean() < 1

    def test_a_jpeg_shrinks_alike(self, tmp_path: Path) -> None:
        Image.fromarray(draw(800, 1200)).save(tmp_path / "a.jpg", quality=95)
        shrunk = read_image(tmp_path / "a.jpg", shrink_to=100)
        assert shrunk.shape == (100, 150, 3)
        full = resize(read_image(tmp_path / "a.jpg"), 100, 150)
        assert np.abs(shrunk.astype(int) - full).mean() < 2

    def test_a_rotated_jpeg_keeps_its_shape(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(draw(800, 1200)).save(tmp_path / "a.jpg", exif=exif)
        assert read_image(tmp_path / "a.jpg", shrink_to=100).shape == (150, 100, 3)

    @pytest.mark.parametrize("size", [(50, 70), (100, 300), (1, 4000)])
    def test_small_images_stay(self, size: tuple[int, int]) -> None:
        pixels = draw(*size)
        np.testing.assert_array_equal(read_image(io.BytesIO(png(pixels, 2)), shrink_to=100), pixels)


class TestProbe:
    def test_size_without_reading_pixels(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", draw(30, 50))
        path.write_bytes(path.read_bytes()[:60])  # the header is whole, the pixels are gone
        assert probe_image(path) == (30, 50)

    def test_what_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"text")
        with pytest.raises(ImageError, match="not an image"):
            probe_image(tmp_path / "a.png")
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageError, match="a pipe or a device"):
            probe_image(tmp_path / "pipe.png")
