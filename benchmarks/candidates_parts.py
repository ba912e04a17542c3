"""What the candidate methods are made of: transport, distance of Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor

# Share of the mean variance that is added to both covariances, so that neither is singular.
_RIDGE = 1e-6


@torch.no_grad()
def sinkhorn(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return the (N, K) plan in which rows weigh 1 / N and columns, nearly, 1 / K, for an (N, K) cost.

    It minimises `<plan, cost> - epsilon H(plan)` by scaling columns and rows in turn; rows come last. A constant added
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
    centerd = points - mean
    return mean, centerd.T @ centerd / len(points)
