"""`vqtok decode`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer import checkpoint, codec
from tokenizer.images import find
from tokenizer.token_files import read, write


@pytest.fixture
def tokens(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> Path:
    """Tokens of all photos, in one file."""
    output = tmp_path / "t.safetensors"
    assert vqtok("encode", photos, "-m", run, "-o", output).code == 0
    return output


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each image in a folder, by its name without suffix."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).with_suffix("").as_posix(): pixels(path).shape for path in files}


def test_names_and_sizes_come_back(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    result = vqtok("decode", tokens, "-m", run, "-o", tmp_path / "back")
    assert result.code == 0
    assert result.error.startswith(f"24 images decoded to {tmp_path}/back in ")
    assert tree(tmp_path / "back") == tree(photos)


def test_tree_of_tokens(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    vqtok("encode", photos, "-m", run, "-o", tmp_path / "tree")
    assert vqtok("decode", tmp_path / "tree", "-m", run, "-o", tmp_path / "one").code == 0
    assert vqtok("decode", tokens, "-m", run, "-o", tmp_path / "two").code == 0
    for path in (tmp_path / "two").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "one" / path.relative_to(tmp_path / "two")).read_bytes()
    assert tree(tmp_path / "one") == tree(photos)


def test_same_pixels_as_in_memory(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    model = checkpoint.load(run)
    options = codec.EncodeOptions()
    encoded = codec.collect(codec.encode(model, find([photos]), options), codec.header(model, "", options))
    vqtok("decode", tokens, "-m", run, "-o", tmp_path / "back", "-b", 3)
    for record, canvas in codec.decode(model, encoded):
        assert record.placement is not None
        wanted = record.placement.restore(canvas)
        assert np.array_equal(pixels(tmp_path / "back" / record.name), wanted)


@pytest.mark.parametrize(("mode", "size"), [("crop", (48, 48)), ("pad", (48, 72)), ("squash", (48, 72))])
def test_sizes_after_resizing(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    output = tmp_path / "t.npy"
    vqtok("encode", photos / "b/01.png", "-m", run, "-o", output, "--image-size", 48, "--resize-mode", mode)
    assert vqtok("decode", output, "-m", run, "-o", tmp_path / "back.png").code == 0
    assert pixels(tmp_path / "back.png").shape == (*size, 3)


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_image_formats(vqtok: Vqtok, run: Path, tmp_path: Path, tokens: Path, suffix: str, kind: str) -> None:
    out = vqtok("decode", tokens, "-m", run, "-o", "-", "--index", 0, "--image-format", suffix)
    assert (out.code, Image.open(io.BytesIO(out.out)).format) == (0, kind)
    assert vqtok("decode", tokens, "-m", run, "-o", tmp_path / f"x.{suffix}", "--index", 0).code == 0
    assert (tmp_path / f"x.{suffix}").read_bytes() == out.out
    folder = tmp_path / "back"
    assert vqtok("decode", tokens, "-m", run, "-o", folder, "--index", ":2", "--image-format", suffix).code == 0
    assert sorted(path.name for path in folder.rglob("*.*")) == [f"00.{suffix}", f"03.{suffix}"]


@pytest.mark.parametrize(
    ("index", "rows"), [("3", [3]), ("2:5", [2, 3, 4]), ("22:", [22, 23]), (":1", [0]), ("-2:", [22, 23])]
)
def test_index(vqtok: Vqtok, run: Path, tmp_path: Path, tokens: Path, index: str, rows: list[int]) -> None:
    result = vqtok("decode", tokens, "-m", run, "-o", tmp_path / "back", f"--index={index}", "--json", "-q")
    assert (result.code, result.err) == (0, "")
    assert result.json["images"] == len(rows)
    named = [read(tokens).header.images[row].name for row in rows]
    assert (
        sorted(path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*.png")) == named
    )


def test_bare_arrays(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for shape in [(3, 5), (2, 3, 5), (2, 3, 5, 1)]:
        np.save(tmp_path / "t.npy", random.integers(0, 32, shape))
        assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back", "-f").code == 0
        assert tree(tmp_path / "back")["000000"] == (24, 40, 3)
    data = (tmp_path / "t.npy").read_bytes()
    assert vqtok("decode", "-", "-m", run, "-o", tmp_path / "in", stdin=data).code == 0
    assert sorted(tree(tmp_path / "in")) == ["000000", "000001"]


def test_names_never_collide_nor_leave_the_folder(vqtok: Vqtok, run: Path, tmp_path: Path, tokens: Path) -> None:
    whole = read(tokens)
    names = ["../../up.png", "/etc/root.png", "a.jpg", "a.png", "a.png"]
    images = tuple(replace(whole.header.images[0], name=name) for name in names)
    hostile = replace(whole, header=replace(whole.header, images=images), grids=(whole.grids[0],) * 5)
    write(tmp_path / "h.safetensors", hostile)
    result = vqtok("decode", tmp_path / "h.safetensors", tmp_path / "h.safetensors", "-m", run, "-o", tmp_path / "in")
    assert result.code == 0
    written = [path for path in tmp_path.rglob("*.png") if path.is_file()]
    assert len(written) == 10
    assert all(path.is_relative_to(tmp_path / "in") for path in written)
    assert {"a.jpg.png", "a.png.png", "a.png-1.png"} <= {path.name for path in written}


def test_another_checkpoint(vqtok: Vqtok, run: Path, tmp_path: Path, tokens: Path, other: Path) -> None:
    result = vqtok("decode", tokens, "-m", other, "-o", tmp_path / "back")
    assert result.code == 1
    made, now = checkpoint.fingerprint(run)[:12], checkpoint.fingerprint(other)[:12]
    assert result.error == (
        f"vqtok decode: error: {tokens}: it was made by the checkpoint {made}, this one is {now}: "
        "pass the model that made it, or --allow-mismatch"
    )
    assert not (tmp_path / "back").exists()
    assert vqtok("decode", tokens, "-m", other, "-o", tmp_path / "back", "--allow-mismatch").code == 0


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def out_of_range() -> np.ndarray:
    array = np.zeros((6, 4, 9), np.int32)
    array[5, 2, 7] = 20000
    return array


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy(np.zeros((2, 2, 2), np.float32)), "its tokens are float32, expected integers"),
        (npy(np.zeros(7, np.int64)), "its array has the shape (7,), expected (h, w), (N, h, w) or (N, h, w, C)"),
        (npy(np.zeros((1, 2, 2, 3), np.int64)), "it holds 3 codes per position, the model 1"),
        (npy(out_of_range()), "token 20000 at row 5 (2, 7) is outside 0..31"),
        (npy(-out_of_range()), "token -20000 at row 5 (2, 7) is outside 0..31"),
        (npy(np.array([[None]])), "it is damaged or holds no plain numbers: "),
        (npy(np.zeros((9, 9), np.int64))[:200], "it is damaged or holds no plain numbers: "),
        (b"\x80\x04pickle", "it is a pickle or a zip archive, which is never opened"),
        (b"PK\x03\x04", "it is a pickle or a zip archive, which is never opened"),
        (b"GIF89a", "it is neither a .npy nor a .safetensors file, or is damaged"),
        (safetensors.numpy.save({"t": np.zeros((9, 9))})[:90], "it is neither a .npy nor a .safetensors file"),
        (safetensors.numpy.save({n: np.zeros((2, 2), int) for n in "ab"}), "it holds 2 arrays and no vqtok header"),
    ],
)
def test_damaged_tokens(vqtok: Vqtok, run: Path, tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(data)
    for name, stdin in ((path, b""), ("-", data)):
        result = vqtok("decode", name, "-m", run, "-o", tmp_path / "back", stdin=stdin)
        assert result.code == 1
        assert result.error.startswith(f"vqtok decode: error: {'stdin' if stdin else path}: ")
        assert said in result.error
    assert list(tmp_path.iterdir()) == [path]


def header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON beside a .npy."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h.update(version=9), "it has format version 9, this vqtok reads up to 1: upgrade vqtok"),
        (lambda h: h.update(format="x"), "its header is not that of a vqtok token file"),
        (lambda h: h.pop("model"), "its header is damaged"),
        (lambda h: h["images"].pop(), "its arrays hold 1 more rows than its header names"),
        (lambda h: h["images"].append(h["images"][0]), "its header says that row 8 is a (8, 8) grid"),
    ],
)
def test_damaged_headers(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    vqtok("encode", photos / "a", "-m", run, "-o", tmp_path / "t.npy")
    header(tmp_path / "t.npy.json", change)
    result = vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back")
    assert result.code == 1
    assert result.error.startswith(f"vqtok decode: error: {tmp_path}/t.npy: ")
    assert said in result.error


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "missing argument 'TOKENS': see vqtok decode --help"),
        (["nowhere.npy"], 1, "cannot read nowhere.npy: No such file or directory"),
        (["bare"], 1, "no token files in bare: looked for .npy .safetensors"),
        (["-"], 1, "stdin is empty: expected a token file"),
        (["-", "-"], 2, "stdin is named twice"),
        (["t.npy", "-o", ""], 2, "no output: pass -o FOLDER/, -o IMAGE.png or -o -"),
        (["t.npy", "-o", "x.tiff"], 2, "x.tiff has the suffix .tiff: use .png, .jpg or .webp, or end a folder with /"),
        (["t.npy", "-o", "x.png", "--image-format", "jpg"], 2, "x.png and --image-format jpg contradict each other"),
        (["t.npy", "-o", "x.png"], 2, "2 images do not fit x.png: name a folder, or pick one with --index"),
        (["t.npy", "-o", "-"], 2, "2 images do not fit -: name a folder, or pick one with --index"),
        (["t.npy", "-o", "-", "--json"], 2, "-o - and --json both want stdout"),
        (["t.npy", "--index", "7"], 2, "--index 7 selects none of 2 images"),
        (["t.npy", "--index", "a:b"], 2, "--index is 'a:b', expected A:B or one row number"),
        (["t.npy", "-o", "t.npy/in"], 1, "cannot write t.npy/in: t.npy is not a folder"),
        (["t.npy", "-o", "bare/full"], 1, "bare/full exists: pass --overwrite to replace it"),
        (["t.npy", "-m", "nomodel"], 1, "there is no checkpoint nomodel"),
        (["t.npy", "--device", "toaster"], 2, "'toaster' is not a device"),
        (["t.npy", "-b", "0"], 2, "invalid value for '--batch-size' / '-b'"),
        (["t.npy", "--image-format", "gif"], 2, "'gif' is not one of 'png', 'jpg', 'webp'"),
    ],
)
def test_wrong_calls(
    vqtok: Vqtok,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.zeros((2, 3, 3), np.uint8))
    save(Path("bare/full/x.png"), draw(8, 8))
    defaults = [] if "-o" in arguments else ["-o", "back"]
    defaults += [] if "-m" in arguments else ["-m", str(run)]
    result = vqtok("decode", *arguments, *defaults)
    assert result.code == code
    assert result.error.startswith("vqtok decode: error: ")
    assert said in result.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "t.npy"]


def test_no_checkpoint_named(vqtok: Vqtok, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((2, 3), np.uint8))
    result = vqtok("decode", tmp_path / "t.npy", "-o", tmp_path / "x.png")
    assert result.code == 2
    assert "no checkpoint: pass -m RUN" in result.error
