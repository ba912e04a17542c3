from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.conftest import draw, save
from tokenizer.errors import TrainingError
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.train.crops import Crops, crop_batches


def test_every_image_comes_once_an_epoch_in_another_order(photos: Path) -> None:
    sources = find_images([photos])
    crops = Crops(sources, 16, seed=0)
    orders = [[crops._index(n) for n in range(e * len(sources), (e + 1) * len(sources))] for e in range(3)]
    for order in orders:
        assert sorted(order) == list(range(len(sources)))
    assert orders[0] != orders[1] != orders[2]


def uneven(tmp_path: Path) -> list[Source]:
    names = [*(f"many/{n}.png" for n in range(12)), "few/a.png", "few/b.png", "loose.png"]
    return [Source(name, tmp_path / name) for name in names]


@pytest.mark.parametrize(("balance", "shares"), [(0.0, [12, 2, 1]), (0.5, [9, 4, 2]), (1.0, [5, 5, 5])])
def test_balance_says_how_often_a_folder_comes(tmp_path: Path, balance: float, shares: list[int]) -> None:
    sources = uneven(tmp_path)
    crops = Crops(sources, 16, seed=0, balance=balance)
    orders = [[crops._index(n) for n in range(e * 15, (e + 1) * 15)] for e in range(4)]
    for order in orders:
        assert [sum(row < 12 for row in order), sum(row in (12, 13) for row in order), order.count(14)] == shares
    assert orders[0] != orders[1]
    # Over the epochs each image of a folder comes as often as any other, within one.
    for rows in (range(12), range(12, 14)):
        counts = [sum(order.count(row) for order in orders) for row in rows]
        assert max(counts) - min(counts) <= 1
    again = Crops(sources, 16, seed=0, balance=balance)
    assert [again._index(n) for n in (59, 3, 31)] == [orders[3][14], orders[0][3], orders[2][1]]
    assert Crops(sources, 16, seed=1, balance=balance)._index(7) != orders[0][7] or balance


def test_a_crop_depends_on_its_number_alone(photos: Path) -> None:
    sources = find_images([photos])
    first, second = Crops(sources, 16, seed=0), Crops(sources, 16, seed=0)
    wanted = first.batch(range(60))
    shuffled = torch.randperm(60).tolist()
    assert torch.equal(second.batch(shuffled), wanted[shuffled])
    assert not torch.equal(Crops(sources, 16, seed=1).batch(range(60)), wanted)


def test_crops_are_flipped_half_of_the_time(tmp_path: Path) -> None:
    pixels = draw(32, 32)
    pixels[:, :16], pixels[:, 16:] = 0, 255
    save(tmp_path / "a.png", pixels)
    crops = Crops(find_images([tmp_path]), 8, seed=0).batch(range(400)).float()
    darker_left = (crops[:, :, 0].mean(dim=(1, 2)) < crops[:, :, -1].mean(dim=(1, 2))).sum()
    darker_right = (crops[:, :, 0].mean(dim=(1, 2)) > crops[:, :, -1].mean(dim=(1, 2))).sum()
    assert 0.4 < darker_left / (darker_left + darker_right) < 0.6


@pytest.mark.parametrize("workers", [1, 3])
def test_prefetching_changes_nothing_and_can_begin_anywhere(photos: Path, workers: int) -> None:
    sources = find_images([photos])
    plain = list(islice(crop_batches(Crops(sources, 16, seed=0), 5, 0, workers=0), 9))
    feed = crop_batches(Crops(sources, 16, seed=0), 5, 20, workers=workers)
    ahead = list(islice(feed, 5))
    feed.close()
    assert all(torch.equal(one, two) for one, two in zip(plain[4:], ahead, strict=True))


def test_shares_of_a_step_together_are_the_step(photos: Path) -> None:
    sources = find_images([photos])
    whole = list(islice(crop_batches(Crops(sources, 16, seed=0), 6, 12, workers=0), 5))
    shares = [
        list(islice(crop_batches(Crops(sources, 16, seed=0), 2, 12, workers=0, share=(part, 3)), 5))
        for part in range(3)
    ]
    assert all(torch.equal(torch.cat(parts), step) for *parts, step in zip(*shares, whole, strict=True))


def test_an_unreadable_image_is_missing_and_never_replaced(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", draw(32, 32, number))
    (tmp_path / "3.png").write_bytes(b"nothing")
    crops = Crops(find_images([tmp_path]), 16, seed=0)
    assert len(crops.batch(range(4))) == 3
    assert crops.take_unreadable() == (("3.png", "not an image, or of an unknown format"),)
    assert crops.take_unreadable() == ()
    good = Crops(find_images([tmp_path]), 16, seed=0)
    readable = [n for n in range(4) if good._index(n) != 3]
    assert torch.equal(crops.batch(range(4)), good.batch(readable))


def test_no_readable_image_at_all(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"nothing")
    feed = crop_batches(Crops(find_images([tmp_path]), 16, seed=0), 2, 0, workers=0)
    with pytest.raises(TrainingError, match=r"none of 5 images can be read, the first is \d.png: not an image"):
        assert not [len(batch) for batch in feed if len(batch)]
