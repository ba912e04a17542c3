"""The checkpoints that ship: each is whole, small, described, and good at what its card says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from tokenizer.images import placement_of
from tokenizer.metrics import psnr
from tokenizer.models import describe_checkpoint, fingerprint_of, load_checkpoint, shipped, to_pixels, to_unit_range

# dB of the four photographs below together, from the tokens alone: half a decibel under what was measured.
FLOORS = {"photo-f8": 27.1, "photo-f8-rvq": 28.5, "photo-f16": 24.6}


def test_these_ship() -> None:
    assert shipped.shipped_names() == tuple(sorted(FLOORS))
    assert shipped.DEFAULT_CHECKPOINT in shipped.shipped_names()


def test_a_name_stands_for_a_folder_unless_something_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.locate_checkpoint("photo-f8") == shipped.shipped_folder() / "photo-f8"
    assert shipped.locate_checkpoint(Path("photo-f16")) == shipped.shipped_folder() / "photo-f16"
    assert shipped.locate_checkpoint("run") == Path("run")
    assert shipped.locate_checkpoint("./photo-f8") == Path("photo-f8")
    assert shipped.locate_checkpoint("") == Path()
    Path("photo-f8").mkdir()
    assert shipped.locate_checkpoint("photo-f8") == Path("photo-f8")


def test_they_lie_in_the_package_when_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "tokenizer")
    assert shipped.shipped_names() == ()
    shutil.copytree(run, tmp_path / "checkpoints/beside")
    assert shipped.shipped_names() == ("beside",)
    shutil.copytree(run, tmp_path / "tokenizer/checkpoints/inside")
    assert shipped.shipped_names() == ("inside",)
    assert shipped.locate_checkpoint("inside") == tmp_path / "tokenizer/checkpoints/inside"


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_each_is_small_and_has_a_card(name: str) -> None:
    folder = shipped.locate_checkpoint(name)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").stat().st_size <= 25e6
    card, made = (folder / "README.md").read_text("utf-8"), describe_checkpoint(folder)
    assert fingerprint_of(folder)[:12] in card
    assert f"{made.bits_per_pixel:.4f}" in card
    for heading in ("Use", "Figures", "Training", "Data and licenses", "Limits"):
        assert f"\n## {heading}\n" in card
    assert not re.search(r"(?<![\w.])/(work|home|tmp|root)/", card + (folder / "config.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FLOORS))
def test_each_gives_photographs_back(name: str) -> None:
    model = load_checkpoint(shipped.locate_checkpoint(name))
    photos = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    decibels = []
    for pixels in (np.ascontiguousarray(photo[:256, :256]) for photo in photos):
        placement = placement_of(pixels.shape[:2], "none", None, model.downsample)
        tokens = model.encode(to_unit_range(torch.from_numpy(placement.apply(pixels))[None]))
        decoded = placement.content_of(to_pixels(model.decode(tokens))[0].numpy())
        decibels.append(psnr(pixels, decoded))
    assert np.mean(decibels) > FLOORS[name]
