"""The smoothest photographs of a folder: the rule, one file of each, and the table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import smooth
from tests.conftest import draw, save
from tokenizer.inputs import find_images


def ramp(slope: float) -> np.ndarray:
    return np.tile((np.arange(32) * slope).astype(np.uint8)[:, None, None], (1, 40, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = {"b/sky.png": ramp(1), "b/sky_t1.png": ramp(0), "a/fog.png": ramp(2), "a/sea_t2.png": ramp(3)}
    for name, pixels in {**pictures, "a/wood.png": draw(32, 40) // 2 * 2, "a/sky.png": ramp(4)}.items():
        save(tmp_path / "photos" / name, pixels)
    return tmp_path / "photos"


def test_by_the_deviation_of_blocks(folder: Path) -> None:
    by_name = {source.name: smooth.roughness(source) for source in find_images([folder])}
    assert by_name["b/sky_t1.png"] == 0
    assert by_name["b/sky.png"] == pytest.approx(np.std(range(8)))
    assert by_name["a/fog.png"] == pytest.approx(2 * np.std(range(8)))


def test_one_file_of_each_photograph(folder: Path) -> None:
    names = [source.name for source in smooth.smoothest(list(find_images([folder])), 4)]
    assert names == ["b/sky_t1.png", "a/fog.png", "a/sea_t2.png", "a/sky.png"]


@pytest.mark.slow
def test_the_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["smooth", str(folder), "-n", "2", "--save", str(tmp_path / "names.txt")])
    smooth.main()
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == ["b/sky_t1.png", "a/fog.png", ""]
    assert (tmp_path / "names.txt").read_text() == "b/sky_t1.png\na/fog.png\n"
    rows = {line.split("|")[1].split()[0]: line.split("|")[2:-1] for line in shown[5:]}
    assert list(rows) == ["photo-f8", "JPEG", "WebP"]
    assert rows["photo-f8"][0].strip() == "0.219"
    monkeypatch.setattr(sys, "argv", ["smooth", str(folder), "--of", str(tmp_path / "names.txt"), "--no-baselines"])
    smooth.main()
    assert capsys.readouterr().out.splitlines()[-1].split("|")[2:-1] == rows["photo-f8"]
