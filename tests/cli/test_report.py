"""`vqtok report`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer.token_files import read


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
    flat = np.concatenate([grid.ravel() for grid in read(tokens).grids])
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


def test_files_and_folders_add_up(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, tokens: Path) -> None:
    vqtok("encode", photos, "-m", run, "-o", tmp_path / "tree", "--format", "npy")
    whole = vqtok("report", tokens, "--json").json
    assert vqtok("report", tmp_path / "tree", "--json").json == whole
    assert vqtok("report", "-", "--json", stdin=tokens.read_bytes()).json == whole
    twice = vqtok("report", tokens, tmp_path / "tree", "--json").json
    assert (twice["tokens"], twice["entropy_bits"]) == (2 * whole["tokens"], pytest.approx(whole["entropy_bits"]))


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
    row = next(line for line in table if line.startswith("psnr  "))
    assert row.split(maxsplit=1)[1] == f"{given.json['psnr']:.2f} dB over 8 images"
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
    vqtok("encode", photos / "a", "-m", other, "-o", tmp_path / "u.npy")
    mixed = vqtok("report", tokens, tmp_path / "u.npy")
    assert mixed.code == 2
    assert "made by different checkpoints: report on them one by one" in mixed.error


def test_bare_array(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(32).reshape(1, 4, 8))
    unknown = vqtok("report", tmp_path / "t.npy")
    assert unknown.code == 2
    assert "names no codebook size: pass -m RUN, the checkpoint that made it" in unknown.error
    result = vqtok("report", tmp_path / "t.npy", "-m", run, "--json")
    assert (result.code, result.json["used"], result.json["perplexity"]) == (0, 1.0, pytest.approx(32))
    assert "32 tokens are few for this codebook" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to report on: name token files, or --images with -m"),
        (["--images", "in"], 2, "--images needs the checkpoint: pass -m RUN"),
        (["nowhere.npy"], 1, "cannot read nowhere.npy: No such file or directory"),
        (["in"], 1, "no token files in in: looked for .npy .safetensors"),
        (["t.npy", "--max-images", "3", "-m", "RUN"], 2, "--max-images is for --images without token files"),
        (["--images", "nowhere", "-m", "RUN"], 1, "nowhere does not exist"),
        (["--images", "bare", "-m", "RUN"], 1, "no images in bare: looked for"),
        (["t.npy", "-m", "bare"], 1, "bare is not a checkpoint: it has no config.json"),
        (["t.npy", "-m", "RUN", "--alpha", "glass"], 2, "'glass' is not a colour"),
        (["t.npy", "--csv", "x"], 2, "no such option: --csv: see vqtok report --help"),
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
    result = vqtok("report", *[run if word == "RUN" else word for word in arguments])
    assert result.code == code
    assert result.error.startswith("vqtok report: error: ")
    assert said in result.error
