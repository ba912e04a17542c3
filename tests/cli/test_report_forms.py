"""`vqtok report`: several at once, CSV, the page, thresholds."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer.images import placement_of
from tokenizer.tokens import Header, ImageRecord, TokenSet, write_tokens


def rows_of(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode())))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Token files of two made-up checkpoints: one uses all of 4 codes, one a single code of 8."""
    paths = []
    for name, size, codes in (("a.npy", 4, np.arange(4)), ("b.npy", 8, np.zeros(4, int))):
        record = ImageRecord("x.png", (2, 2), placement_of((16, 16), "none", None, 8))
        write_tokens(tmp_path / name, TokenSet(Header(name[0] * 64, (size,), 8), [record], [codes.reshape(2, 2, 1)]))
        paths.append(tmp_path / name)
    return paths


def test_several_files_side_by_side(vqtok: Vqtok, two: list[Path]) -> None:
    result = vqtok("report", *two, "--json")
    assert result.code == 0
    assert result.json["version"] == 3
    assert [one["name"] for one in result.json["reports"]] == list(map(str, two))
    assert [one["used"] for one in result.json["reports"]] == [1.0, 0.125]
    alone = vqtok("report", two[0], "--json").json
    assert {key: value for key, value in result.json["reports"][0].items() if key != "name"} == alone
    lines = vqtok("report", *two).out.decode().splitlines()
    assert lines[0].split() == list(map(str, two))
    assert next(line for line in lines if line.startswith("used ")).split() == ["used", "100.00", "%", "12.50", "%"]
    assert not any(line.startswith("most used") for line in lines)


def test_csv(vqtok: Vqtok, two: list[Path], tmp_path: Path) -> None:
    one, other = rows_of(vqtok("report", *two, "--csv", "-").out)
    assert (one["name"], other["name"]) == tuple(map(str, two))
    assert (float(one["used"]), float(other["used"])) == (1.0, 0.125)
    assert (float(one["entropy_bits"]), float(other["perplexity"])) == (2.0, 1.0)
    assert float(one["rate_stored"]) == pytest.approx(4 * 2 / 256)
    done = vqtok("report", *two, "--csv", tmp_path / "t.csv", "--json")
    assert (done.code, len(done.json["reports"])) == (0, 2)
    assert rows_of((tmp_path / "t.csv").read_bytes()) == [one, other]


def test_each_file_goes_with_the_checkpoint_that_made_it(
    vqtok: Vqtok, photos: Path, run: Path, other: Path, tmp_path: Path
) -> None:
    for name, model in (("a", run), ("b", other)):
        assert vqtok("encode", photos / "b", "-m", model, "-o", tmp_path / f"{name}.npy").code == 0
    files = [tmp_path / "b.npy", tmp_path / "a.npy"]
    result = vqtok("report", *files, "-m", run, "-m", other, "--images", photos / "b", "--json")
    assert result.code == 0
    alone = vqtok("report", files[1], "-m", run, "--images", photos / "b", "--json").json
    assert result.json["reports"][1]["psnr"] == alone["psnr"]
    assert result.json["reports"][0]["psnr"] != alone["psnr"]
    np.save(tmp_path / "bare.npy", np.zeros((1, 2, 2), np.uint8))
    stranger = vqtok("report", tmp_path / "bare.npy", "-m", run, "-m", other)
    assert stranger.code == 2
    assert "none of the 2 checkpoints made" in stranger.error


def test_several_checkpoints_on_the_same_images(
    vqtok: Vqtok, photos: Path, run: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = vqtok("report", "--images", photos / "b", "-m", run, "-m", other, "--json")
    assert result.code == 0
    assert [one["name"] for one in result.json["reports"]] == [str(run), str(other)]
    assert [one["images"] for one in result.json["reports"]] == [8, 8]
    monkeypatch.setenv("VQTOK_MODEL", str(run))
    alone = vqtok("report", "--images", photos / "b", "--json").json
    assert alone["psnr"] == result.json["reports"][0]["psnr"]


@pytest.mark.slow
def test_page_with_everything(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"in/<script>alert({number})<\\script>.png", draw(64, 48, number))
    page, picture = tmp_path / "out/r.html", tmp_path / "codes.png"
    options = ["--baselines", "--stability", "--html", page, "--codebook-picture", picture, "--max-pictures", 4]
    result = vqtok("report", "--images", tmp_path / "in", "-m", run, *options, "--json")
    assert result.code == 0
    assert [baseline["name"] for baseline in result.json["quality"]["baselines"]] == ["JPEG", "WebP"]
    control = result.json["stability"]["changes"][0]
    assert (control["name"], control["changed"]) == ("none", 0)
    text = page.read_text("utf-8")
    assert text.count("<script>") == 1
    assert text.count('<figure class="pair"') == 4
    assert text.count("&lt;script&gt;alert(") >= 5
    for heading in ("Plots", "Pictures", "Images", "Stability", "Codes"):
        assert f"<h2>{heading}</h2>" in text
    with Image.open(picture) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
    again = vqtok("report", "--images", tmp_path / "in", "-m", run, "--html", page)
    assert again.code == 1
    assert "exists: pass --overwrite" in again.error
    assert page.read_text("utf-8") == text
    bare = vqtok("report", "--images", tmp_path / "in", "-m", run, "--html", page, "-f", "--max-pictures", 0)
    assert bare.code == 0
    assert '<figure class="pair"' not in page.read_text("utf-8")


def test_thresholds(vqtok: Vqtok, two: list[Path], photos: Path, run: Path) -> None:
    assert vqtok("report", two[0], "--fail-under-usage", 1, "-q").code == 0
    under = vqtok("report", *two, "--fail-under-usage", 0.5, "--json")
    assert under.code == 4
    assert len(under.json["reports"]) == 2
    told = [line for line in under.err.splitlines() if "--fail-under" in line]
    assert told == [f"vqtok report: warning: {two[1]}: used is 0.125, under --fail-under-usage 0.5"]
    call = ["report", "--images", photos / "b", "-m", run, "--json", "--fail-under-psnr"]
    assert vqtok(*call, 1).code == 0
    bad = vqtok(*call, 99)
    assert bad.code == 4
    assert f"psnr is {bad.json['psnr']:.6g} dB, under --fail-under-psnr 99" in bad.err
    json.loads(bad.out)
    seen = vqtok("report", "--images", photos / "b", "-m", run, "--perceptual", "--fail-under-recognized", 1, "--json")
    share = seen.json["recognized_alike"]
    assert 0 <= share < 1
    assert seen.code == 4
    assert f"recognized_alike is {share:.6g}, under --fail-under-recognized 1" in seen.err
