"""Figures and a picture of the validation images, decoded from the tokens alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer import runtime
from tokenizer.images import Pixels
from tokenizer.metrics import Usage, add_counts, overall_usage, psnr
from tokenizer.models import Tokenizer, to_pixels, to_unit_range

_SHOWN = 8
_EXACT = 100.0


@dataclass(frozen=True)
class Evaluation:
    """Figures over the validation images.

    Attributes:
        psnr: in dB on rounded 8-bit pixels of all tiles of an image, mean over images; one that came back exactly
            counts 100 dB.
        used: share of codes chosen at least once, 0 to 1, over all code slots.
        perplexity: of the code frequencies, geometric mean over code slots.
        tokens: how many were counted.
    """

    psnr: float
    used: float
    perplexity: float
    tokens: int


def evaluate(model: Tokenizer, batches: Sequence[Tensor]) -> Evaluation:
    """Return the figures of `model` over batches of images in tiles, those of all ranks together.

    Batches are (P, T, H, W, 3) uint8, see `validation_batches`.
    """
    values: list[float] = []
    counts = [np.zeros(size, np.int64) for size in model.codebook_sizes]
    for batch in batches:
        tokens, decoded = _round_trip(model, batch.flatten(0, 1))
        pairs = zip(batch.numpy(), decoded.reshape(batch.shape), strict=True)
        values += [min(psnr(*pair), _EXACT) for pair in pairs]
        add_counts(counts, tokens)
    total = runtime.sum_over_ranks(torch.tensor([math.fsum(values), len(values)], dtype=torch.float64)).tolist()
    counts = [runtime.sum_over_ranks(torch.from_numpy(count)).numpy() for count in counts]
    usages = [Usage(count) for count in counts]
    together = overall_usage(usages)
    return Evaluation(
        psnr=total[0] / total[1],
        used=together.used,
        perplexity=together.perplexity,
        tokens=sum(usage.tokens for usage in usages),
    )


def validation_picture(model: Tokenizer, batches: Sequence[Tensor]) -> Pixels:
    """Return a picture with a tile of each of the first images above their reconstructions.

    `batches` are (P, T, H, W, 3) uint8; of those with the first one's size, the first images are shown.
    """
    from torchvision.utils import make_grid  # here: its import takes longer than most starts

    firsts = [batch[:, 0] for batch in batches]
    originals = torch.cat([first for first in firsts if first.shape[1:] == firsts[0].shape[1:]])[:_SHOWN]
    _, decoded = _round_trip(model, originals)
    both = torch.cat([originals, torch.from_numpy(decoded)]).permute(0, 3, 1, 2)
    grid: Tensor = make_grid(both, nrow=len(originals), padding=4, pad_value=255)
    return np.ascontiguousarray(grid.permute(1, 2, 0).numpy())


def _round_trip(model: Tokenizer, batch: Tensor) -> tuple[NDArray[np.int64], Pixels]:
    device = next(model.parameters()).device
    tokens = model.encode(to_unit_range(batch.to(device)))
    return tokens.cpu().numpy(), to_pixels(model.decode(tokens)).cpu().numpy()
