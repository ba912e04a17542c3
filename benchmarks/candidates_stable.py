"""StableVQ: what it does to the gradient of a latent, and its targets for dead codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.quantizers import register
from tokenizer.quantizers.straight_through import STE
from tokenizer.quantizers.tables import Transform


@torch.no_grad()
def region_targets(z: Tensor, codes: Tensor, chosen: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Return (K, D) targets for codes, and the (K,) bool of the codes that have one.

    A code that latents chose has their mean. Those that several latents chose share out as many places as there are
    dead codes in proportion to their latents, whole places first, then by largest remainder; each hands its target on
    to that many of the dead codes nearest to it, and a dead code takes the mean of what it is handed. Waits for the
    device.

    Args:
        z: (N, D) latents.
        codes: (K, D).
        chosen: (N,) the code of each latent.
        active: (K,) bool, false where a code is dead.
    """
    counts = torch.zeros_like(codes[:, 0]).index_add_(0, chosen, torch.ones_like(z[:, 0]))
    targets = torch.zeros_like(codes).index_add_(0, chosen, z) / counts.clamp_min(1)[:, None]
    dead, sources = (~active & (counts == 0)).nonzero()[:, 0], (counts > 1).nonzero()[:, 0]
    if not len(dead) or not len(sources):
        return targets, counts > 0
    share = counts[sources] / counts[sources].sum() * len(dead)
    quota = share.long()
    quota[(share - quota).topk(len(dead) - int(quota.sum())).indices] += 1
    distances = torch.cdist(codes[sources], codes[dead])
    furthest = distances.sort(dim=1).values.gather(1, (quota[:, None] - 1).clamp_min(0))
    handed = ((distances <= furthest) & (quota > 0)[:, None]).to(z.dtype)
    received = handed.sum(dim=0)
    targets[dead] = handed.T @ targets[sources] / received.clamp_min(1)[:, None]
    known = counts > 0
    known[dead] = received > 0
    return targets, known


def mean_square_of(gap: Tensor, rows: Tensor) -> Tensor:
    """Return the () mean square of those rows of a (K, D) gap that (K,) bool `rows` names, 0 without any."""
    weight = rows.to(gap.dtype)
    return (gap.square().mean(dim=1) * weight).sum() / weight.sum().clamp_min(1)


@register("stablevq", "StableVQ: linear codebook, gradient weighted by distance, targets for dead codes")
class StableVQ(STE):
    """`z_q = w z + sg[q - w z]`, `w = sg[min |z' - q|^2 / |z - q|^2]` over the latents z' that chose q.

    In place of the codebook loss of `ste`, `|c - sg t|^2` averaged over the codes with a target t of `region_targets`:
    the mean of a code's latents, or what nearby used codes hand on to one that no latent chose for `window` steps.

    Source: Tang et al., "StableVQ: Practical Guidelines for Stable Vector-Quantized Tokenizer Training" (2026),
    https://arxiv.org/abs/2609.26774, as secondary sources describe it. Our reading, not the authors' code: the window's
    length, the rounding of how many codes are handed a target (theirs grows where recipients overlap), beta, a mean
    over the D numbers of a code, a C that is trained, and `w = 1` for a latent that lies on its code. Left out: the
    constant learning rate of the codes, since the trainer has one schedule for all.

    Args:
        dim: D, the width of a latent.
        beta: weight of the commitment loss.
        dynamic: weight the latents' gradient by distance; off, as `ste`.
        region: give dead codes targets; off, the codebook loss is that of `ste`.
        window: steps without a latent after which a code counts as dead.
        transform: where the codes come from, as for every codebook.
        shared: options of every codebook.
    """

    def __init__(
        self,
        dim: int,
        *,
        beta: float = 0.25,
        dynamic: bool = True,
        region: bool = True,
        window: int = 10,
        transform: Transform = "linear",
        **shared: Any,
    ) -> None:
        super().__init__(dim, beta=beta, transform=transform, **shared)
        self.dynamic, self.region, self.window = dynamic, region, window

    def approximate(self, z: Tensor, codes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (..., D) codes with a weighted gradient at the latents, and the two losses."""
        near = nn.functional.embedding(chosen, codes)
        weight = self._weights(z.detach(), near.detach(), chosen) if self.dynamic else 1.0
        vectors = weight * z + (near - weight * z).detach()
        loss = self._region_loss(z, codes, chosen) if self.region else self.codebook_loss(z, near)
        return vectors, loss + self.commitment_loss(z, near)

    def _weights(self, z: Tensor, near: Tensor, chosen: Tensor) -> Tensor:
        distance = (z - near).square().sum(dim=-1) + 1e-12
        best = distance.new_full(self.sizes, torch.inf)
        best.scatter_reduce_(0, chosen.flatten(), distance.flatten(), "amin")
        return (best[chosen] / distance)[..., None]

    def _region_loss(self, z: Tensor, codes: Tensor, chosen: Tensor) -> Tensor:
        active = self.dead_codes.idle_steps < self.window
        flat = z.detach().reshape(-1, self.dim)
        targets, known = region_targets(flat, codes.detach(), chosen.flatten(), active)
        return mean_square_of(codes - targets, known)
