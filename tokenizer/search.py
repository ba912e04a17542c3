"""Nearest code: `argmin_j |z - c_j|^2`, in float32, without an (N, K) tensor."""

from __future__ import annotations

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
    with torch.autocast(z.device.type, enabled=False):
        codes = codebook.float()
        centre = codes.mean(dim=0)
        codes = codes - centre
        half_norms = codes.square().sum(dim=1).mul_(0.5)
        columns = codes.t()
        rows = max(1, _BLOCK_SCORES.get(z.device.type, 2**22) // len(codes))
        found = torch.empty(len(z), dtype=torch.int64, device=z.device)
        for start in range(0, len(z), rows):
            block = z[start : start + rows].float() - centre
            scores = torch.addmm(half_norms, block, columns, beta=-1)
            torch.argmax(scores, dim=1, out=found[start : start + rows])
        return found
