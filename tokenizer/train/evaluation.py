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
        psnr: in dB on rounded 8-bit pixels, mean over images; one that came back exactly counts 100 dB.
        used: share of codes chosen at least once, 0 to 1, over all code slots.
        perplexity: of the code frequencies, geometric mean over code slots.
        tokens: how many were counted.
    """

    psnr: float
    used: float
    perplexity: float
    tokens: int


def evaluate(model: Tokenizer, batches: Sequence[Tensor]) -> Evaluation:
    """Return the figures of `model` over (B, H, W, 3) uint8 batches, those of all ranks together."""
    values: list[float] = []
    counts = [np.zeros(size, np.int64) for size in model.codebook_sizes]
    for batch in batches:
        tokens, decoded = _round_trip(model, batch)
        values += [min(psnr(one, two), _EXACT) for one, two in zip(batch.numpy(), decoded, strict=True)]
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


def validation_picture(model: Tokenizer, batch: Tensor) -> Pixels:
    """Return a picture with the first images of a (B, H, W, 3) uint8 batch above their reconstructions."""
    from torchvision.utils import make_grid  # here: its import takes longer than most starts

    originals = batch[:_SHOWN]
    _, decoded = _round_trip(model, originals)
    both = torch.cat([originals, torch.from_numpy(decoded)]).permute(0, 3, 1, 2)
    grid: Tensor = make_grid(both, nrow=len(originals), padding=4, pad_value=255)
    return np.ascontiguousarray(grid.permute(1, 2, 0).numpy())


def _round_trip(model: Tokenizer, batch: Tensor) -> tuple[NDArray[np.int64], Pixels]:
    device = next(model.parameters()).device
    tokens = model.encode(to_unit_range(batch.to(device)))
    return tokens.cpu().numpy(), to_pixels(model.decode(tokens)).cpu().numpy()
