"""Drawn gradients of every color and slope through the checkpoints that ship: no visible grid, no patchwork."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tokenizer.models import load_checkpoint, shipped, to_pixels, to_unit_range
from tokenizer.report import FlatAreas, flat_blocks, measure_flat_areas


@dataclass(frozen=True)
class Bounds:
    """What a checkpoint must keep to, as `metrics.DEFINITIONS` has the figures.

    `flat_psnr` (dB) is over all gradients together, `worst` of the one that comes back worst; both from below.
    `blocking` and `patchwork` (levels) are over all together, from above.
    """

    flat_psnr: float
    worst: float
    blocking: float
    patchwork: float


# A little on the lenient side of what was measured.
BOUNDS = {
    "photo-f8": Bounds(flat_psnr=21.2, worst=13.6, blocking=1.5, patchwork=3.8),
    "photo-f8-rvq": Bounds(flat_psnr=39.3, worst=27.5, blocking=1.3, patchwork=0.65),
    "photo-f16": Bounds(flat_psnr=20.3, worst=12.5, blocking=1.2, patchwork=4.8),
}
SIDE = 96
LEVELS = (0, 128, 255)
SLOPES = (0.0, 0.125, 0.25, 0.5, 1.0)  # levels a pixel, of the channel that changes most


def gradient(number: int, color: tuple[int, ...], slope: float) -> np.ndarray:
    """Return a (SIDE, SIDE, 3) ramp that has `color` in its middle; direction and color of the ramp go by `number`."""
    random = np.random.default_rng(number)
    angle = random.uniform(0, 2 * np.pi)
    change = random.uniform(-1, 1, 3)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along = (x * np.cos(angle) + y * np.sin(angle)) * slope
    pixels = np.array(color) + along[..., None] * change / np.abs(change).max()
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def gradients() -> np.ndarray:
    """Return all of them, (N, SIDE, SIDE, 3)."""
    kinds = itertools.product(itertools.product(LEVELS, repeat=3), SLOPES)
    return np.stack([gradient(number, *kind) for number, kind in enumerate(kinds)])


def areas_of(name: str) -> list[FlatAreas]:
    model = load_checkpoint(shipped.locate_checkpoint(name))
    measured = []
    for batch in np.split(gradients(), 9):
        tokens = model.encode(to_unit_range(torch.from_numpy(batch)))
        made = to_pixels(model.decode(tokens)).numpy()
        measured += [measure_flat_areas(*pair, model.downsample) for pair in zip(batch, made, strict=True)]
    return measured


def test_what_is_drawn() -> None:
    drawn = gradients()
    assert len(drawn) == 27 * 5
    assert all(flat_blocks(picture).all() for picture in drawn)
    assert (drawn[0] == 0).all()  # black, without slope
    assert np.ptp(drawn[64 + 5].astype(int), axis=(0, 1)).max() > 50  # gray in the middle, one level a pixel


def test_every_checkpoint_has_bounds() -> None:
    assert shipped.shipped_names() == tuple(sorted(BOUNDS))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_gradients_come_back_smooth(name: str) -> None:
    bounds, each = BOUNDS[name], areas_of(name)
    together = sum(each, FlatAreas())
    assert together.psnr is not None
    assert together.psnr > bounds.flat_psnr
    assert min(areas.psnr for areas in each if areas.psnr is not None) > bounds.worst
    assert together.blocking is not None
    assert together.blocking < bounds.blocking
    assert together.patchwork is not None
    assert together.patchwork < bounds.patchwork
