"""`vqtok decode`: from each kind of token file to each kind of picture."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.cli.reference import decoded, pictures_of, pixels, same, tokens_of, tree
from tokenizer.images import encode_image, placement_of
from tokenizer.models import fingerprint_of
from tokenizer.tokens import (
    FailedInput,
    Header,
    ImageRecord,
    TokenSet,
    manifest_line,
    read_tokens,
    tokens_to_bytes,
    write_tokens,
)


@pytest.fixture
def tokens(photos: Path, run: Path, tmp_path: Path) -> Path:
    """Tokens of all photos, in one file."""
    write_tokens(tmp_path / "t.safetensors", tokens_of(run, photos))
    return tmp_path / "t.safetensors"


def rows(tokens: TokenSet, first: int, last: int) -> TokenSet:
    return TokenSet(tokens.header, tokens.images[first:last], tokens.grids[first:last])


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_names_sizes_and_pixels_come_back(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path, batch_size: int
) -> None:
    result = vqtok("decode", tokens, "-m", run, "-o", tmp_path / "back", "-b", batch_size)
    assert result.code == 0
    assert result.error.startswith(f"24 images decoded to {tmp_path}/back in ")
    assert same(tree(tmp_path / "back"), pictures_of(run, photos))


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_trees_and_shards(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, suffix: str) -> None:
    whole = tokens_of(run, photos)
    for number in range(24):
        write_tokens(tmp_path / f"tree/{whole.images[number].name}.{suffix}", rows(whole, number, number + 1))
    lines = [
        json.dumps(whole.header.to_json()).encode(),
        *(manifest_line(0, image)[:-1] for image in reversed(whole.images)),
    ]
    (tmp_path / "tree/manifest.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert vqtok("decode", tmp_path / "tree", "-m", run, "-o", tmp_path / "one").code == 0
    assert same(tree(tmp_path / "one"), pictures_of(run, photos))
    assert vqtok("decode", tmp_path / "tree", "-m", run, "-o", tmp_path / "last", "--index", 0).code == 0
    assert list(tree(tmp_path / "last")) == [whole.images[-1].name]
    (tmp_path / "shards").mkdir()
    for number in range(3):  # 0..7, 8..15, 16..23: one grid each
        write_tokens(tmp_path / f"shards/shard-{number:06d}.{suffix}", rows(whole, 8 * number, 8 * number + 8))
        (tmp_path / f"shards/shard-{number:06d}.done").touch()
    shards = [{"name": f"shard-{number:06d}.{suffix}", "images": 8, "failed": 0} for number in range(3)]
    (tmp_path / "shards/index.json").write_text(json.dumps({"format": "vqtok-index", "version": 1, "shards": shards}))
    assert vqtok("decode", tmp_path / "shards", "-m", run, "-o", tmp_path / "two").error.startswith("24 images")
    assert same(tree(tmp_path / "two"), pictures_of(run, photos))


@pytest.mark.parametrize(
    ("output", "arguments"),
    [
        ("t.safetensors", ()),
        ("t.tar", ()),
        ("tree", ()),
        ("tree", ("--format", "npy")),
        ("shards", ("--shard-size", 7)),
        ("shards", ("--shard-size", 7, "--format", "tar")),
    ],
)
def test_all_that_encode_writes(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, output: str, arguments: tuple[object, ...]
) -> None:
    assert vqtok("encode", photos, "-m", run, "-o", tmp_path / output, *arguments).code == 0
    assert vqtok("decode", tmp_path / output, "-m", run, "-o", tmp_path / "back").error.startswith("24 images")
    assert same(tree(tmp_path / "back"), pictures_of(run, photos))
    data = (tmp_path / output).read_bytes() if (tmp_path / output).is_file() else b""
    assert not data or vqtok("decode", "-", "-m", run, "-o", tmp_path / "in", stdin=data).code == 0
    assert not data or same(tree(tmp_path / "in"), pictures_of(run, photos))


def test_unfinished_shards(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    whole = tokens_of(run, photos)
    write_tokens(tmp_path / "in/shard-000000.safetensors", rows(whole, 0, 8))
    (tmp_path / "in/shard-000000.done").touch()
    write_tokens(tmp_path / "in/shard-000001.safetensors.partial/x.safetensors", rows(whole, 8, 16))
    result = vqtok("decode", tmp_path / "in", "-m", run, "-o", tmp_path / "back", "-q")
    assert (result.code, len(tree(tmp_path / "back"))) == (0, 8)
    assert result.error == (
        f"vqtok decode: warning: {tmp_path}/in is unfinished: 1 token files are whole, vqtok encode --resume goes on"
    )


def test_stdin(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    data = tokens_to_bytes(tokens_of(run, photos), "safetensors")
    assert vqtok("decode", "-", "-m", run, "-o", tmp_path / "back", stdin=data).code == 0
    assert same(tree(tmp_path / "back"), pictures_of(run, photos))


@pytest.mark.parametrize(("mode", "size"), [("crop", (48, 48)), ("pad", (48, 72)), ("squash", (48, 72))])
def test_sizes_after_resizing(vqtok: Vqtok, run: Path, tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    grid, placement = np.full((6, 6, 1), 3), placement_of((48, 72), mode, 48, 8)
    header = Header(fingerprint_of(run), (32,), 8)
    write_tokens(tmp_path / "t.npy", TokenSet(header, [ImageRecord("x.png", (6, 6), placement)], [grid]))
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back.png").code == 0
    back = pixels(tmp_path / "back.png")
    assert back.shape == (*size, 3)
    assert np.array_equal(back, placement.restore(decoded(run, grid)))


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_image_formats(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path, suffix: str, kind: str
) -> None:
    out = vqtok("decode", tokens, "-m", run, "-o", "-", "--index", 0, "--image-format", suffix)
    wanted = pictures_of(run, photos)["a/00.png"]
    with Image.open(io.BytesIO(out.out)) as image:
        assert (out.code, image.format) == (0, kind)
        assert suffix == "jpg" or np.array_equal(np.asarray(image.convert("RGB")), wanted)
    assert out.out == encode_image(wanted, suffix)
    assert vqtok("decode", tokens, "-m", run, "-o", tmp_path / f"x.{suffix}", "--index", 0).code == 0
    assert (tmp_path / f"x.{suffix}").read_bytes() == out.out
    folder = tmp_path / "back"
    assert vqtok("decode", tokens, "-m", run, "-o", folder, "--index", ":2", "--image-format", suffix).code == 0
    assert sorted(path.name for path in folder.rglob("*.*")) == [f"00.{suffix}", f"03.{suffix}"]
    assert (folder / f"a/00.{suffix}").read_bytes() == out.out


@pytest.mark.parametrize(
    ("index", "wanted"),
    [("3", [3]), ("22:26", [22, 23, 24, 25]), ("46:", [46, 47]), (":1", [0]), ("-2:", [46, 47]), ("-1", [47])],
)
def test_index_counts_over_all_inputs(
    vqtok: Vqtok, run: Path, tmp_path: Path, tokens: Path, index: str, wanted: list[int]
) -> None:
    result = vqtok("decode", tokens, tokens, "-m", run, "-o", tmp_path / "back", f"--index={index}", "--json", "-q")
    assert (result.code, result.err) == (0, "")
    assert {**result.json, "seconds": 0} == {
        "output": f"{tmp_path}/back",
        "images": len(wanted),
        "kept": 0,
        "failed_total": 0,
        "failed": [],
        "seconds": 0,
    }
    named = [read_tokens(tokens).images[row % 24].name for row in wanted]
    assert sorted(tree(tmp_path / "back")) == sorted(named)


def test_names_never_collide_nor_leave_the_folder(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    whole = tokens_of(run, photos)
    names = ["../../up.png", "/etc/root.png", "a.jpg", "a.png", "a.png"]
    images = tuple(replace(whole.images[0], name=name) for name in names)
    write_tokens(tmp_path / "h.safetensors", TokenSet(whole.header, images, (whole.grids[0],) * 5))
    result = vqtok("decode", tmp_path / "h.safetensors", tmp_path / "h.safetensors", "-m", run, "-o", tmp_path / "in")
    assert result.code == 0
    written = [path for path in tmp_path.rglob("*.png") if path.is_file()]
    assert len(written) == 10
    assert all(path.is_relative_to(tmp_path / "in") for path in written)
    assert {"a.jpg.png", "a.png.png", "a.png-1.png"} <= {path.name for path in written}


def test_failures_of_the_encoding_are_no_images(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    whole = replace(rows(tokens_of(run, photos), 0, 2), failed=(FailedInput("bad.png", "empty"),))
    write_tokens(tmp_path / "t.npy", whole)
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back").code == 0
    assert sorted(tree(tmp_path / "back")) == ["a/00.png", "a/03.png"]


def test_another_checkpoint(vqtok: Vqtok, run: Path, tmp_path: Path, tokens: Path, other: Path) -> None:
    result = vqtok("decode", tokens, "-m", other, "-o", tmp_path / "back")
    assert result.code == 1
    made, now = fingerprint_of(run)[:12], fingerprint_of(other)[:12]
    assert result.error == (
        f"vqtok decode: error: {tokens}: it was made by the checkpoint {made}, this one is {now}: "
        "pass the model that made it, or --allow-mismatch"
    )
    assert not (tmp_path / "back").exists()
    assert vqtok("decode", tokens, "-m", other, "-o", tmp_path / "back", "--allow-mismatch").code == 0


def test_contact_sheet(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    sheet = ("decode", tokens, "-m", run, "--contact-sheet", "--index", "6:11")
    assert vqtok(*sheet, "-o", tmp_path / "sheet.png", "--columns", 2).error.startswith("5 images decoded to")
    shown = list(pictures_of(run, photos).values())[6:11]
    assert [picture.shape[:2] for picture in shown] == [(64, 64), (64, 64), (48, 72), (48, 72), (48, 72)]
    wanted = np.full((3 * 64 + 2 * 2, 2 * 72 + 2, 3), 255, np.uint8)
    for number, picture in enumerate(shown):
        top, left = (number // 2) * 66 + (64 - picture.shape[0]) // 2, (number % 2) * 74 + (72 - picture.shape[1]) // 2
        wanted[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    assert np.array_equal(pixels(tmp_path / "sheet.png"), wanted)
    out = vqtok(*sheet, "-o", "-", "--columns", 2)
    assert out.out == (tmp_path / "sheet.png").read_bytes()
    assert vqtok(*sheet, "-o", tmp_path / "sheet.jpg").code == 0
    assert pixels(tmp_path / "sheet.jpg").shape == (3 * 66 - 2, 2 * 74 - 2, 3)
    assert vqtok(*sheet, "-o", tmp_path / "sheet.png").error.endswith(
        "sheet.png exists: pass --overwrite to replace it, or name another output"
    )


def test_ctrl_c_leaves_whole_files(vqtok: Vqtok, shell: Vqtok, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.random.default_rng(0).integers(0, 32, (300, 8, 8)).astype(np.uint8))
    script = """
        vqtok decode t.npy -o back & job=$!
        while kill -0 $job && ! compgen -G 'back/*.png' > /dev/null; do sleep 0.05; done
        kill -TERM $job; wait $job
    """
    result = shell(script, VQTOK_MODEL=str(run))
    assert result.code == 143
    assert "interrupted: no half-written file is left" in result.err
    made = tree(tmp_path / "back")
    assert 0 < len(made) < 300
    assert all(name.endswith(".png") and picture.shape == (64, 64, 3) for name, picture in made.items())
    result = vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back", "--resume", "--json")
    assert (result.code, result.json["images"], result.json["kept"]) == (0, 300, len(made))
    assert len(tree(tmp_path / "back")) == 300
