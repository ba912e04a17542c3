"""Image files that are not what they seem: each is read right, or refused in one line, without waiting or noise."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import draw, save
from tests.damaging import damaged, drawn_files, in_mode
from tests.images.test_reading import chunk, png, saved, tiff
from tokenizer.errors import ImageError
from tokenizer.images import Pixels, opening, probe_image, read_image

FILES = drawn_files()
SPECIAL = "it is a pipe or a device, not a file"


def looked_at(file: Path | io.BytesIO) -> Pixels | str:
    """The pixels, or the reason of one line why there are none."""
    try:
        pixels = read_image(file)
    except ImageError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return str(error)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    assert pixels.size
    return pixels


def reason(file: Path | io.BytesIO) -> str:
    found = looked_at(file)
    assert isinstance(found, str)
    return found


class TestPaths:
    @pytest.mark.timeout(10)
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "broken.png").symlink_to("nowhere")
        (tmp_path / "a.png").symlink_to("b.png")
        (tmp_path / "b.png").symlink_to("a.png")
        with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
            listener.bind("socket.png")
            reasons = {path.name: reason(path) for path in (*tmp_path.iterdir(), Path("/dev/zero"), Path("/dev/tty"))}
        assert {reasons.pop(name) for name in ("pipe.png", "socket.png", "zero", "tty")} == {SPECIAL}
        assert reasons.pop("folder.png") == "is a directory"
        assert reasons.pop("broken.png") == "it does not exist, or is a link to nothing"
        assert set(reasons.values()) == {"too many levels of symbolic links"}
        assert reason(tmp_path / ("x" * 300 + ".png")) == "file name too long"
        said = {"embedded null byte", "stat: embedded null character in path"}  # before Python 3.13, and since
        assert reason(Path("a\0.png")) in said

    @pytest.mark.timeout(10)
    def test_what_becomes_a_pipe_between_the_look_and_the_opening(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, status = tmp_path / "x.png", save(tmp_path / "file.png", draw(4, 4)).stat()
        os.mkfifo(path)
        monkeypatch.setattr(Path, "stat", lambda *_, **__: status)
        assert reason(path) == SPECIAL

    @pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
    def test_what_the_system_refuses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
        path = save(tmp_path / "x.png", draw(4, 4))

        def refuse(*_: object) -> int:
            raise error

        monkeypatch.setattr(opening, "_without_waiting", refuse)
        assert reason(path) == error.strerror.lower()

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc")
    def test_no_file_stays_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x"
        gc.collect()  # what other tests left must not be closed meanwhile
        before = list(Path("/proc/self/fd").iterdir())
        for limit in (0, 2**20):
            monkeypatch.setattr(opening, "_READ_WHOLE", limit)
            for data in (FILES[0], b"", FILES[-1][:40], *FILES[10:20]):
                path.write_bytes(data)
                looked_at(path)
                with contextlib.suppress(ImageError):
                    probe_image(path)
        assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def shrink(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\xff" * 10_000)


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"text")
    path.with_name("new").replace(path)


class TestChanges:
    """A file that another process changes once it is open; one that is mapped then would end this process."""

    @pytest.fixture
    def changed(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Callable[[Path], None]], Pixels | str]:
        really = Image.open

        def look(path: Path, change: Callable[[Path], None]) -> Pixels | str:
            def opened(stream: object) -> Image.Image:
                image = really(stream)
                change(path)
                return image

            monkeypatch.setattr(Image, "open", opened)
            try:
                return looked_at(path)
            finally:
                monkeypatch.setattr(Image, "open", really)

        return look

    @pytest.mark.parametrize("change", [shrink, grow, replace, Path.unlink])
    @pytest.mark.parametrize(
        ("kind", "options"),
        [("BMP", {}), ("PPM", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PNG", {}), ("JPEG", {})],
    )
    def test_leaves_the_image_as_it_was(
        self, changed: Callable[..., Pixels], tmp_path: Path, kind: str, options: dict[str, str], change: Callable
    ) -> None:
        path = tmp_path / "x.img"
        for image in (Image.fromarray(draw(300, 400)), Image.fromarray(draw(300, 400)).convert("L")):
            image.save(path, kind, **options)
            whole = read_image(path)
            np.testing.assert_array_equal(changed(path, change), whole)

    @pytest.mark.parametrize("kind", ["BMP", "PNG", "JPEG"])
    def test_a_large_file_is_refused(
        self, changed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.setattr(opening, "_READ_WHOLE", 100)
        path = tmp_path / "x.img"
        noise = np.random.default_rng(0).integers(0, 256, (600, 800), np.uint8)
        Image.fromarray(noise).save(path, kind)
        assert read_image(path).shape == (600, 800, 3)
        assert "truncated" in changed(path, shrink)


class TestKinds:
    def test_a_drawing_starts_no_other_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subprocess, "Popen", None)
        for kind in ("EPS", "eps in a png's clothes"):
            assert reason(saved(in_mode("RGB"), kind[:3].upper())) == "a drawing (EPS), not pixels: convert it to PNG"

    def test_a_tiff_of_unknown_samples(self) -> None:
        data = bytearray(tiff(b"\0" * 32, 2, 2, 64))
        assert reason(io.BytesIO(data)) == "a TIFF that is damaged, or has samples of an unknown kind"

    @pytest.mark.parametrize("rows", [2, 10**7])
    def test_a_tiff_whose_strips_do_not_cover_it(self, rows: int) -> None:
        data = tiff(bytes(range(12)), 3, 4, 8)
        assert read_image(io.BytesIO(data)).shape == (4, 3, 3)
        place = data.index(struct.pack("<HHI", 278, 4, 1))
        short = data[: place + 8] + struct.pack("<I", 2) + data[place + 12 :]
        assert reason(io.BytesIO(short)) == "it is damaged: its strips or tiles do not cover it"

    def test_a_jpeg_of_many_scans(self) -> None:
        data = saved(Image.new("L", (64, 64), 99), "JPEG", progressive=True).getvalue()
        last = data[data.rindex(b"\xff\xda") : -2]
        assert looked_at(io.BytesIO(data[:-2] + last * 100 + data[-2:])).shape == (64, 64, 3)
        slow = data[:-2] + last * 1000 + data[-2:]
        assert re.fullmatch(r"it has 100\d scans, which would take very long: save it again", reason(io.BytesIO(slow)))

    def test_what_follows_a_jpeg_is_no_scan(self) -> None:
        data = saved(Image.new("L", (64, 64), 99), "JPEG", progressive=True).getvalue()
        assert looked_at(io.BytesIO(data + b"\xff\xda" * 1000)).shape == (64, 64, 3)


class TestDamage:
    def test_every_tenth_of_every_file(self) -> None:
        """What is behind the first frame may be missing; of a PCX, the palette at the end."""
        for data in FILES:
            whole = looked_at(io.BytesIO(data))
            palette_last = Image.open(io.BytesIO(data)).format == "PCX"
            for tenth in range(10):
                found = looked_at(io.BytesIO(data[: len(data) * tenth // 10]))
                if not (isinstance(found, str) or palette_last):
                    np.testing.assert_array_equal(found, whole)

    def test_seeded(self, capfd: pytest.CaptureFixture[str]) -> None:
        dice = np.random.default_rng(0)
        found = [looked_at(io.BytesIO(damaged(FILES, dice))) for _ in range(2000)]
        assert 200 < sum(isinstance(pixels, str) for pixels in found) < 1900
        assert capfd.readouterr() == ("", "")

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(FILES),
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
        st.just(0) | st.integers(0, 300),
    )
    def test_changed_bytes(self, stored: bytes, changes: list[tuple[int, int]], cut: int) -> None:
        data = bytearray(stored)
        for position, value in changes:
            data[position % len(data)] = value
        looked_at(io.BytesIO(data[: len(data) - cut]))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=80), st.sampled_from([data[:size] for data in FILES for size in (4, 12, 30)]))
    def test_rubbish_behind_a_start(self, data: bytes, start: bytes) -> None:
        looked_at(io.BytesIO(start + data))


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def hollow(width: int, height: int) -> bytes:
    """A PNG without pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that say they are enormous, or hold what unpacks to gigabytes."""
    avif = saved(in_mode("RGB"), "AVIF").getvalue()
    size = avif.index(b"ispe") + 8
    webp = riff((b"VP8X", b"\0\0\0\0" + b"\xff\xff\0" * 2), (b"VP8 ", b"\0" * 20))
    jpeg = bytearray(saved(in_mode("L"), "JPEG").getvalue())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff" * 4
    zeros = zlib.compress(bytes(2**26), 9)
    profile = chunk(b"iCCP", b"x\0\0" + zeros)
    return {
        "png": hollow(60000, 60000),
        "hollow": hollow(13000, 13000),
        "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        "bmp": b"BM" + struct.pack("<IHHIIiiHHI", 54, 0, 0, 54, 40, 10**9, 10**9, 1, 24, 0) + b"\0" * 20,
        "ppm": b"P6 1000000000 1000000000 255\n",
        "tiff": tiff(b"\0\0", 2**30, 2**30, 8),
        "strips": tiff(b"\0\0", 1, 10**9, 1),
        "jpeg": bytes(jpeg),
        "webp": webp,
        "avif": avif[:size] + struct.pack(">II", 60000, 60000) + avif[size + 8 :],
        "qoi": b"qoif" + struct.pack(">IIBB", 10**9, 10**9, 3, 0),
        "psd": b"8BPS" + struct.pack(">HxxxxxxHIIHH", 1, 3, 10**6, 10**6, 8, 3) + b"\0" * 14,
        "zTXt": png(draw(4, 4), 2, *[chunk(b"zTXt", b"x\0\0" + zeros)] * 3),
        "iTXt": png(draw(4, 4), 2, chunk(b"iTXt", b"x\0\1\0\0\0" + zeros)),
        "iCCP": png(draw(4, 4), 2, profile),
        "length": png(draw(4, 4), 2)[:8] + b"\xff" * 4 + b"IHDR" + b"\0" * 40,
    }


PEAK = """
import resource, sys
from pathlib import Path
from tokenizer.errors import ImageError
from tokenizer.images import read_image
def look(path):
    try:
        return read_image(path).shape
    except ImageError:
        return "refused"
