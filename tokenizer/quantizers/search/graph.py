"""Search graph: one graph of standard operations, for `torch.export` and the formats made from its graphs.

Nothing in it depends on the values: float32 picks the best few codes of each tile, and then of all tiles; float64
decides between these. The answer is that of the eager search unless more codes than those few lie closer to the best
one than float32 can tell apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Scores of one latent that are held at once: no more memory than the network takes for it.
_TILE = 4096
_FEW = 16


def scan_graph(z: Tensor, codebook: Tensor, *, by_distance: bool) -> Tensor:
    """Return the (N,) codes of the nearest of (K, D) code vectors to each (N, D) latent, the lowest of equals.

    Where not `by_distance`, those of the largest inner product.
    """
    # In ascending order, as the first of equal losses wins.
    candidates = _candidates(z.float(), codebook.float(), by_distance=by_distance).sort(dim=1).values
    vectors, latents = codebook[candidates].double(), z[:, None].double()
    losses = (vectors - latents).square().sum(dim=2) if by_distance else -(vectors * latents).sum(dim=2)
    return candidates.gather(1, losses.argmin(dim=1, keepdim=True))[:, 0]


def _candidates(z: Tensor, codebook: Tensor, *, by_distance: bool) -> Tensor:
    """Return the (N, few) codes of the largest scores, which are those of `ScoreFactors`."""
    offsets = torch.zeros_like(codebook[:, 0])
    if by_distance:
        center = codebook.mean(dim=0)
        z, codebook = z - center, codebook - center
        offsets = codebook.square().sum(dim=1) / -2
    values, indices = [], []
    tiles = zip(torch.split(codebook, _TILE), torch.split(offsets, _TILE), strict=True)
    for number, (vectors, offset) in enumerate(tiles):
        scores = torch.addmm(offset, z, vectors.t())
        best = scores.topk(min(_FEW, len(vectors)), dim=1)
        values.append(best.values)
        indices.append(best.indices + number * _TILE)
    if len(indices) == 1:
        return indices[0]
    best_of_all = torch.cat(values, dim=1).topk(_FEW, dim=1).indices
    return torch.cat(indices, dim=1).gather(1, best_of_all)
