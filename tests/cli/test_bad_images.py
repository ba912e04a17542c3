"""Every fault of an image file at once, in every command that reads images: one line each, and the rest goes on."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from robustness.damaged_images import in_mode
from tests.cli.conftest import QUICK, Vqtok
from tests.conftest import draw
from tests.images.test_opening import bombs
from tests.images.test_reading import png, saved
from tokenizer.tokens import read_tokens

GOOD = {
    "16.png": lambda: png(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16, 0),
    "animation.gif": lambda: moving("GIF"),
    "cmyk.jpg": lambda: saved(in_mode("CMYK"), "JPEG").getvalue(),
    "pages.tif": lambda: moving("TIFF"),
    "phone.jpg": lambda: moving("MPO"),
    "tall.png": lambda: png(draw(700, 1), 2),
    "wide.png": lambda: png(draw(1, 700), 2),
    "jpeg.png": lambda: saved(Image.fromarray(draw(40, 50)), "JPEG").getvalue(),
}


def moving(kind: str) -> bytes:
    frames = [Image.fromarray(draw(40, 48, seed)) for seed in (0, 1, 2)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:]).getvalue()


def bad() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    cut = {
        f"cut.{kind}": saved(noise, kind).getvalue()[:-900] for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM")
    }
    drawing = saved(in_mode("RGB"), "EPS").getvalue()
    return {**bombs(), **cut, "empty": b"", "text": b"hello\n", "drawing": drawing, "zeros": bytes(5000)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Eight images that can be read, and many that cannot, under names of images."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, make in GOOD.items():
        (folder / name).write_bytes(make())
    for name, data in bad().items():
        (folder / f"bad {name}.png").write_bytes(data)
    os.mkfifo(folder / "bad pipe.png")
    (folder / "bad link.png").symlink_to("nowhere")
    (folder / "bad loop.png").symlink_to("bad loop.png")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("bad socket.png")
        yield folder


def bad_lines(error: str, command: str, what: str = "") -> list[str]:
    """The names that warnings begin with; each is one line."""
    start = f"vqtok {command}: warning: {what}bad "
    assert "Traceback" not in error
    return sorted(line.removeprefix(start).partition(".png: ")[0] for line in error.splitlines() if start in line)


def names(folder: Path) -> list[str]:
    return sorted(path.name[4:-4] for path in folder.glob("bad *"))


def test_encode(vqtok: Vqtok, folder: Path, run: Path, tmp_path: Path) -> None:
    result = vqtok("encode", folder, "-m", run, "-o", tmp_path / "t.safetensors", "--json", "-j", 4)
    assert result.code == 3
    assert bad_lines(result.err, "encode") == names(folder)
    assert result.json["first_frames"] == 2
    assert "warning: files with several frames or pages: 2; the first of each was encoded\n" in result.err
    assert len(result.err.splitlines()) == len(names(folder)) + 2
    tokens = read_tokens(tmp_path / "t.safetensors")
    assert [record.name for record in tokens.images] == sorted(GOOD)
    assert [failure.name for failure in tokens.failed] == sorted(f"bad {name}.png" for name in names(folder))
    for mode in ("crop", "pad", "squash"):
        sized = vqtok("encode", folder, "-m", run, "-o", "-", "--image-size", 32, "--resize-mode", mode)
        assert (sized.code, len(read_tokens(sized.out).images)) == (3, len(GOOD))


def test_report(vqtok: Vqtok, folder: Path, run: Path) -> None:
    result = vqtok("report", "--images", folder, "-m", run, "--json")
    assert result.code == 3
    assert bad_lines(result.err, "report", "not encoded: ") == names(folder)
    assert (result.json["images"], result.json["failed"]) == (len(GOOD), len(names(folder)))


@pytest.mark.parametrize("workers", [0, 3])
def test_train(vqtok: Vqtok, folder: Path, photos: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "c.toml").write_text(QUICK.replace("workers = 0", f"workers = {workers}"))
    tiny = ["--steps", 8, "--downsample", 8, "--codebook-size", 16, "--set", "network.widths=8,8"]
    tiny += ["--set", "network.depths=0,0", "--val-data", photos / "a", "--quantizer", "ste"]
    result = vqtok("train", folder, "-c", tmp_path / "c.toml", "-o", tmp_path / "run", *tiny)
    assert result.code == 3
    told = bad_lines(result.err, "train")
    assert len(told) > 10
    assert set(told) <= set(names(folder))
    assert len(told) == len(set(told))


@pytest.mark.slow
def test_out_of_archives_urls_and_stdin(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in {"good": png(draw(16, 16), 2), **bad()}.items():
            member = tarfile.TarInfo(f"{name.replace('.', '-')}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            fsspec.filesystem("memory").pipe_file(f"/faults/{name}.png", data)
    for place in (tmp_path / "a.tar", "memory://faults"):
        result = vqtok("encode", place, "-m", run, "-o", "-")
        assert result.code == 3
        tokens = read_tokens(result.out)
        assert (len(tokens.images), len(tokens.failed)) == (1, len(bad()))
    for name in ("zTXt", "tiff", "cut.TIFF"):
        piped = vqtok("encode", "-", "-m", run, "-o", "-", stdin=bad()[name])
        assert piped.code == 1
        assert piped.err.splitlines()[-1].startswith(
            "vqtok encode: error: 0 of 1 images encoded, the first failed with"
        )


@pytest.mark.slow
def test_compare(vqtok: Vqtok, folder: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(QUICK.replace("workers = 0", "workers = 3"))
    tiny = ["--steps", 4, "--downsample", 8, "--codebook-size", 16, "--set", "network.widths=8,8"]
    tiny += ["--set", "network.depths=0,0", "--val-data", photos / "a", "--quantizers", "ste, ema"]
    result = vqtok("compare", folder, "-c", tmp_path / "c.toml", "-o", tmp_path / "out", "--json", *tiny)
    assert (result.code, len(result.json["ranking"])) == (3, 2)
    told = bad_lines(result.err, "compare")
    assert 10 < len(told) == len(set(told))
    assert set(told) <= set(names(folder))