paths = sorted(Path(sys.argv[1]).iterdir())
look(paths.pop(0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print({path.name: look(path) for path in paths if look(path) != "refused"})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count ru_maxrss in other units")
def test_bombs_take_no_memory(tmp_path: Path) -> None:
    for name, data in {"0": FILES[0], **bombs()}.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    read_after_all, megabytes = done.stdout.splitlines()
    assert read_after_all == "{}"
    assert int(megabytes) < 200


@pytest.mark.parametrize("side", [(0, 1), (1, 0), (0, 0)])
def test_no_pixels(side: tuple[int, int]) -> None:
    height, width = side
    empty = [
        hollow(width, height),
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b",\0\0\0\0" + struct.pack("<HHBB", *side, 0, 2),
        b"BM" + struct.pack("<IHHIIiiHHI", 54, 0, 0, 54, 40, width, height, 1, 24, 0) + b"\0" * 40,
        b"P6 %d %d 255\n" % (width, height),
        tiff(b"\0\0", width, height, 8),
        b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + b"\0" * 20,
    ]
    assert all(isinstance(looked_at(io.BytesIO(data)), str) for data in empty)


class TestNoise:
    @pytest.fixture
    def broken(self) -> bytes:
        """A TIFF that libtiff writes of to stderr, where Pillow alone opens it."""
        data = bytearray(saved(Image.fromarray(draw(64, 64)), "TIFF", compression="tiff_lzw").getvalue())
        data[len(data) // 4 : len(data) // 2] = b"\xff" * (len(data) // 2 - len(data) // 4)
        return bytes(data)

    def test_libtiff_is_quiet_while_files_are_read(self, broken: bytes, capfd: pytest.CaptureFixture[str]) -> None:
        def alone() -> str:
            with contextlib.suppress(OSError):
                Image.open(io.BytesIO(broken)).load()
            return capfd.readouterr().err

        noise = alone()
        assert noise or not opening._libtiff_setters()
        assert "decoder error" in reason(io.BytesIO(broken))
        assert capfd.readouterr().err == ""
        assert alone() == noise

    def test_other_threads_are_heard(self, broken: bytes, capfd: pytest.CaptureFixture[str]) -> None:
        stop = threading.Event()

        def reads() -> None:
            while not stop.is_set():
                looked_at(io.BytesIO(broken))

        readers = [threading.Thread(target=reads) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(200):
            os.write(2, b"%d\n" % number)
        stop.set()
        for reader in readers:
            reader.join()
        assert capfd.readouterr().err.split() == [str(number) for number in range(200)]

    def test_without_the_symbols_files_are_read_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for path in ("/nowhere", None):
            monkeypatch.setattr(opening, "pillow_library", lambda path=path: path)
            assert opening._libtiff_setters.__wrapped__() == []
