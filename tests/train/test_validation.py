"""Which images are kept for validation, and the batches that they make."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import draw, save
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.train import validation_batches
from tokenizer.train.validation import split_validation


def test_split_is_fixed_by_the_seed_and_loses_nothing(photos: Path) -> None:
    sources = find_images([photos])
    train, validation = split_validation(sources, 5, seed=3)
    assert len(validation) == 5
    assert {s.name for s in train} | {s.name for s in validation} == {s.name for s in sources}
    assert len(train) + 5 == len(sources)
    assert split_validation(sources, 5, seed=3) == (train, validation)
    assert split_validation(sources, 5, seed=4)[1] != validation


def test_validation_images_are_cut_not_resized(tmp_path: Path) -> None:
    pixels = draw(45, 61)
    sources = [Source("a", save(tmp_path / "a.png", pixels)), Source("bad", tmp_path / "missing.png")]
    sources.append(Source("large", save(tmp_path / "b.png", draw(600, 700))))
    unreadable: dict[str, str] = {}
    small, large = validation_batches(sources, 16, 4, (255, 255, 255), unreadable)
    assert torch.equal(small[0], torch.from_numpy(pixels[6:38, 14:46].copy()))
    assert large.shape == (1, 256, 256, 3)
    assert unreadable == {"bad": "it does not exist, or is a link to nothing"}


def test_no_readable_validation_image(tmp_path: Path) -> None:
    assert validation_batches([Source("gone", tmp_path / "gone.png")], 16, 4, (255, 255, 255), {}) == []


@pytest.mark.parametrize("validation", [1, 3])
def test_validation_images_that_are_all_damaged_are_drawn_anew(photos: Path, tmp_path: Path, validation: int) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    sources = find_images([tmp_path])
    _, first = split_validation(sources, validation, seed=0)
    for source in first:
        Path(str(source.file)).write_bytes(b"no image")
    train, second = split_validation(sources, validation, seed=0)
    assert len(second) == validation
    assert {source.name for source in first} <= {source.name for source in train}
    Path(str(first[0].file)).write_bytes(Path(str(second[0].file)).read_bytes())
    assert split_validation(sources, validation, seed=0)[1] == first


def test_no_or_only_damaged_images_are_split(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    sources = find_images([tmp_path])
    assert split_validation(sources, 0, seed=0) == (list(sources), [])
    train, validation = split_validation(sources, 4, seed=0)
    assert (len(train), len(validation)) == (11, 4)


def test_an_image_smaller_than_one_position_is_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (3, 5), "red").save(tmp_path / "a.png")
    (batch,) = validation_batches([Source("a", tmp_path / "a.png")], 16, 4, (255, 255, 255), {})
    assert batch.shape == (1, 16, 16, 3)
    assert batch[0, 8, 8].tolist() == [255, 0, 0]
