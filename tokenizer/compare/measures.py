"""Figures of one finished entry, each defined once, in `COMPARISON_DEFINITIONS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer.images import Pixels
from tokenizer.metrics import DEFINITIONS, Usage, add_counts, effective_rank, mean_or_none, overall_usage, psnr, ssim
from tokenizer.models import Tokenizer, to_pixels, to_unit_range
from tokenizer.perceptual import Lite0Scores
from tokenizer.report import FlatAreas, measure_flat_areas

MOST_VECTORS = 65_536
MOST_POINTS = 200

COMPARISON_DEFINITIONS = {
    "psnr": "10 log10(255^2 / MSE) in dB on rounded 8-bit RGB of the validation images, decoded from the tokens alone "
    "by the averaged weights, of large ones up to four tiles at their own size; mean over images, without those that "
    "came back exactly",
    "ssim": "structural similarity on the same pixels, 11x11 Gaussian window (sigma 1.5); mean over images",
    **{
        key: f"{DEFINITIONS[key]}; each tile is an image"
        for key in ("lite0_distance", "lite0_frechet", "recognized_alike")
    },
    **{key: DEFINITIONS[key] for key in ("flat_psnr", "flat_share", "blocking", "patchwork")},
    "bits_per_position": "log2 of the alphabet size, summed over the codes of one position",
    "bits_per_pixel": "log2 of the alphabet size, summed over the codes of one position, over its pixels",
    "used": "share of codes chosen at least once over all validation images",
    "perplexity": "2 to the entropy of the code frequencies over all validation images, geometric mean over the codes "
    "of a position: how many codes it is as good as",
    "tokens": "codes counted for used and perplexity; where they are few, both are low for that alone",
    "effective_rank": "exp of the entropy of the normalized singular values of the centered distinct vectors that the "
    f"validation tokens decode to (Roy, Vetterli 2007), of a fixed sample of {MOST_VECTORS} where there are more; at "
    "most the width of a latent",
    "loss_steadiness": "standard deviation over mean of the training loss, auxiliary terms included, in the last tenth "
    "of the steps: lower is steadier",
    "steps_to_common": "first step at which the validation PSNR, mean over seeds and linear between evaluations, "
    "reaches the lowest final PSNR of all contestants; no earlier than the first evaluation",
    "reached": "share of codes that get a gradient in a step, mean over a sample of the steps with codes in use; of "
    "moving averages the share chosen; 1 where parameters shared by all codes get one; none without a codebook; of "
    "several codebooks the mean",
    "seconds_per_step": "median wall-clock time of a step with codes in use, without evaluations",
    "cpu_seconds_per_step": "processor time of the process in the same steps, mean: other work on the machine hardly "
    "changes it",
    "peak_memory_mb": "most memory held while the entry ran, in 2^20 bytes: on CUDA what torch allocated, else of the "
    "whole process, with what earlier entries left in it",
}

Points = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class EntryFigures:
    """Numbers of one entry, each as `COMPARISON_DEFINITIONS` says; None where it has no meaning or could not be had."""

    psnr: float | None
    ssim: float | None
    bits_per_position: float
    bits_per_pixel: float
    used: float
    perplexity: float
    tokens: int
    effective_rank: float
    loss_steadiness: float | None
    reached: float | None
    seconds_per_step: float | None
    cpu_seconds_per_step: float | None
    peak_memory_mb: float | None
    lite0_distance: float | None = None
    lite0_frechet: float | None = None
    recognized_alike: float | None = None
    flat_psnr: float | None = None
    flat_share: float | None = None
    blocking: float | None = None
    patchwork: float | None = None


@dataclass(frozen=True)
class SoftFigures:
    """Of pictures decoded from soft vectors, which no token holds: nothing that could be stored or sent."""

    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class EntryCurves:
    """Validation figures at each evaluation, and the loss in at most `MOST_POINTS` stretches: (step, value)."""

    psnr: Points
    used: Points
    perplexity: Points
    loss: Points


@dataclass(frozen=True)
class ModelFigures:
    """What the tokens of the validation images say."""

    psnr: float | None
    ssim: float | None
    used: float
    perplexity: float
    tokens: int
    effective_rank: float
    soft: SoftFigures | None
    flat: FlatAreas


def measure_model(model: Tokenizer, batches: Sequence[Tensor]) -> ModelFigures:
    """Return the figures of `model`, in evaluation mode, over (P, T, H, W, 3) uint8 batches of images in tiles."""
    soft = getattr(model.quantizer, "soft", None)
    counts = [np.zeros(size, np.int64) for size in model.codebook_sizes]
    distinct: list[Tensor] = []
    hard_scores, soft_scores = PictureScores(), PictureScores()
    flat = FlatAreas()
    for images in batches:
        batch, tiles = images.flatten(0, 1), images.shape[1]
        tokens, pictures = decode_batch(model, batch)
        hard_scores.add(batch.numpy(), pictures, tiles)
        flat = sum(
            (measure_flat_areas(*pair, model.downsample) for pair in zip(batch.numpy(), pictures, strict=True)), flat
        )
        add_counts(counts, tokens.cpu().numpy())
        distinct.append(torch.unique(tokens.flatten(0, -2), dim=0))
        if soft is not None:
            soft_scores.add(batch.numpy(), decode_batch_softly(model, soft, batch), tiles)
    together = overall_usage([Usage(count) for count in counts])
    return ModelFigures(
        hard_scores.psnr,
        hard_scores.ssim,
        together.used,
        together.perplexity,
        int(sum(count.sum() for count in counts)),
        effective_rank(_vectors(model, torch.unique(torch.cat(distinct), dim=0))),
        SoftFigures(soft_scores.psnr, soft_scores.ssim) if soft is not None else None,
        flat,
    )


@dataclass(frozen=True)
class Lite0Figures:
    """What EfficientNet-Lite0 sees, None of pictures that are too small for it."""

    lite0_distance: float | None
    lite0_frechet: float | None
    recognized_alike: float | None


def measure_lite0(model: Tokenizer, batches: Sequence[Tensor]) -> Lite0Figures:
    """Return what EfficientNet-Lite0 sees of `model`'s pictures, decoded from tokens, each tile a picture.

    Batches are (P, T, H, W, 3) uint8, images in tiles.

    Raises:
        UsageError: the extra `perceptual` is not installed.
        InputError: its file is missing, damaged, or holds something else.
        DeviceError: out of memory.
    """
    scores = Lite0Scores(_device(model))
    seen = [
        scores.add(original, picture)
        for batch in (images.flatten(0, 1) for images in batches)
        for original, picture in zip(batch.numpy(), decode_batch(model, batch)[1], strict=True)
    ]
    distance = mean_or_none(score.distance for score in seen if score is not None)
    return Lite0Figures(distance, scores.frechet, scores.recognized_alike)


class PictureScores:
    """PSNR and SSIM of pictures against originals, means over images."""

    def __init__(self) -> None:
        self._psnr: list[float] = []
        self._ssim: list[float | None] = []

    def add(self, originals: Pixels, pictures: Pixels, tiles: int = 1) -> None:
        """Compare (B, H, W, 3) pictures, where each `tiles` that follow one another are of one image.

        An image's PSNR is that of all pixels of its tiles, its SSIM the mean over them.
        """
        pairs = list(zip(originals, pictures, strict=True))
        for start in range(0, len(pairs), tiles):
            of_image = slice(start, start + tiles)
            self._psnr.append(psnr(originals[of_image], pictures[of_image]))
            self._ssim.append(mean_or_none(ssim(*pair) for pair in pairs[of_image]))

    @property
    def psnr(self) -> float | None:
        """In dB, over images that did not come back exactly; None when all did."""
        return mean_or_none(value for value in self._psnr if math.isfinite(value))

    @property
    def ssim(self) -> float | None:
        """Over images that are not smaller than the window; None when all are."""
        return mean_or_none(self._ssim)


def decode_batch(model: Tokenizer, batch: Tensor) -> tuple[Tensor, Pixels]:
    """Return the (B, h, w, C) tokens of a (B, H, W, 3) uint8 batch, and the pictures decoded from them alone."""
    tokens = model.encode(to_unit_range(batch.to(_device(model))))
    return tokens, to_pixels(model.decode(tokens)).cpu().numpy()


@torch.inference_mode()
def decode_batch_softly(model: Tokenizer, soft: Callable[[Tensor], Tensor], batch: Tensor) -> Pixels:
    """Return the pictures decoded from the soft vectors of a batch."""
    latents = model.latents(to_unit_range(batch.to(_device(model))))
    return to_pixels(model.pictures(soft(latents)).clamp(-1, 1)).cpu().numpy()


@torch.inference_mode()
def _vectors(model: Tokenizer, tokens: Tensor) -> Tensor:
    """Return the (M, D) vectors of (N, C) distinct tokens, of a fixed sample of them where there are too many."""
    if len(tokens) > MOST_VECTORS:
        drawn = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))[:MOST_VECTORS]
        tokens = tokens[drawn.to(tokens.device)]
    return model.quantizer.decode(tokens)


def loss_steadiness(losses: Sequence[float]) -> float | None:
    """Return standard deviation over mean of the last tenth of the losses, at least two; None for fewer."""
    last: NDArray[np.float64] = np.array(losses[-max(2, len(losses) // 10) :])
    return float(last.std() / last.mean()) if len(last) > 1 and last.mean() > 0 else None


def thin_curve(points: Sequence[tuple[int, float]]) -> Points:
    """Return (last step, mean value) of at most `MOST_POINTS` stretches of equal length."""
    length = max(1, -(-len(points) // MOST_POINTS))
    stretches = [points[start : start + length] for start in range(0, len(points), length)]
    return tuple((float(part[-1][0]), float(np.mean([value for _, value in part]))) for part in stretches)


def bits_per_position(sizes: Sequence[int]) -> float:
    """Return the bits of one position with codes of these alphabet sizes."""
    return sum(math.log2(size) for size in sizes)


def _device(model: Tokenizer) -> torch.device:
    return next(model.parameters()).device
