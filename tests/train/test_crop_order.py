"""Which image each crop is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.train.crop_order import CropOrder, folders_of


def named(*names: str) -> list[Source]:
    return [Source(name, Path(name)) for name in names]


def images(order: CropOrder, epoch: int, length: int) -> list[int]:
    return [order.draw(number).image for number in range(epoch * length, (epoch + 1) * length)]


def test_every_image_comes_once_an_epoch_in_another_order(photos: Path) -> None:
    sources = find_images([photos])
    order = CropOrder(sources, seed=0)
    epochs = [images(order, epoch, len(sources)) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(len(sources)))
    assert epochs[0] != epochs[1] != epochs[2]


UNEVEN = named(*(f"many/{n}.png" for n in range(12)), "few/a.png", "few/b.png", "loose.png")


@pytest.mark.parametrize(("balance", "shares"), [(0.0, [12, 2, 1]), (0.5, [9, 4, 2]), (1.0, [5, 5, 5])])
def test_balance_says_how_often_a_folder_comes(balance: float, shares: list[int]) -> None:
    order = CropOrder(UNEVEN, seed=0, balance=balance)
    epochs = [images(order, epoch, 15) for epoch in range(4)]
    for epoch in epochs:
        assert [sum(row < 12 for row in epoch), sum(row in (12, 13) for row in epoch), epoch.count(14)] == shares
    assert epochs[0] != epochs[1]
    # Over the epochs each image of a folder comes as often as any other, within one.
    for rows in (range(12), range(12, 14)):
        counts = [sum(epoch.count(row) for epoch in epochs) for row in rows]
        assert max(counts) - min(counts) <= 1
    again = CropOrder(UNEVEN, seed=0, balance=balance)
    assert [again.draw(n).image for n in (59, 3, 31)] == [epochs[3][14], epochs[0][3], epochs[2][1]]
    assert CropOrder(UNEVEN, seed=1, balance=balance).draw(7).image != epochs[0][7] or balance


def test_several_folders_of_images_are_balanced_as_one_that_holds_them() -> None:
    # `vqtok train a b`, where both hold folders: names begin where the deepest common folder ends.
    both = folders_of(named("a/sky/1.png", "a/sky/2.png", "a/sea/1.png", "b/sky/1.png", "b/loose.png"))
    assert [rows.tolist() for rows in both] == [[0, 1], [2], [3], [4]]
    alone = folders_of(named("sky/1.png", "sky/2.png", "sea/1.png"))
    assert [rows.tolist() for rows in alone] == [[0, 1], [2]]
    flat = folders_of(named("home/me/a/1.png", "home/me/b/1.png", "mnt/c/1.png", "mnt/c/2.png"))
    assert [rows.tolist() for rows in flat] == [[0], [1], [2, 3]]


def test_an_image_gives_several_crops_within_a_window_at_an_even_pace() -> None:
    order = CropOrder(named(*map(str, range(400))), seed=0, per_read=4, window=50)
    for epoch in range(2):
        drawn = images(order, epoch, 1600)
        assert np.bincount(drawn).tolist() == [4] * 400
        first = {image: number for number, image in reversed(list(enumerate(drawn)))}
        last = {image: number for number, image in enumerate(drawn)}
        assert max(last[image] - first[image] for image in first) <= 4 * 50 * 1.2
        # New images, which must be read, in each tenth of the epoch: none bunched at its beginning.
        tenths = np.bincount([number * 10 // 1600 for number in first.values()], minlength=10)
        assert tenths[:9].tolist() == pytest.approx([40] * 9, abs=16)
        later = order.draw(epoch * 1600 + first[7]).later
        assert list(later) == [epoch * 1600 + number for number, image in enumerate(drawn) if image == 7][1:]


def test_crops_of_one_image_that_comes_twice_an_epoch_are_told_apart() -> None:
    order = CropOrder(UNEVEN, seed=0, balance=1.0, per_read=2, window=15)
    drawn = images(order, 0, 30)
    assert [sum(row < 12 for row in drawn), sum(row in (12, 13) for row in drawn), drawn.count(14)] == [10, 10, 10]
    for number, image in enumerate(drawn):
        later = order.draw(number).later
        assert len(later) <= 1
        assert all(drawn[other] == image and other > number for other in later)
