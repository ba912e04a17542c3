"""`vqtok decode`: resuming, sharing, damaged files and wrong calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import BIN, Vqtok, environment
from tests.cli.reference import pictures_of, pixels, same, tokens_of, tree
from tests.conftest import draw, save
from tokenizer.images import encode_image
from tokenizer.tokens import Header, TokenSet, sidecar_of, write_tokens


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchrun outside."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tokens(photos: Path, run: Path, tmp_path: Path) -> Path:
    """Tokens of all photos, in one file."""
    write_tokens(tmp_path / "t.safetensors", tokens_of(run, photos))
    return tmp_path / "t.safetensors"


def stamps(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*.*")}


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_resume_makes_what_is_missing(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path, image_format: str
) -> None:
    call = ("decode", tokens, "-m", run, "-o", tmp_path / "back", "--image-format", image_format)
    assert vqtok(*call, "--resume").code == 0
    before, first = tree(tmp_path / "back"), stamps(tmp_path / "back")
    assert "pass --overwrite to replace it" in vqtok(*call).error
    files = sorted((tmp_path / "back").rglob("*.*"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-9])
    files[2].write_bytes(b"")
    files[3].write_bytes(encode_image(pixels(files[3])[:-1], image_format))
    files[4].write_bytes(encode_image(pixels(files[4]), {"png": "webp", "jpg": "png", "webp": "jpg"}[image_format]))
    (tmp_path / "back/mine.txt").touch()
    result = vqtok(*call, "--resume", "--json")
    assert (result.code, result.json["images"], result.json["kept"]) == (0, 24, 19)
    assert result.err.startswith(f"24 images decoded, 19 of them before, to {tmp_path}/back in ")
    (tmp_path / "back/mine.txt").unlink()
    assert same(tree(tmp_path / "back"), before)
    now = stamps(tmp_path / "back")
    touched = {path.relative_to(tmp_path / "back").as_posix() for path in files[:5]}
    assert {name for name in now if now[name] != first[name]} == touched
    assert vqtok(*call, "--resume", "--json").json["kept"] == 24
    assert vqtok(*call, "--overwrite", "--json").json["kept"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 5, 30])
def test_shares_joined_are_the_whole(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path, parts: int
) -> None:
    """Names are those of all images, also where an equal one is in another share."""
    whole = tokens_of(run, photos)
    images = tuple(replace(image, name=image.name.replace("03", "00")) for image in whole.images)
    write_tokens(tokens, replace(whole, images=images))
    assert vqtok("decode", tokens, "-m", run, "-o", tmp_path / "whole").code == 0
    written = 0
    for part in reversed(range(parts)):
        call = ("decode", tokens, "-m", run, "-o", tmp_path / "back", "--shard", f"{part + 1}/{parts}", "--json")
        written += vqtok(*call).json["images"]
        assert len(tree(tmp_path / "back")) == written
    assert written == 24
    assert same(tree(tmp_path / "back"), tree(tmp_path / "whole"))
    assert "pass --overwrite to replace it" in vqtok(*call).error.replace(" or --resume", "")
    assert vqtok(*call, "--resume").code == 0
    assert vqtok(*call, "--overwrite").code == 0


@pytest.mark.slow
def test_torchrun(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    command = [BIN / "torchrun", "--nproc-per-node", "2", "--no-python", BIN / "vqtok"]
    done = subprocess.run(
        [*command, "decode", tokens, "-m", run, "-o", tmp_path / "back"],
        env=environment(),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert same(tree(tmp_path / "back"), pictures_of(run, photos))
    assert done.stderr.count(b"images decoded") == 1


@pytest.fixture
def damaged(photos: Path, run: Path, tmp_path: Path) -> list[Path]:
    """Three files of eight images: the first whole, the others damaged."""
    whole, files = tokens_of(run, photos), []
    for number in range(3):
        rows = slice(8 * number, 8 * number + 8)
        files.append(tmp_path / f"{number}.npy")
        write_tokens(files[-1], TokenSet(whole.header, whole.images[rows], whole.grids[rows]))
    text = sidecar_of(files[1]).read_text().splitlines(keepends=True)
    text[3] = text[3].replace('"name"', '"eman"')
    sidecar_of(files[1]).write_text("".join(text))
    files[2].write_bytes(files[2].read_bytes()[:-5])
    return files


def test_damaged_files_fail_or_are_skipped(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, damaged: list[Path]
) -> None:
    call = ("decode", *damaged, tmp_path / "gone.npy", "-m", run, "-o", tmp_path / "back")
    result = vqtok(*call)
    assert (result.code, str(damaged[2]) in result.error) == (1, True)
    assert vqtok("decode", damaged[1], *call[5:]).error.startswith(
        f"vqtok decode: error: {damaged[1]}: its manifest is"
    )
    assert not (tmp_path / "back").exists()
    result = vqtok(*call, "--on-error", "skip", "--json")
    assert result.code == 3
    assert [failure["name"] for failure in result.json["failed"]] == [
        str(damaged[2]),
        str(tmp_path / "gone.npy"),
        str(damaged[1]),
    ]
    assert result.json["failed"][0]["reason"].startswith("it is damaged or holds no plain numbers")
    assert result.err.count("vqtok decode: warning: left out: ") == 3
    wanted = dict(list(pictures_of(run, photos).items())[:8])
    assert same(tree(tmp_path / "back"), wanted)
    result = vqtok("decode", damaged[2], "-m", run, "-o", tmp_path / "none", "--on-error", "skip")
    assert (result.code, result.err.splitlines()[-1]) == (
        1,
        "vqtok decode: error: 0 of 1 token files can be decoded",
    )


def test_other_checkpoints_are_skipped(
    vqtok: Vqtok, run: Path, other: Path, tmp_path: Path, damaged: list[Path]
) -> None:
    np.save(tmp_path / "bare.npy", np.zeros((2, 3, 5), np.uint8))
    call = ("decode", tmp_path / "bare.npy", damaged[0], "-m", other, "-o", tmp_path / "back", "--on-error", "skip")
    result = vqtok(*call, "--json")
    assert (result.code, result.json["images"]) == (3, 2)
    assert "it was made by the checkpoint" in result.json["failed"][0]["reason"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0].replace('"version":2', '"version":9'), *lines[1:]], "upgrade vqtok"),
        (lambda lines: [lines[0].replace("vqtok-tokens", "x"), *lines[1:]], "its header is not that of a vqtok token"),
        (lambda lines: [lines[0].replace('"model"', '"ledom"'), *lines[1:]], "its header is damaged"),
        (lambda lines: lines[:-1], "its arrays hold 8 rows, its manifest names 7"),
        (lambda lines: [*lines, lines[-1]], "its arrays hold 8 rows, its manifest names 9"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"row":7', '"row":8')], "its manifest says that row 8"),
        (lambda lines: [*lines[:-1], lines[-1][:-5]], "its manifest is truncated"),
    ],
)
def test_damaged_sidecars(
    vqtok: Vqtok, run: Path, tmp_path: Path, damaged: list[Path], change: Callable[[list[str]], list[str]], said: str
) -> None:
    beside = sidecar_of(damaged[0])
    beside.write_text("".join(change(beside.read_text().splitlines(keepends=True))))
    result = vqtok("decode", damaged[0], "-m", run, "-o", tmp_path / "back")
    assert result.code == 1
    assert result.error.startswith(f"vqtok decode: error: {damaged[0]}: ")
    assert said in result.error
    assert result.error.count(str(damaged[0])) == 1


def test_a_shard_that_is_not_as_its_index_says(vqtok: Vqtok, run: Path, tmp_path: Path, damaged: list[Path]) -> None:
    (tmp_path / "shards").mkdir()
    for file in (damaged[0], sidecar_of(damaged[0])):
        file.rename(tmp_path / "shards" / file.name)
    index = {"format": "vqtok-index", "version": 1, "shards": [{"name": "0.npy", "images": 7}]}
    (tmp_path / "shards/index.json").write_text(json.dumps(index))
    result = vqtok("decode", tmp_path / "shards", "-m", run, "-o", tmp_path / "back")
    assert result.error.endswith("shards/0.npy: it holds 8 images, the index beside it says 7")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "missing argument 'TOKENS': see vqtok decode --help"),
        (["nowhere.npy"], 1, "cannot read nowhere.npy: No such file or directory"),
        (["bare"], 1, "no token files in bare: looked for .npy .npz .safetensors"),
        (["-"], 1, "stdin is empty: expected a token file"),
        (["-", "-"], 2, "stdin is named twice"),
        (["t.npy", "-o", ""], 2, "no output: pass -o FOLDER/, -o IMAGE.png or -o -"),
        (["t.npy", "-o", "x.tiff"], 2, "x.tiff has the suffix .tiff: use .png, .jpg or .webp, or end a folder with /"),
        (["t.npy", "-o", "x.png", "--image-format", "jpg"], 2, "x.png and --image-format jpg contradict each other"),
        (["t.npy", "-o", "x.png"], 2, "2 images do not fit x.png: name a folder, pick one with --index, or pass"),
        (["t.npy", "-o", "-"], 2, "2 images do not fit -: name a folder, pick one with --index, or pass"),
        (["t.npy", "-o", "-", "--json"], 2, "-o - and --json both want stdout"),
        (["t.npy", "--index", "7"], 2, "--index 7 selects none of 2 images"),
        (["t.npy", "t.npy", "--index", "4:"], 2, "--index 4: selects none of 4 images"),
        (["t.npy", "--index", "a:b"], 2, "--index is 'a:b', expected A:B or one row number"),
        (["t.npy", "-o", "t.npy/in"], 1, "cannot write t.npy/in: t.npy is not a folder"),
        (["t.npy", "-o", "bare/full"], 1, "bare/full exists: pass --overwrite"),
        (["t.npy", "-m", "nomodel"], 1, "there is no checkpoint nomodel"),
        (["t.npy", "--device", "toaster"], 2, "'toaster' is not a device"),
        (["t.npy", "-b", "0"], 2, "invalid value for '--batch-size' / '-b'"),
        (["t.npy", "--image-format", "gif"], 2, "'gif' is not one of 'png', 'jpg', 'webp'"),
        (["t.npy", "--columns", "3"], 2, "--columns is for --contact-sheet: pass both"),
        (
            ["t.npy", "--contact-sheet"],
            2,
            "a contact sheet is one picture, back is a folder: pass -o SHEET.png or -o -",
        ),
        (["t.npy", "--resume", "--overwrite"], 2, "--resume keeps what is there, --overwrite replaces it"),
        (["t.npy", "--resume", "-o", "x.png"], 2, "are for a folder of pictures, x.png is one file"),
        (["t.npy", "--shard", "1/2", "-o", "x.png"], 2, "are for a folder of pictures, x.png is one file"),
        (["t.npy", "--shard", "3/2"], 2, "--shard is '3/2', expected I/N with I from 1 to N"),
        (["t.npy", "--codes", "2"], 2, "--codes is 2, this checkpoint decodes the first 1 of 1 codes"),
        (["h.npy", "--grid", "3x3"], 2, "h.npy says itself what its grids are: drop --grid"),
    ],
)
def test_wrong_calls(
    vqtok: Vqtok,
    photos: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.zeros((2, 3, 3), np.uint8))
    write_tokens(Path("h.npy"), TokenSet(Header("f" * 64, (32,), 8), [], []))
    save(Path("bare/full/x.png"), draw(8, 8))
    defaults = [] if "-o" in arguments else ["-o", "back"]
    defaults += [] if "-m" in arguments else ["-m", str(run)]
    result = vqtok("decode", *arguments, *defaults)
    assert result.code == code
    assert result.error.startswith("vqtok decode: error: ")
    assert said in result.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "h.npy", "h.npy.jsonl", "t.npy"]


def test_no_images(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    write_tokens(tmp_path / "t.npy", TokenSet(Header("f" * 64, (32,), 8), [], []))
    result = vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back")
    assert (result.code, result.error) == (1, "vqtok decode: error: there are no tokens to decode")
