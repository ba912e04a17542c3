"""Figures: of pictures and of codebook use. One definition each, in `DEFINITIONS`; numpy alone but for SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.images import Pixels

SSIM_WINDOW = 11

DEFINITIONS = {
    "used": "share of codes chosen at least once over the whole set",
    "dead": "number of codes never chosen over the whole set",
    "perplexity": "2 ** entropy_bits of the code frequencies over the whole set",
    "entropy_bits": "entropy of the code frequencies over the whole set, in bits per code",
    "bits_per_pixel": "log2 of the alphabet size, summed over all tokens, per pixel of the pictures without padding",
    "psnr": "10 log10(255^2 / MSE) in dB on rounded 8-bit RGB decoded from the tokens, mean over images",
    "ssim": "structural similarity on the same pixels, 11x11 Gaussian window (sigma 1.5) inside the picture, "
    "mean over images",
}


@dataclass(frozen=True)
class Usage:
    """How one alphabet is used. `counts` is (K,) int64: how often each code was chosen."""

    counts: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Number of tokens counted."""
        return int(self.counts.sum())

    @property
    def dead(self) -> int:
        """Number of codes never chosen."""
        return int((self.counts == 0).sum())

    @property
    def used(self) -> float:
        """Share of codes chosen at least once, 0 to 1."""
        return 1 - self.dead / len(self.counts)

    @property
    def entropy_bits(self) -> float:
        """Entropy of the code frequencies in bits, 0 to log2(K); 0 without tokens."""
        if not self.tokens:
            return 0.0
        frequencies = self.counts[self.counts > 0] / self.tokens
        return float(-(frequencies * np.log2(frequencies)).sum()) + 0.0

    @property
    def perplexity(self) -> float:
        """2 ** entropy_bits, 1 to K."""
        return float(2**self.entropy_bits)

    def top(self, count: int) -> list[tuple[int, int, float]]:
        """Return (code, times chosen, share of all tokens) of the most used codes, most used first."""
        order = np.argsort(-self.counts, kind="stable")[:count]
        return [(int(code), int(self.counts[code]), float(self.counts[code] / max(1, self.tokens))) for code in order]


@dataclass(frozen=True)
class Overall:
    """Use of several alphabets together: one code slot each.

    `used` and `dead` are over the codes of all slots, `entropy_bits` is the mean over slots, `perplexity` 2 to it.
    """

    used: float
    dead: int
    entropy_bits: float
    perplexity: float


def overall(usages: Sequence[Usage]) -> Overall:
    """Return the figures of all code slots together."""
    dead = sum(usage.dead for usage in usages)
    entropy = float(np.mean([usage.entropy_bits for usage in usages]))
    return Overall(1 - dead / sum(len(usage.counts) for usage in usages), dead, entropy, 2**entropy)


def add_counts(counts: Sequence[NDArray[np.int64]], tokens: NDArray[Any]) -> None:
    """Count (..., C) tokens, all in range, into C arrays, each of the size of its alphabet."""
    for slot, count in enumerate(counts):
        count[:] += np.bincount(tokens[..., slot].ravel().astype(np.int64), minlength=len(count))


def psnr(first: Pixels, second: Pixels) -> float:
    """Return the PSNR in dB of two (H, W, 3) uint8 pictures; infinity when they are equal."""
    error = float(np.square(first.astype(np.float64) - second).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(first: Pixels, second: Pixels) -> float | None:
    """Return the SSIM of two (H, W, 3) uint8 pictures, or None when a side is shorter than its window (11).

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity" (2004), with its constants and its window, on each channel.
    """
    if min(first.shape[:2]) < SSIM_WINDOW:
        return None
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(
        first, second, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(similarity)
