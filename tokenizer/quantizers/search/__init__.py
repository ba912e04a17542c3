"""Nearest code, exactly: `argmin_j |z - c_j|^2` without an (N, K) tensor.

Every search first scores all codes in float32, in tiles that stay in a cache or in a fused kernel, and keeps for each
latent the best code, its score and the runner-up's. Where these two lie closer than float32 can tell apart, by a
proven bound, float64 decides. The answer is that of float64 whatever the batch, its split, or the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.quantizers.search.fused import fits_kernel, scan_fused
from tokenizer.quantizers.search.graph import scan_graph
from tokenizer.quantizers.search.precision import full_precision
from tokenizer.quantizers.search.scores import Scores
from tokenizer.quantizers.search.settle import in_float64
from tokenizer.quantizers.search.tiles import scan_several, scan_tiles

__all__ = ["largest_product", "nearest", "nearest_several"]


@torch.no_grad()
def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Return for each latent the index of its nearest code, the lowest one among equals.

    The index is that of float64 brute force whatever the inputs' type; codes are equals when float64 cannot tell them
    apart either. Memory grows with N + K, not with N * K.

    Args:
        z: (N, D) latents.
        codebook: (K, D) codes, K at least 1.

    Returns:
        (N,) int64 in 0..K-1.

    Raises:
        NonFiniteError: a latent or a code is not finite.
    """
    if _exporting():
        return scan_graph(z, codebook, by_distance=True)
    with full_precision(z.device.type):
        return _winners(Scores.distances(z, codebook))


@torch.no_grad()
def largest_product(z: Tensor, codebook: Tensor) -> Tensor:
    """Return for each (N, D) latent the index of the code with the largest inner product, the lowest among equals.

    Returns:
        (N,) int64 in 0..K-1.

    Raises:
        NonFiniteError: as `nearest`.
    """
    if _exporting():
        return scan_graph(z, codebook, by_distance=False)
    with full_precision(z.device.type):
        return _winners(Scores.products(z, codebook))


@torch.no_grad()
def nearest_several(z: Tensor, codebook: Tensor, count: int) -> Tensor:
    """Return for each (N, D) latent the indices of its `count` nearest codes, nearest first, the lowest of equals.

    Returns:
        (N, count) int64.

    Raises:
        NonFiniteError: as `nearest`.
    """
    with full_precision(z.device.type):
        scores = Scores.distances(z, codebook)
        found, certain = scan_several(scores, count)
        return _settle(scores, found, certain, count)


def _exporting() -> bool:
    # torch 2.6 says only that it traces; the search itself is never compiled.
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())


def _winners(scores: Scores) -> Tensor:
    found = scan_fused(scores) if fits_kernel(scores) else scan_tiles(scores)
    return _settle(scores, found.index[:, None], found.certain(scores), 1)[:, 0]


def _settle(scores: Scores, found: Tensor, certain: Tensor, count: int) -> Tensor:
    """Return (N, count) `found`, with those of the rows where (N,) `certain` is false decided in float64."""
    rows = certain.logical_not().nonzero()[:, 0]
    if len(rows):
        found[rows] = in_float64(scores, rows, count)
    return found
