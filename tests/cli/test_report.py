"""`vqtok report`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer.images import placement_of
from tokenizer.tokens import Header, ImageRecord, TokenSet, read_tokens, sidecar, write_tokens


@pytest.fixture
def tokens(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> Path:
    """Tokens of all photos, in one file."""
    output = tmp_path / "t.safetensors"
    assert vqtok("encode", photos, "-m", run, "-o", output).code == 0
    return output


def test_tokens_alone(vqtok: Vqtok, tokens: Path) -> None:
    result = vqtok("report", tokens, "--json")
    assert result.code == 0
    values = result.json
    flat = np.concatenate([grid.ravel() for grid in read_tokens(tokens).grids])
    shares = np.unique(flat, return_counts=True)[1] / len(flat)
    entropy = -(shares * np.log2(shares)).sum()
    assert (values["images"], values["tokens"], values["failed"]) == (24, len(flat), 0)
    assert values["used"] == len(shares) / 32
    assert values["dead"] == 32 - len(shares)
    assert values["entropy_bits"] == pytest.approx(entropy)
    assert values["perplexity"] == pytest.approx(2**entropy)
    assert values["quality"] is None
    assert set(values["definitions"]) >= {"used", "perplexity", "entropy_bits", "bits_per_pixel"}


def test_table(vqtok: Vqtok, tokens: Path) -> None:
    result = vqtok("report", tokens, "--top-k", 2)
    lines = result.out.decode().splitlines()
    assert (result.code, lines[0].split()) == (0, ["images", "24"])
    row = next(line for line in lines if line.startswith("most used"))
    assert row.count("%") == 2
    assert any(line.startswith("perplexity: 2 ** entropy_bits") for line in lines)
    assert sum(line.startswith("rate") and "bits per pixel" in line and ":" not in line for line in lines) == 3


def test_a_file_a_folder_and_stdin_are_alike(
    vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path
) -> None:
    def without_order(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key != "curve"}

    vqtok("encode", photos, "-m", run, "-o", tmp_path / "tree", "--format", "npy")
    whole = without_order(vqtok("report", tokens, "--json").json)
    assert without_order(vqtok("report", tmp_path / "tree", "--json").json) == whole
    assert without_order(vqtok("report", "-", "--json", stdin=tokens.read_bytes()).json) == whole


def test_quality(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    photos, tokens = photos / "b", tmp_path / "t.npy"
    vqtok("encode", photos, "-m", run, "-o", tokens)
    given = vqtok("report", tokens, "--images", photos, "-m", run, "--json")
    assert given.code == 0
    assert len(given.json["quality"]["images"]) == 8
    assert given.json["psnr"] == pytest.approx(np.mean([i["psnr"] for i in given.json["quality"]["images"]]))
    assert 0 < given.json["ssim"] < 1
    alone = vqtok("report", "--images", photos, "-m", run, "--json", "-b", 5, "-j", 3)
    assert alone.json == given.json
    table = vqtok("report", tokens, "--images", photos, "-m", run).out.decode().splitlines()
    row = next(line for line in table if line.startswith("PSNR  "))
    assert row.split(maxsplit=1)[1] == f"{given.json['psnr']:.2f} dB"
    first = vqtok("report", "--images", photos, "-m", run, "--json", "--max-images", 2)
    assert [image["name"] for image in first.json["quality"]["images"]] == ["01.png", "04.png"]


def test_names_in_the_table(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["[bold]a.png", "new\nline.png", "café.png"]):
        save(tmp_path / "in" / name, draw(32, 32, number))
    result = vqtok("report", "--images", tmp_path / "in", "-m", run)
    assert result.code == 0
    rows = [line.split(maxsplit=1) for line in result.out.decode().splitlines() if line.startswith(("worst", "best"))]
    assert {text.rpartition(" (")[0] for _, text in rows} <= {"[bold]a.png", "new\\nline.png", "café.png"}
    assert len(rows) == 2


def test_unreadable_images(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/good.png", draw(32, 32))
    (tmp_path / "in/[b]bad.png").write_text("text")
    result = vqtok("report", "--images", tmp_path / "in", "-m", run, "--json")
    assert result.code == 3
    assert (result.json["images"], result.json["failed"]) == (1, 1)
    assert "vqtok report: warning: not encoded: [b]bad.png: not an image" in result.err
    (tmp_path / "in/good.png").unlink()
    none = vqtok("report", "--images", tmp_path / "in", "-m", run, "--json")
    assert none.code == 1
    assert "0 of 1 images encoded, the first is [b]bad.png: not an image" in none.error


def test_images_that_are_not_there(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    result = vqtok("report", tokens, "-m", run, "--images", photos / "a")
    assert result.code == 1
    assert "none of the 24 names in the token file" in result.error
    save(tmp_path / "in/a/00.png", draw(64, 64, 0))
    save(tmp_path / "in/b/x.png", draw(64, 64, 0))
    some = vqtok("report", tokens, "-m", run, "--images", tmp_path / "in", "--json")
    assert some.code == 0
    assert len(some.json["quality"]["images"]) == 1
    assert "vqtok report: warning: 23 images of the token file are not among --images" in some.err


def test_checkpoints_and_tokens_must_agree(
    vqtok: Vqtok, photos: Path, tmp_path: Path, tokens: Path, other: Path
) -> None:
    mismatch = vqtok("report", tokens, "-m", other)
    assert mismatch.code == 1
    assert f"{tokens}: it was made by the checkpoint " in mismatch.error
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shutil.copy(tokens, mixed)
    vqtok("encode", photos / "a", "-m", other, "-o", mixed / "u.npy")
    result = vqtok("report", mixed)
    assert result.code == 2
    assert "made by different checkpoints: report on them one by one" in result.error


def test_bare_array(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(32).reshape(1, 4, 8))
    unknown = vqtok("report", tmp_path / "t.npy")
    assert unknown.code == 2
    assert "names no codebook size: pass -m RUN, the checkpoint that made it" in unknown.error
    result = vqtok("report", tmp_path / "t.npy", "-m", run, "--json")
    assert (result.code, result.json["used"], result.json["perplexity"]) == (0, 1.0, pytest.approx(32))
    assert "32 tokens are few for this codebook" in result.err


def test_damage_names_the_file(vqtok: Vqtok, tmp_path: Path) -> None:
    """Without a model: a token outside the alphabet that the file names, then a row of the manifest that is none."""
    record = ImageRecord("a.png", (2, 3), placement_of((16, 24), "none", None, 8))
    tokens = TokenSet(Header("f" * 64, (4,), 8), [record], [np.zeros((2, 3, 1), int)])
    good, bad = tmp_path / "a.npy", tmp_path / "b.npy"
    for path in (good, bad):
        write_tokens(path, tokens)
    np.save(bad, np.full((1, 2, 3), 9, np.uint8))
    outside = vqtok("report", good, bad)
    assert outside.code == 1
    assert outside.error == f"vqtok report: error: {bad}: token 9 at row 0 (0, 0) is outside 0..3"
    np.save(bad, np.zeros((1, 2, 3), np.uint8))
    sidecar(bad).write_bytes(sidecar(bad).read_bytes().replace(b'"grid":[2,3]', b'"grid":[2,4]'))
    row = vqtok("report", good, bad)
    assert row.code == 1
    assert row.error.startswith(f"vqtok report: error: {bad}: its manifest is damaged at byte 0: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to report on: name token files, or --images"),
        (["nowhere.npy"], 1, "cannot read nowhere.npy: No such file or directory"),
        (["in"], 1, "no token files in in: looked for .npy .npz .safetensors .tar"),
        (["t.npy", "--max-images", "3", "-m", "RUN"], 2, "--max-images is for --images without token files"),
        (["--images", "nowhere", "-m", "RUN"], 1, "nowhere does not exist"),
        (["--images", "bare", "-m", "RUN"], 1, "no images in bare: looked for"),
        (["t.npy", "-m", "bare"], 1, "bare is not a checkpoint: it has no config.json"),
        (["t.npy", "-m", "RUN", "--alpha", "glass"], 2, "'glass' is not a color"),
        (["t.npy", "--csv", "-", "--json"], 2, "--csv - and --json both write to stdout: pass one of the two"),
        (["t.npy", "--csv", "x", "--html", "x"], 2, "x is named for two outputs: name two files"),
        (["t.npy", "--html", "there.txt"], 1, "there.txt exists: pass --overwrite to replace it"),
        (["t.npy", "--csv", "in"], 1, "in exists: pass --overwrite to replace it"),
        (["t.npy", "--html", "in", "-f"], 1, "cannot write in: it is a folder"),
        (["t.npy", "--fail-under-psnr", "20"], 2, "--fail-under-psnr needs the originals: pass --images"),
        (["t.npy", "-m", "RUN", "--stability"], 2, "--stability needs the originals: pass --images"),
        (["t.npy", "--codebook-picture", "x.png"], 2, "--codebook-picture needs the originals"),
        (["t.npy", "--fail-under-usage", "90"], 2, "--fail-under-usage"),
        (["t.npy", "--fail-under-usage", "nan"], 2, "--fail-under-usage"),
        (["--images", "in", "-m", "RUN", "--fail-under-psnr", "nan"], 2, "--fail-under-psnr is nan, expected a number"),
        (["--images", "in", "-m", "RUN", "-m", "bare", "--codebook-picture", "x.png"], 2, "is of one report"),
        (["-", "-"], 2, "stdin is named twice"),
        (["t.npy", "--peers"], 2, "no such option --peers: it is now --baselines"),
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
    save(Path("in/x.png"), draw(8, 8))
    Path("bare").mkdir()
    Path("there.txt").write_text("kept")
    result = vqtok("report", *[run if word == "RUN" else word for word in arguments])
    assert result.code == code
    assert result.error.startswith("vqtok report: error: ")
    assert said in result.error
    assert Path("there.txt").read_text() == "kept"
