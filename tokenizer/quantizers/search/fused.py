"""Fused search on a GPU, by a kernel in Triton, where that can be had."""

from __future__ import annotations

import functools
import importlib.util
import warnings

import torch
from torch import Tensor

from tokenizer.quantizers.search.scores import BestScores, ScoreFactors

# Tensor cores multiply numbers of 11 bits (TF32). So each float32 number is taken as a sum, a = a1 + a2, of two such
# numbers, and a b as a1 b1 + a1 b2 + a2 b1. Left out are a2 b2 and what the cuts of a2 and b2 lose: each at most 2^-20
# of the product. Sums are cut off in place of rounded: two bits more than the 2^-24 of float32 are allowed for.
_SPLIT, _UNIT = 3 * 2.0**-20, 2.0**-22
# Programs that keep a GPU busy; with fewer latents, several programs share the codes of one.
_PROGRAMS = 1024


def fits_kernel(factors: ScoreFactors) -> bool:
    """Return whether the kernel can do this search here."""
    return factors.latents.is_cuda and len(factors.latents) > 0 and _runs(factors.latents.device)


def scan_fused(factors: ScoreFactors) -> BestScores:
    """Return the best and the second best score of each latent, and the code of the best."""
    from tokenizer.quantizers.search.kernel import launch_kernel

    rows, count = len(factors.latents), len(factors.codebook)
    shares = max(1, min(_PROGRAMS // -(-rows // 64), count // 1024))
    device = factors.latents.device
    codes = torch.empty(shares, rows, dtype=torch.int32, device=device)
    best, second = torch.empty(2, shares, rows, device=device).unbind()
    with torch.cuda.device_of(factors.latents):  # type: ignore[no-untyped-call]  # where Triton launches
        launch_kernel(factors.latents, factors.vectors, count, shares, (codes, best, second))
    return _join(codes, best, second, factors.rounding(_UNIT) + _SPLIT)


def _join(codes: Tensor, best: Tensor, second: Tensor, error: float) -> BestScores:
    """Return the best of all shares from the (S, N) best of each."""
    # The lowest share of equals holds the lowest code; they are decided in float64 anyway.
    share = best.argmax(dim=0, keepdim=True)
    highest = best.gather(0, share)
    others = best.scatter(0, share, -torch.inf).amax(dim=0)
    runner_up = torch.maximum(second.gather(0, share)[0], others)
    return BestScores(codes.gather(0, share)[0].long(), highest[0], runner_up, error)


@functools.cache
def _runs(device: torch.device) -> bool:
    """Return whether the kernel compiles and runs on that device; where it should and does not, say why once."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        from tokenizer.quantizers.search.kernel import launch_kernel

        probe = torch.zeros(1, 2, device=device)
        out = torch.empty(1, 1, dtype=torch.int32, device=device), torch.empty_like(probe), torch.empty_like(probe)
        with torch.cuda.device(device):
            launch_kernel(probe, probe, 1, 1, out)
            torch.cuda.synchronize(device)
    except Exception as error:  # noqa: BLE001  # whatever a compiler, a driver or an old GPU raises: there is another way
        warnings.warn(f"the fused search does not run on {device}, a slower one does: {error}", stacklevel=2)
        return False
    return True
