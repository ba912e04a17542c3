"""Methods that claim more than those of `tokenizer.quantizers`, so that our own comparison can judge them.

Importing this module registers them; the shipped registry does not know them. Formulas are the papers', where a detail
is ours the class says so. What every method here shares with the rest stays as it is there: codes placed by k-means,
dead codes replaced (`dead_code_patience=0` turns that off), one learning-rate schedule for encoder, decoder and codes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tokenizer.quantizers import CodebookQuantizer, register
from tokenizer.quantizers.diveq import DiVeQ
from tokenizer.quantizers.straight_through import STE
from tokenizer.quantizers.tables import Transform

__all__ = ["DiVeQWasserstein", "OptVQ", "StableVQ", "Wasserstein"]

# Share of the mean variance that is added to both covariances, so that neither is singular.
_RIDGE = 1e-6


@torch.no_grad()
def sinkhorn(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return the (N, K) plan in which rows weigh 1 / N and columns, nearly, 1 / K, for an (N, K) cost.

    It minimizes `<plan, cost> - epsilon H(plan)` by scaling columns and rows in turn; rows come last. A constant added
    to a row or a column of the cost changes nothing, so each is shifted to a least cost of 0 first: then the largest
    kernel entry of every row and column is 1, and no sum underflows however small epsilon is.

    Source: Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport" (2013),
    https://arxiv.org/abs/1306.0895, algorithm 1.
    """
    cost = cost - cost.amin(dim=1, keepdim=True)
    cost -= cost.amin(dim=0)
    kernel = cost.div_(-epsilon).exp_()
    latents, codes = cost.shape
    rows = cost.new_full((latents,), 1 / latents)
    columns = cost.new_full((codes,), 1 / codes)
    for _ in range(iterations):
        columns = 1 / (codes * (rows @ kernel))
        rows = 1 / (latents * (kernel @ columns))
    return kernel.mul_(columns).mul_(rows[:, None])


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


def gaussian_distance(z: Tensor, codes: Tensor) -> Tensor:
    """Return the () squared 2-Wasserstein distance of Gaussians with the moments of (N, D) and (K, D) vectors.

    `|m1 - m2|^2 + tr(S1 + S2 - 2 (S2^1/2 S1 S2^1/2)^1/2)`, moments without Bessel's correction. The last trace is the
    sum of the square roots of the eigenvalues of `L^T S1 L`, `S2 = L L^T`, which are those of `S2^1/2 S1 S2^1/2`. A
    matrix root by its eigenvectors has a gradient that divides by differences of eigenvalues; a Cholesky factor and
    eigenvalues alone have none. Worked out in float64, with a millionth of the mean variance on both diagonals.
    """
    (mean, spread), (code_mean, code_spread) = _moments(z.double()), _moments(codes.double())
    variance = (spread.diagonal() + code_spread.diagonal()).mean().detach() / 2
    ridge = (_RIDGE * variance + 1e-20) * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    spread, code_spread = spread + ridge, code_spread + ridge
    factor = torch.linalg.cholesky(code_spread)
    shared = torch.linalg.eigvalsh(factor.T @ spread @ factor).clamp_min(1e-60).sqrt().sum()
    distance = (mean - code_mean).square().sum() + spread.trace() + code_spread.trace() - 2 * shared
    return distance.clamp_min(0).to(z.dtype)


def _moments(points: Tensor) -> tuple[Tensor, Tensor]:
    mean = points.mean(dim=0)
    centered = points - mean
    return mean, centered.T @ centered / len(points)


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
