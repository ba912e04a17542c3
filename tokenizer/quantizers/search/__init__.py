"""Nearest-code search: `argmin_j |z - c_j|^2`, exactly, and without an (N, K) tensor.

Every search first scores all code vectors in float32, in tiles that stay in a cache or in a fused kernel, and keeps
for each latent the best code, its score and the second best score. Where the two scores lie closer than float32 can
tell apart, by a proven bound, float64 decides. The answer is that of float64 whatever the batch, its split, or the
device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.quantizers.search.fused import fits_kernel, scan_fused
from tokenizer.quantizers.search.graph import scan_graph
from tokenizer.quantizers.search.precision import full_precision
from tokenizer.quantizers.search.scores import ScoreFactors
from tokenizer.quantizers.search.settle import settle_in_float64
from tokenizer.quantizers.search.tiles import scan_several, scan_tiles

__all__ = ["is_exporting", "largest_product", "nearest", "nearest_several"]


@torch.no_grad()
def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """Return for each latent the code whose vector is nearest, the lowest among equals.

    It is that of float64 brute force whatever the inputs' type; two codes are equals where float64 cannot tell their
    distances apart either. Memory grows with N + K, not with N * K.

    Args:
        z: (N, D) latents.
        codebook: (K, D) code vectors, K at least 1.

    Returns:
        (N,) int64 in 0..K-1.

    Raises:
        NonFiniteError: a latent or a code vector is not finite.
    """
    if is_exporting():
        return scan_graph(z, codebook, by_distance=True)
    with full_precision(z.device.type):
        return _best_codes(ScoreFactors.of_distances(z, codebook))


@torch.no_grad()
def largest_product(z: Tensor, codebook: Tensor) -> Tensor:
    """Return for each (N, D) latent the code whose vector has the largest inner product, the lowest among equals.

    Returns:
        (N,) int64 in 0..K-1.

    Raises:
        NonFiniteError: as `nearest`.
    """
    if is_exporting():
        return scan_graph(z, codebook, by_distance=False)
    with full_precision(z.device.type):
        return _best_codes(ScoreFactors.of_products(z, codebook))


@torch.no_grad()
def nearest_several(z: Tensor, codebook: Tensor, count: int) -> Tensor:
    """Return for each (N, D) latent its `count` nearest codes, nearest first, and of equals the lowest first.

    Returns:
        (N, count) int64.

    Raises:
        NonFiniteError: as `nearest`.
    """
    with full_precision(z.device.type):
        factors = ScoreFactors.of_distances(z, codebook)
        found, certain = scan_several(factors, count)
        return _settle(factors, found, certain, count)


def is_exporting() -> bool:
    """Return whether a graph is being traced for `torch.export`, or a format made from it."""
    # torch 2.6 says only that it traces; the search itself is never compiled.
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())


def _best_codes(factors: ScoreFactors) -> Tensor:
    found = scan_fused(factors) if fits_kernel(factors) else scan_tiles(factors)
    return _settle(factors, found.codes[:, None], found.certain(factors), 1)[:, 0]


def _settle(factors: ScoreFactors, found: Tensor, certain: Tensor, count: int) -> Tensor:
    """Return (N, count) codes: those found, but for latents whose (N,) `certain` is false those that float64 finds."""
    doubtful = certain.logical_not().nonzero()[:, 0]
    if len(doubtful):
        found[doubtful] = settle_in_float64(factors, doubtful, count)
    return found
