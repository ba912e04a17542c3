"""Methods that claim more than those of `tokenizer.quantizers`, so that our own comparison can judge them.

Importing this module registers them; the shipped registry does not know them. Formulas are the papers', where a detail
is ours the class says so. What every method here shares with the rest stays as it is there: codes placed by k-means,
dead codes replaced (`dead_code_patience=0` turns that off), one learning-rate schedule for encoder, decoder and codes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.candidates_parts import gaussian_distance, sinkhorn
from benchmarks.candidates_stable import StableVQ
from tokenizer.quantizers import CodebookQuantizer, register
from tokenizer.quantizers.diveq import DiVeQ
from tokenizer.quantizers.straight_through import STE

__all__ = ["DiVeQWasserstein", "OptVQ", "StableVQ", "Wasserstein"]


@register("optvq", "OptVQ: straight-through, codes assigned by balanced optimal transport in training")
class OptVQ(STE):
    """`ste` with `i = argmax_j plan_ij` in training: the transport of least cost in which all codes serve alike.

    The cost is `|z - c|` of the batch, minus its mean, over its standard deviation; the plan is `sinkhorn`'s.

    Source: Zhang et al., "Preventing Local Pitfalls in Vector Quantization via Optimal Transport" (2024),
    https://arxiv.org/abs/2412.15195, and its published code, from which epsilon (there its inverse, 10), the iterations
    and the arg-max are. Departures: their code transports in evaluation too, so that a token depends on the other
    latents of its batch; here `encode` takes the nearest code, and training and inference may disagree. Theirs has a
    linear map after the codes (`transform=linear` here), weighs the codebook's loss by beta and not the commitment's,
    and splits the latent into heads (`product` here). Memory grows with N * K; each rank transports its own latents.

    Args:
        dim: D, the width of a latent.
        beta: weight of the commitment loss.
        epsilon: weight of the plan's entropy, in standard deviations of the distances.
        iterations: of Sinkhorn's scaling.
        shared: options of every codebook.
    """

    def __init__(
        self, dim: int, *, beta: float = 0.25, epsilon: float = 0.1, iterations: int = 5, **shared: Any
    ) -> None:
        super().__init__(dim, beta=beta, **shared)
        if epsilon <= 0 or iterations < 1:
            raise ValueError(f"epsilon is {epsilon} and iterations {iterations}, expected more than 0")
        self.epsilon, self.iterations = epsilon, iterations

    @torch.no_grad()
    def transport(self, z: Tensor, codes: Tensor) -> Tensor:
        """Return the (...,) index of the code to which most of each (..., D) latent goes."""
        cost = torch.cdist(z.reshape(-1, self.dim), codes)
        cost = (cost - cost.mean()) / (cost.std(correction=0) + 1e-6)
        return sinkhorn(cost, self.epsilon, self.iterations).argmax(dim=1).reshape(z.shape[:-1])

    def assign(self, z: Tensor, codes: Tensor) -> Tensor:
        """Return the (...,) index of the code that the transport gives each (..., D) latent."""
        return self.transport(z, codes) if z.numel() else self.select(z, codes)


class _Matched(CodebookQuantizer):
    """A method whose loss also draws the codes' mean and covariance to the latents'."""

    weight: float
    root: bool
    both: bool

    def approximate(self, z: Tensor, codes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the method's training output, and its loss plus the weighted distance of the two Gaussians."""
        vectors, loss = super().approximate(z, codes, chosen)
        if not z.numel():
            return vectors, loss
        flat = z.reshape(-1, self.dim)
        return vectors, loss + self.weight * self._distance(flat if self.both else flat.detach(), codes)

    def _distance(self, z: Tensor, codes: Tensor) -> Tensor:
        if not self.root:
            return gaussian_distance(z, codes)
        scale = codes.detach().std(dim=0, correction=0).amax().clamp_min(1e-8)
        return (gaussian_distance(z / scale, codes / scale) + 1e-10).sqrt()


@register("wasserstein", "Wasserstein VQ: straight-through, codes drawn to the mean and covariance of the latents")
class Wasserstein(_Matched, STE):
    """`ste` plus `weight W^2`, W the 2-Wasserstein distance of Gaussians fitted to latents and codes.

    Source: Fang et al., "Enhancing Vector Quantization with Distributional Matching: A Theoretical and Empirical Study"
    (2025), https://arxiv.org/abs/2506.15078, and its published code, from which the weight, and that only the codes are
    drawn, are. Departures: their code takes the distance itself, of vectors divided by the codes' largest standard
    deviation (`root`), and the latents' moments over a long queue of past batches; here they are the batch's.

    Args:
        dim: D, the width of a latent.
        beta: weight of the commitment loss.
        weight: of the distance.
        root: take W relative to the codes' spread, in place of W^2.
        both: draw the latents to the codes, too.
        shared: options of every codebook.
    """

    def __init__(
        self,
        dim: int,
        *,
        beta: float = 0.25,
        weight: float = 0.5,
        root: bool = False,
        both: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(dim, beta=beta, **shared)
        self.weight, self.root, self.both = weight, root, both


@register("diveq-wasserstein", "DiVeQ, codes drawn to the mean and covariance of the latents")
class DiVeQWasserstein(_Matched, DiVeQ):
    """`diveq` plus the distance of `wasserstein`, whose gradient also reaches codes that no latent chose.

    A combination of ours.

    Args:
        dim: D, the width of a latent.
        noise_std: standard deviation of the direction's noise, in the latents' unit.
        weight: of the distance.
        root: take W relative to the codes' spread, in place of W^2.
        both: draw the latents to the codes, too.
        shared: options of every codebook.
    """

    # One step over all stages would leave the loss out.
    one_step: ClassVar[bool] = False

    def __init__(
        self,
        dim: int,
        *,
        noise_std: float = 1e-3,
        weight: float = 0.5,
        root: bool = False,
        both: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(dim, noise_std=noise_std, **shared)
        self.weight, self.root, self.both = weight, root, both
