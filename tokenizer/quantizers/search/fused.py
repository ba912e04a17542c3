"""The search on a GPU by a fused kernel, where Triton can be had."""

from __future__ import annotations

import functools
import importlib.util
import warnings

import torch
from torch import Tensor

from tokenizer.quantizers.search.scores import Scores, Winners

# Three TF32 products stand for one in float32: cut to 11 bits, what is left of both sides again, and the product of
# what is left is not taken. Tensor cores cut sums off in place of rounding them; two bits more are allowed for.
_SPLIT, _UNIT = 3 * 2.0**-20, 2.0**-22
# Programs that keep a GPU busy; with fewer rows the codes are shared out.
_PROGRAMS = 1024


def fits_kernel(scores: Scores) -> bool:
    """Return whether the kernel can do this search here."""
    return scores.latents.is_cuda and len(scores.latents) > 0 and _runs(scores.latents.device)


def scan_fused(scores: Scores) -> Winners:
    """Return the best and the second best score of each latent, and the index of the best."""
    from tokenizer.quantizers.search.kernel import launch_kernel

    rows, codes = len(scores.latents), len(scores.codebook)
    shares = max(1, min(_PROGRAMS // -(-rows // 64), codes // 1024))
    device = scores.latents.device
    index = torch.empty(shares, rows, dtype=torch.int32, device=device)
    best, second = torch.empty(2, shares, rows, device=device).unbind()
    with torch.cuda.device_of(scores.latents):  # type: ignore[no-untyped-call]  # where Triton launches
        launch_kernel(scores.latents, scores.codes, codes, shares, (index, best, second))
    return _join(index, best, second, scores.rounding(_UNIT) + _SPLIT)


def _join(index: Tensor, best: Tensor, second: Tensor, error: float) -> Winners:
    """Return the winners of all shares from (S, N) those of each."""
    # The lowest share of equals holds the lowest index; they are decided in float64 anyway.
    share = best.argmax(dim=0, keepdim=True)
    highest = best.gather(0, share)
    others = best.scatter(0, share, -torch.inf).amax(dim=0)
    runner_up = torch.maximum(second.gather(0, share)[0], others)
    return Winners(index.gather(0, share)[0].long(), highest[0], runner_up, error)


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
