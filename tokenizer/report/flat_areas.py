"""Flat areas: how skies, fog and blurred backgrounds come back, where eyes see patches and grids that PSNR does not.

Everything is of the 8x8 blocks of a picture, counted from its top left corner, whose original varies little: they are
the same blocks whatever the tokenizer's downsampling is, so that its figures compare. Sums over pictures are kept and
divided once for the whole set: a picture with three flat blocks counts for three blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.images import Pixels

FLAT_BLOCK = 8
# In levels of 255. A block that comes back as its mean has at least 36 dB there.
FLAT_DEVIATION = 4
# Mean square of the difference of two independent roundings to whole levels: 1/12 each.
_ROUNDING = 1 / 6


@dataclass(frozen=True)
class FlatAreas:
    """Sums over the flat blocks of any number of pictures, from which their figures follow; `+` joins them.

    Attributes:
        blocks: whole 8x8 blocks of the pictures.
        flat: those of them that are flat.
        squared_error: over the samples of flat blocks, in squared levels.
        line_steps, line_pairs: squared steps of the reconstruction between neighboring pixels across the tokenizer's
            grid lines, both pixels flat, over the three channels; and how many pairs of pixels these are.
        inner_steps, inner_pairs: the same of all other neighboring pixels.
        mean_steps, mean_pairs: squared differences of the mean error between neighboring flat blocks, over the three
            channels; and how many pairs of blocks these are.
    """

    blocks: int = 0
    flat: int = 0
    squared_error: int = 0
    line_steps: int = 0
    line_pairs: int = 0
    inner_steps: int = 0
    inner_pairs: int = 0
    mean_steps: float = 0.0
    mean_pairs: int = 0

    def __add__(self, other: FlatAreas) -> FlatAreas:
        """Return the sums over the pictures of both."""
        return FlatAreas(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def share(self) -> float | None:
        """Share of blocks that are flat, 0 to 1; None without whole blocks."""
        return self.flat / self.blocks if self.blocks else None

    @property
    def psnr(self) -> float | None:
        """PSNR over the flat blocks in dB; None without them, or without any error in them."""
        if not self.squared_error:
            return None
        return 10 * math.log10(255**2 * self.flat * FLAT_BLOCK**2 * 3 / self.squared_error)

    @property
    def blocking(self) -> float | None:
        """Mean squared step across grid lines over that elsewhere: 1 is no grid; None without pixels of either kind.

        Of the reconstruction, not of its error: originals that were JPEG have a grid of their own, which the error
        shows wherever the reconstruction has none.

        Source: Yim, Bovik, "Quality Assessment of Deblocked Images" (IEEE Transactions on Image Processing 20, 2011),
        whose blocking effect factor takes the mean squared difference of neighboring pixels at block boundaries
        against that of all others. Departures: their ratio instead of their difference, so that it depends neither
        on contrast nor on the size of a picture; in flat areas alone, where a grid is seen and no edge of the original
        lies; with what rounding to 8 bits adds in both, so that steps too small to be seen do not count.
        """
        if not (self.line_pairs and self.inner_pairs):
            return None
        lines, inner = self.line_steps / (3 * self.line_pairs), self.inner_steps / (3 * self.inner_pairs)
        return (lines + _ROUNDING) / (inner + _ROUNDING)

    @property
    def patchwork(self) -> float | None:
        """Root mean square of the differences of the mean error of neighboring blocks, in levels of 255."""
        return math.sqrt(self.mean_steps / (3 * self.mean_pairs)) if self.mean_pairs else None

    def figures(self) -> dict[str, float | None]:
        """Return the figures under their names in `metrics.DEFINITIONS`."""
        return {
            "flat_psnr": self.psnr,
            "flat_share": self.share,
            "blocking": self.blocking,
            "patchwork": self.patchwork,
        }


def measure_flat_areas(original: Pixels, made: Pixels, downsample: int, offset: tuple[int, int] = (0, 0)) -> FlatAreas:
    """Return the sums over the flat blocks of one picture.

    Args:
        original, made: (H, W, 3) uint8 pixels, without padding.
        downsample: side of the pixels of a position.
        offset: (top, left) of the picture on the network's canvas, on which the grid lines lie at multiples of
            `downsample`.
    """
    flat = flat_blocks(original)
    height, width = (side * FLAT_BLOCK for side in flat.shape)
    pixels = flat.repeat(FLAT_BLOCK, axis=0).repeat(FLAT_BLOCK, axis=1)
    whole = made[:height, :width].astype(np.int32)
    error = whole - original[:height, :width]
    means = error.reshape(flat.shape[0], FLAT_BLOCK, flat.shape[1], FLAT_BLOCK, 3).mean(axis=(1, 3))
    steps = [_steps(*side, downsample, origin) for side, origin in zip(_both_ways(whole, pixels), offset, strict=True)]
    jumps = [_jumps(*side) for side in _both_ways(means, flat)]
    line_steps, line_pairs, inner_steps, inner_pairs = (sum(counts) for counts in zip(*steps, strict=True))
    return FlatAreas(
        flat.size,
        int(flat.sum()),
        int(np.square(error)[pixels].sum(dtype=np.int64)),
        line_steps,
        line_pairs,
        inner_steps,
        inner_pairs,
        sum(squares for squares, _ in jumps),
        sum(pairs for _, pairs in jumps),
    )


def flat_blocks(pixels: Pixels) -> NDArray[np.bool_]:
    """Return which of the (H // 8, W // 8) blocks of a (H, W, 3) picture are flat.

    Flat is a standard deviation over the block of at most `FLAT_DEVIATION` in each channel: of luminance alone, edges
    between colors that are equally bright would be flat.
    """
    return np.asarray((block_deviations(pixels) <= FLAT_DEVIATION).all(axis=-1))


def block_deviations(pixels: Pixels) -> NDArray[np.float64]:
    """Return the (H // 8, W // 8, 3) standard deviations of the whole 8x8 blocks of a (H, W, 3) picture, in levels."""
    rows, columns = (side // FLAT_BLOCK for side in pixels.shape[:2])
    whole = pixels[: rows * FLAT_BLOCK, : columns * FLAT_BLOCK].astype(np.int32)
    blocks = whole.reshape(rows, FLAT_BLOCK, columns, FLAT_BLOCK, 3)
    # In integers, so that a block on the threshold is on the same side of it everywhere; at most 64^2 * 255^2 < 2^31.
    variance = FLAT_BLOCK**2 * np.square(blocks).sum(axis=(1, 3)) - np.square(blocks.sum(axis=(1, 3)))
    return np.asarray(np.sqrt(variance) / FLAT_BLOCK**2)


def _both_ways(values: NDArray[Any], flat: NDArray[np.bool_]) -> tuple[tuple[NDArray[Any], NDArray[np.bool_]], ...]:
    """Return the values and the mask with rows first, and with columns first."""
    return (values, flat), (values.swapaxes(0, 1), flat.swapaxes(0, 1))


def _steps(
    pixels: NDArray[np.int32], flat: NDArray[np.bool_], downsample: int, origin: int
) -> tuple[int, int, int, int]:
    """Return squared steps down the rows and their number, across grid lines and elsewhere."""
    both = flat[1:] & flat[:-1]
    squares = (np.square(np.diff(pixels, axis=0)).sum(axis=-1) * both).sum(axis=1, dtype=np.int64)
    pairs = both.sum(axis=1)
    lines = (np.arange(1, len(flat)) + origin) % downsample == 0
    return int(squares[lines].sum()), int(pairs[lines].sum()), int(squares[~lines].sum()), int(pairs[~lines].sum())


def _jumps(means: NDArray[np.float64], flat: NDArray[np.bool_]) -> tuple[float, int]:
    """Return the squared differences of mean errors down the rows, and their number."""
    both = flat[1:] & flat[:-1]
    return float(np.square(np.diff(means, axis=0))[both].sum()), int(both.sum())
