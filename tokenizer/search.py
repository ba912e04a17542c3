"""Nearest code: `argmin_j |z - c_j|^2`, in float32, without an (N, K) tensor."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Scores of one block: 1 MiB stays in a core's cache; a GPU wants large products instead.
_BLOCK_SCORES = {"cpu": 2**18, "cuda": 2**26}


@torch.no_grad()
def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Return for each latent the index of its nearest code, the lowest one among equal codes.

    Works in float32 whatever the inputs are, in blocks of rows: memory grows with N + K, not with N * K.
    Both sides are shifted by the mean code first, so that a common offset costs no precision.

    Args:
        z: (N, D) latents.
        codebook: (K, D) codes, K at least 1.

    Returns:
        (N,) int64 in 0..K-1.
    """
    found = torch.empty(len(z), dtype=torch.int64, device=z.device)
    for rows, scores in _closeness(z, codebook):
        torch.argmax(scores, dim=1, out=found[rows])
    return found


@torch.no_grad()
def nearest_several(z: Tensor, codebook: Tensor, count: int) -> Tensor:
    """Return for each (N, D) latent the indices of its `count` nearest codes, nearest first: (N, count) int64."""
    found = torch.empty(len(z), count, dtype=torch.int64, device=z.device)
    for rows, scores in _closeness(z, codebook):
        found[rows] = scores.topk(count, dim=1).indices
    return found


@torch.no_grad()
def largest_product(z: Tensor, codebook: Tensor) -> Tensor:
    """Return for each (N, D) latent the index of the code with the largest inner product: (N,) int64."""
    found = torch.empty(len(z), dtype=torch.int64, device=z.device)
    with torch.autocast(z.device.type, enabled=False):
        codes = codebook.float().t()
        for rows in _blocks(len(z), codes.shape[1], z.device.type):
            torch.argmax(z[rows].float() @ codes, dim=1, out=found[rows])
    return found


def _closeness(z: Tensor, codebook: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of rows with their (rows, K) `z . c - |c|^2 / 2`, which is largest where the distance is least."""
    with torch.autocast(z.device.type, enabled=False):
        codes = codebook.float()
        centre = codes.mean(dim=0)
        codes = codes - centre
        half_norms = codes.square().sum(dim=1).mul_(0.5)
        columns = codes.t()
        for rows in _blocks(len(z), len(codes), z.device.type):
            yield rows, torch.addmm(half_norms, z[rows].float() - centre, columns, beta=-1)


def _blocks(rows: int, codes: int, device: str) -> Iterator[slice]:
    size = max(1, _BLOCK_SCORES.get(device, 2**22) // codes)
    return (slice(start, start + size) for start in range(0, rows, size))
