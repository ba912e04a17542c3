"""Commands without -m, and with the name of a checkpoint that ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer.images import placement_of
from tokenizer.models import describe_checkpoint, fingerprint_of, shipped
from tokenizer.tokens import Header, ImageRecord, TokenSet, read_tokens, write_tokens

SAID = "checkpoint: photo-f8, which ships with vqtok; -m names another\n"


@pytest.fixture
def ships(run: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small checkpoints in place of those that ship; returns the folder that commands work in."""
    shutil.copytree(run, tmp_path / "checkpoints/photo-f8")
    shutil.copytree(other, tmp_path / "checkpoints/photo-f16")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "tokenizer")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save(Path("photo.png"), draw(24, 40))
    return Path()


def size_of(picture: str) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def test_no_checkpoint_has_to_be_named(vqtok: Vqtok, ships: Path, run: Path) -> None:
    result = vqtok("encode", "photo.png", "-o", "t.npy")
    assert (result.code, result.out) == (0, b"")
    assert result.err.startswith(SAID)
    assert read_tokens(Path("t.npy")).header.model == fingerprint_of(run)
    result = vqtok("decode", "t.npy", "-o", "back.png")
    assert result.code == 0
    assert result.err.startswith(SAID)
    assert size_of("back.png") == (40, 24)
    assert vqtok("encode", "photo.png", "-o", "q.npy", "-q").err == ""
    assert "which ships" not in vqtok("encode", "photo.png", "-m", "photo-f8", "-o", "named.npy").err


def test_tokens_find_the_shipped_checkpoint_that_made_them(vqtok: Vqtok, ships: Path, other: Path) -> None:
    assert vqtok("encode", "photo.png", "-m", "photo-f16", "-o", "t.safetensors").code == 0
    result = vqtok("decode", "t.safetensors", "-o", "found.png")
    assert result.code == 0
    assert result.err.startswith("checkpoint: photo-f16, which ships with vqtok")
    assert vqtok("decode", "t.safetensors", "-m", other, "-o", "named.png").code == 0
    assert Path("found.png").read_bytes() == Path("named.png").read_bytes()
    report = vqtok("report", "t.safetensors", "--images", "photo.png", "--json")
    assert report.code == 0
    assert report.json["psnr"] > 0
    assert "photo-f16" in report.err
    wrong = vqtok("decode", "t.safetensors", "-m", "photo-f8", "-o", "no.png")
    assert "pass the model that made it, or --allow-mismatch" in wrong.error


def test_tokens_of_another_checkpoint_need_it_named(vqtok: Vqtok, ships: Path) -> None:
    record = ImageRecord("a.png", (1, 1), placement_of((8, 8), "none", None, 8))
    header = Header("f" * 64, (32,), 8)
    write_tokens(Path("t.npy"), TokenSet(header, [record], [np.zeros((1, 1, 1), np.uint8)]))
    for command in (["decode", "t.npy", "-o", "x.png"], ["report", "t.npy", "--images", "photo.png"]):
        result = vqtok(*command)
        assert result.code == 2
        assert "t.npy was made by checkpoint ffffffffffff, which does not ship with vqtok: pass -m RUN" in result.error


def test_arrays_without_a_header_are_the_defaults(vqtok: Vqtok, ships: Path) -> None:
    np.save("samples.npy", np.zeros((2, 6), np.int64))
    result = vqtok("decode", "samples.npy", "-o", "back/", "--grid", "2x3")
    assert result.code == 0
    assert result.err.count(SAID) == 1
    assert [size_of(str(path)) for path in Path("back").iterdir()] == [(24, 16)] * 2


def test_report_encodes_with_the_default(vqtok: Vqtok, ships: Path) -> None:
    result = vqtok("report", "--images", "photo.png", "--json")
    assert result.code == 0
    assert result.json["quality"]["images"][0]["name"] == "photo.png"
    assert result.err.startswith(SAID)
    assert (
        vqtok("report", "--images", "photo.png", "-m", "photo-f8", "-m", "photo-f16", "--csv", "-").out.count(
            b"photo-f"
        )
        == 2
    )


def test_every_command_knows_the_names(vqtok: Vqtok, ships: Path, photos: Path, run: Path) -> None:
    assert vqtok("info", "photo-f8", "--json").json["fingerprint"] == fingerprint_of(run)
    listed = vqtok("list", "--json").json["checkpoints"]
    assert list(listed) == ["photo-f16", "photo-f8"]
    assert listed["photo-f8"].startswith("one position for 8x8 pixels, 32 codes, 0.0781 bits a pixel, ")
    quick = ["--device", "cpu", "-b", "4", "--image-size", "16", "-q"]
    assert vqtok("train", photos, "-o", "new", "--init-from", "photo-f8", "--steps", "1", *quick).code == 0
    assert describe_checkpoint(Path("new")).training["settings"]["init_from"] == "photo-f8"
    error = vqtok("encode", "photo.png", "-m", "photo-f9", "-o", "t.npy").error
    assert error.endswith(
        "there is no checkpoint photo-f9: train one with vqtok train, or name one that ships: photo-f16, photo-f8"
    )


def test_a_folder_of_that_name_comes_first(vqtok: Vqtok, ships: Path, other: Path) -> None:
    shutil.copytree(other, "photo-f8")
    assert vqtok("info", "photo-f8", "--json").json["fingerprint"] == fingerprint_of(other)
    # What nobody named is the one that ships, whatever lies here.
    assert vqtok("encode", "photo.png", "-o", "t.npy").code == 0
    assert read_tokens(Path("t.npy")).header.model == fingerprint_of(shipped.shipped_folder() / "photo-f8")


def test_the_shell_completes_names(shell: Vqtok) -> None:
    variables = {"_VQTOK_COMPLETE": "complete_bash", "COMP_WORDS": "vqtok encode -m photo-f1", "COMP_CWORD": "3"}
    assert shell("vqtok", **variables).out.split() == [b"photo-f16"]


def test_where_none_ships(vqtok: Vqtok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "tokenizer")
    np.save(tmp_path / "t.npy", np.zeros((2, 3), np.uint8))
    for command in (["encode", photos, "-o", tmp_path / "t"], ["decode", tmp_path / "t.npy", "-o", tmp_path / "x.png"]):
        result = vqtok(*command)
        assert result.code == 2
        assert "no checkpoint: pass -m RUN, the folder that vqtok train wrote" in result.error
    assert vqtok("list", "--json").json["checkpoints"] == {}


def test_the_demo(shell: Vqtok, run: Path, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"demo/photos/{number}.png", draw(270, 260, number))
    examples = Path(__file__).parents[2] / "examples"
    done = shell(f"sh {examples}/demo.sh", PHOTOS="demo/photos", MODEL=str(run))
    assert done.code == 0, done.err
    assert b"demo/report.html" in done.out
    assert (tmp_path / "demo/report.html").stat().st_size > 10_000
    with Image.open(tmp_path / "demo/pairs.png") as pairs:
        pixels = np.asarray(pairs)
    assert pixels.shape == (516, 776, 3)
    with Image.open(tmp_path / "demo/back/1.png") as back:
        assert (pixels[260:, 260:516] == np.asarray(back)[7:263, 2:258]).all()
    assert (pixels[:256, 520:] == draw(270, 260, 2)[7:263, 2:258]).all()
