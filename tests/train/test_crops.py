from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import draw, save
from tokenizer.config import TrainConfig
from tokenizer.errors import TrainingError
from tokenizer.images import Pixels, Source, read_image, resize
from tokenizer.inputs import find_images
from tokenizer.train.crops import Crops, crop_batches


def crops_of(sources: Sequence[Source], size: int = 16, **settings: Any) -> Crops:
    return Crops(sources, TrainConfig(image_size=size, **settings))


def test_a_crop_depends_on_its_number_alone(photos: Path) -> None:
    sources = find_images([photos])
    first, second = crops_of(sources), crops_of(sources)
    wanted = first.batch(range(60))
    shuffled = torch.randperm(60).tolist()
    assert torch.equal(second.batch(shuffled), wanted[shuffled])
    assert not torch.equal(crops_of(sources, seed=1).batch(range(60)), wanted)


def test_crops_are_flipped_half_of_the_time(tmp_path: Path) -> None:
    pixels = draw(32, 32)
    pixels[:, :16], pixels[:, 16:] = 0, 255
    save(tmp_path / "a.png", pixels)
    crops = crops_of(find_images([tmp_path]), 8).batch(range(400)).float()
    darker_left = (crops[:, :, 0].mean(dim=(1, 2)) < crops[:, :, -1].mean(dim=(1, 2))).sum()
    darker_right = (crops[:, :, 0].mean(dim=(1, 2)) > crops[:, :, -1].mean(dim=(1, 2))).sum()
    assert 0.4 < darker_left / (darker_left + darker_right) < 0.6


@pytest.mark.parametrize("workers", [1, 3])
def test_prefetching_changes_nothing_and_can_begin_anywhere(photos: Path, workers: int) -> None:
    sources = find_images([photos])
    plain = list(islice(crop_batches(crops_of(sources), 5, 0, workers=0), 9))
    feed = crop_batches(crops_of(sources), 5, 20, workers=workers)
    ahead = list(islice(feed, 5))
    feed.close()
    assert all(torch.equal(one, two) for one, two in zip(plain[4:], ahead, strict=True))


def test_shares_of_a_step_together_are_the_step(photos: Path) -> None:
    sources = find_images([photos])
    whole = list(islice(crop_batches(crops_of(sources), 6, 12, workers=0), 5))
    shares = [list(islice(crop_batches(crops_of(sources), 2, 12, workers=0, share=(part, 3)), 5)) for part in range(3)]
    assert all(torch.equal(torch.cat(parts), step) for *parts, step in zip(*shares, whole, strict=True))


def test_an_unreadable_image_is_missing_and_never_replaced(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", draw(32, 32, number))
    (tmp_path / "3.png").write_bytes(b"nothing")
    crops = crops_of(find_images([tmp_path]))
    assert len(crops.batch(range(4))) == 3
    assert crops.take_unreadable() == (("3.png", "not an image, or of an unknown format"),)
    assert crops.take_unreadable() == ()
    good = crops_of(find_images([tmp_path]))
    readable = [n for n in range(4) if good.order.draw(n).image != 3]
    assert torch.equal(crops.batch(range(4)), good.batch(readable))


def test_no_readable_image_at_all(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"nothing")
    feed = crop_batches(crops_of(find_images([tmp_path])), 2, 0, workers=0)
    with pytest.raises(TrainingError, match=r"none of 5 images can be read, the first is \d.png: not an image"):
        assert not [len(batch) for batch in feed if len(batch)]


def windows(pixels: Pixels, size: int) -> set[bytes]:
    """Return all square parts of that side, as they are and turned over."""
    rows, columns = (range(length - size + 1) for length in pixels.shape[:2])
    parts = [pixels[top : top + size, left : left + size] for top in rows for left in columns]
    return {part.tobytes() for part in [*parts, *(part[:, ::-1] for part in parts)]}


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 20), (0.75, 125, 175), (1.0, 200, 200)])
def test_native_crops_are_pixels_of_the_image(tmp_path: Path, share: float, least: int, most: int) -> None:
    pixels = noise(60, 80)
    crops = crops_of([Source("a", save(tmp_path / "a.png", pixels))], 12, native_crops=share)
    there = windows(pixels, 12)
    found = [crop for n in range(200) if (crop := crops.crop(n)) is not None and crop.tobytes() in there]
    assert least <= len(found) <= most
    if share == 1:  # anywhere, turned over or not
        assert len({crop.tobytes() for crop in found}) > 180


