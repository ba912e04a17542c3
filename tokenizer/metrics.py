"""Figures of pictures and of codebook use, each defined once, in `DEFINITIONS`. Importing it needs numpy alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]

# What a table shows in place of a figure that there is not.
NO_FIGURE = "-"
# With fewer tokens for each code of the alphabets, `used` and `perplexity` are low for that alone.
FEW_TOKENS_PER_CODE = 20
SSIM_WINDOW = 11
# Exponents of the five scales, the finest first: table 1 of the paper that `ms_ssim` names.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_LEAST = SSIM_WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)

DEFINITIONS = {
    "used": "share of codes chosen at least once over the whole set",
    "dead": "number of codes never chosen over the whole set",
    "perplexity": "2 ** entropy_bits of the code frequencies over the whole set",
    "entropy_bits": "entropy of the code frequencies over the whole set, in bits per code",
    "bits_per_pixel": "log2 of the alphabet size, summed over all tokens, per pixel of the pictures without padding",
    "top_1_percent": "share of tokens that the most used 1 % of the codes hold, rounded up to whole codes",
    "top_10_percent": "share of tokens that the most used 10 % of the codes hold, rounded up to whole codes",
    "zipf_exponent": "s of greatest likelihood where the used code of rank r has a share proportional to r^-s: 0 is "
    "even use, 1 is Zipf's law; none for fewer than 10 used codes",
    "ranked": "rank among the used codes and share of tokens, at most 200 ranks spread evenly over their logarithm",
    "joint": "all codes of a position as one: combinations seen and possible, their entropy in bits per position and "
    "its perplexity; exact, or none where too many differ",
    "curve": "used and perplexity of all slots together after the first 256, 512, ... positions, in the order in which "
    "the files hold them",
    "positions": "entropy of the code frequencies at each position of the grid, mean over slots, in bits per code, of "
    "an even sample of the images with at most 4194304 tokens; never above log2 of its images",
    "single_bits": "bits per code of a coder that knows the frequencies of single codes, fitted to one half of the "
    "images and measured on the other, both ways, over an even sample of at most 4194304 tokens: it can be reached, "
    "which the entropy of few tokens cannot",
    "context_bits": "as single_bits, of a coder that also knows the codes left and above in the slot and the one "
    "before in the position, and falls back on less by absolute discounting: fitted to one half of the images, "
    "measured on the other; a better coder, or one fitted to more tokens, needs less",
    "rate": "bits per pixel of the pictures without padding: as stored, at entropy_bits, and at context_bits",
    "nearest": "Euclidean distance from each code vector to the nearest other one: least, median and largest; "
    "nearest_relative is over the root mean squared norm of the code vectors",
    "effective_rank": "exp of the entropy of the normalized singular values of the centered distinct code vectors "
    "(Roy, Vetterli 2007); at most their width",
    "psnr": "10 log10(255^2 / MSE) in dB on rounded 8-bit RGB decoded from the tokens, mean over images",
    "ssim": "structural similarity on the same pixels, 11x11 Gaussian window (sigma 1.5) inside the picture, "
    "mean over images",
    "ms_ssim": "multi-scale structural similarity on the same pixels: five scales, each half the one before, of each "
    "channel, mean over channels and over images with both sides of 176 pixels or more",
    "flat_psnr": "PSNR on the same pixels over flat blocks alone: those 8x8 blocks, counted from the top left corner "
    "of a picture, whose original has a standard deviation of at most 4 of 255 levels in each channel; one MSE over "
    "all flat blocks of the set",
    "flat_share": "share of the whole 8x8 blocks of the originals that are flat",
    "blocking": "mean squared step of the reconstruction between neighboring pixels of flat blocks across the grid "
    "lines of the positions, over that between all other neighboring pixels of flat blocks, each plus the 1/6 that "
    "rounding to 8 bits makes: 1 is no grid (after Yim, Bovik 2011)",
    "patchwork": "root mean square, in levels of 255, of how much the mean error of a channel differs between "
    "neighboring flat blocks: smooth areas that come back in patches of different colors",
    "lpips": "LPIPS 0.1 on the same pixels at their own size, of the network that `lpips_network` names, "
    "mean over images",
    "rfid": "Frechet distance between the 2048 pooled Inception-v3 features of originals and of reconstructions, as "
    "torch-fidelity resizes and computes them; too large for fewer than 2048 images",
    "lite0_distance": "squared distance between the features of EfficientNet-Lite0 at strides 2, 4, 8, 16 and 32 (16, "
    "24, 40, 112 and 320 channels), each position's features of unit length, mean over positions, summed over the five "
    "(Zhang et al. 2018, equation 1, without learned weights), 0 to 20, on the same pixels at their own size; mean "
    "over images with both sides of 32 pixels or more",
    "lite0_frechet": "Frechet distance between the 1280 pooled features that EfficientNet-Lite0 has of originals and "
    "of reconstructions, each feature by itself (diagonal covariances), of the central 224x224 pixels of each, or the "
    "central square where a side is shorter; over images with both sides of 32 pixels or more. It is no FID; of few "
    "images it is too large",
    "recognized_alike": "share of images whose first class of 1000 by EfficientNet-Lite0 is that of the original, of "
    "the central 224x224 pixels of both, or the central square where a side is shorter; over images with both sides of "
    "32 pixels or more",
    "baselines": "each original written as JPEG (4:2:0, own Huffman tables) and WebP (lossy) at the highest quality "
    "whose file, header included and metadata left out, is not larger than log2 of the alphabet size summed over its "
    "tokens, or at the lowest where even that is larger; bits over pixels of all pictures, PSNR and SSIM as above",
    "changes": "changed is the share of tokens that differ between a picture and a changed one, both cut from what the "
    "network sees of an image so that neither is padded, over all images; psnr is between what the two decode to, the "
    "change undone by moving or resizing the second, mean over images where they differ",
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

    def most_used(self, count: int) -> list[tuple[int, int, float]]:
        """Return (code, times chosen, share of all tokens) of the most used codes, most used first."""
        order = np.argsort(-self.counts, kind="stable")[:count]
        return [(int(code), int(self.counts[code]), float(self.counts[code] / max(1, self.tokens))) for code in order]


@dataclass(frozen=True)
class OverallUsage:
    """Use of several alphabets together: one code slot each.

    `used` and `dead` are over the codes of all slots, `entropy_bits` is the mean over slots, `perplexity` 2 to it.
    """

    used: float
    dead: int
    entropy_bits: float
    perplexity: float


def overall_usage(usages: Sequence[Usage]) -> OverallUsage:
    """Return the figures of all code slots together."""
    dead = sum(usage.dead for usage in usages)
    entropy = float(np.mean([usage.entropy_bits for usage in usages]))
    return OverallUsage(1 - dead / sum(len(usage.counts) for usage in usages), dead, entropy, 2**entropy)


def add_counts(counts: Sequence[NDArray[np.int64]], tokens: NDArray[Any]) -> None:
    """Count (..., C) tokens, all in range, into C arrays, each of the size of its alphabet."""
    for slot, count in enumerate(counts):
        codes = tokens[..., slot].ravel().astype(np.int64)
        if len(codes) < len(count):
            np.add.at(count, codes, 1)  # few tokens of a large alphabet, which is not walked through for them
        else:
            count[:] += np.bincount(codes, minlength=len(count))


def effective_rank(vectors: Tensor) -> float:
    """Return exp of the entropy of the normalized singular values of centered (M, D) vectors; 0 when all are one.

    Source: Roy, Vetterli, "The effective rank: A measure of effective dimensionality" (EUSIPCO 2007), definition 1.
    """
    import torch

    distinct = torch.unique(vectors.detach().cpu().double(), dim=0)
    if len(distinct) < 2:
        return 0.0
    values = torch.linalg.svdvals(distinct - distinct.mean(dim=0))
    return float(torch.special.entr(values / values.sum()).sum().exp())


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None without any."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def psnr(first: Pixels, second: Pixels) -> float:
    """Return the PSNR in dB of two (H, W, 3) uint8 pictures; infinity when they are equal."""
    error = float(np.square(first.astype(np.float64) - second).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(first: Pixels, second: Pixels) -> float | None:
    """Return the SSIM of two (H, W, 3) uint8 pictures, or None when a side is shorter than its window (11).

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity" (2004), with its constants and its window, on each channel.
    """
    return None if min(first.shape[:2]) < SSIM_WINDOW else _similarity(first, second)


def ms_ssim(first: Pixels, second: Pixels) -> float | None:
    """Return the MS-SSIM of two (H, W, 3) uint8 pictures, 0 to 1, or None when a side is shorter than 176 pixels.

    Source: Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment" (2003),
    equation 7, with its weights, on each channel. A mean below 0 counts as 0: its power would not be real.
    """
    if min(first.shape[:2]) < MS_SSIM_LEAST:
        return None
    return float(np.mean([_multi_scale(first[..., channel], second[..., channel]) for channel in range(3)]))


def _multi_scale(first: NDArray[Any], second: NDArray[Any]) -> float:
    product = 1.0
    *fine, coarsest = MS_SSIM_WEIGHTS
    for weight in fine:
        # With a luminance constant this large, its term is 1: contrast and structure are left.
        product *= max(0.0, _similarity(first, second, K1=1e10)) ** weight
        first, second = _halved(first), _halved(second)
    return product * max(0.0, _similarity(first, second)) ** coarsest


def _halved(channel: NDArray[Any]) -> NDArray[np.float64]:
    """Return the means of the 2x2 blocks of (H, W) samples; an odd last row or column is dropped."""
    height, width = (side // 2 for side in channel.shape)
    blocks = channel[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return blocks.mean(axis=(1, 3), dtype=np.float64)


def _similarity(first: NDArray[Any], second: NDArray[Any], **constants: float) -> float:
    """Return the SSIM of two (H, W) or (H, W, C) arrays of samples of 0 to 255."""
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(
        first,
        second,
        channel_axis=2 if first.ndim == 3 else None,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        **constants,
    )
    return float(similarity)