def test_other_crops_are_shrunk_never_enlarged_each_halving_alike() -> None:
    crops = crops_of([Source("a", lambda: noise(8, 8))], 16, native_crops=0.0)
    spans = [crops._span(256, n, np.random.default_rng(n)) for n in range(2000)]
    assert 16 <= min(spans) < 17
    assert 250 < max(spans) <= 256
    halvings = np.bincount(np.log2(np.array(spans) / 16).astype(int))
    assert halvings.tolist() == pytest.approx([500] * 4, rel=0.15)
    assert crops._span(10, 0, np.random.default_rng(0)) == 10, "all of a smaller one, which is enlarged"


def test_crops_of_earlier_versions_can_be_had_to_the_bit(tmp_path: Path) -> None:
    pixels = noise(40, 24)
    source = Source("a", save(tmp_path / "a.png", pixels))
    crops = crops_of([source], 16, native_crops=0.0, smallest_crop=0.5, seed=3)
    for number in range(20):
        random = np.random.default_rng([3, 1, number])
        side = round(24 * random.uniform(0.5, 1))
        top, left = int(random.integers(40 - side + 1)), int(random.integers(24 - side + 1))
        wanted = resize(pixels, 16, 16, (top, left, side, side))
        wanted = wanted[:, ::-1] if random.random() < 0.5 else wanted
        crop = crops.crop(number)
        assert crop is not None
        assert (crop == wanted).all()


def test_crops_are_of_the_scale_at_which_images_will_be_encoded(tmp_path: Path) -> None:
    large = Source("large", save(tmp_path / "large.png", draw(96, 120)))
    crops = crops_of([large], 16, native_crops=1.0, encode_size=32)
    there = windows(read_image(tmp_path / "large.png", shrink_to=32), 16)
    assert all(crop.tobytes() in there for n in range(20) if (crop := crops.crop(n)) is not None)
    # Encoding enlarges a smaller one: a crop spans 16 * 20 / 32 of its pixels.
    pixels = noise(20, 21)
    crops = crops_of([Source("small", save(tmp_path / "small.png", pixels))], 16, native_crops=1.0, encode_size=32)
    places = [(top, left, 10, 10) for top in range(11) for left in range(12)]
    enlarged = [resize(pixels, 16, 16, place) for place in places]
    there = {part.tobytes() for part in [*enlarged, *(part[:, ::-1] for part in enlarged)]}
    assert all(crop.tobytes() in there for n in range(20) if (crop := crops.crop(n)) is not None)


class Counted:
    """An image that counts how often it is read."""

    def __init__(self, seed: int) -> None:
        self.seed, self.reads = seed, 0

    def __call__(self) -> Pixels:
        self.reads += 1
        return draw(40, 48, self.seed)


def test_a_large_image_is_read_once_for_several_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer.train.crops.CACHE_BYTES", 0)
    files = [Counted(number) for number in range(30)]
    sources = [Source(str(number), file) for number, file in enumerate(files)]
    crops = crops_of(sources, crops_per_read=4)
    inorder = crops.batch(range(120))
    assert {file.reads for file in files} == {1}
    assert not crops._waiting
    # What was read before changes nothing.
    other = torch.randperm(120, generator=torch.Generator().manual_seed(0)).tolist()
    assert torch.equal(crops_of(sources, crops_per_read=4).batch(other), inorder[other])
    ahead = crop_batches(crops_of(sources, crops_per_read=4), 8, 40, workers=3)
    assert torch.equal(torch.cat(list(islice(ahead, 10))), inorder[40:])
    ahead.close()


def test_waiting_crops_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer.train.crops.CACHE_BYTES", 0)
    monkeypatch.setattr("tokenizer.train.crops._WAITING_BYTES", 10 * 3 * 16**2)
    sources = [Source(str(number), Counted(number)) for number in range(30)]
    crops = crops_of(sources, crops_per_read=4)
    for number in range(0, 120, 2):  # another process takes the others
        crops.crop(number)
        assert len(crops._waiting) <= 8


def test_images_in_memory_are_read_once() -> None:
    files = [Counted(number) for number in range(3)]
    crops_of([Source(str(number), file) for number, file in enumerate(files)]).batch(range(30))
    assert [file.reads for file in files] == [1, 1, 1]
