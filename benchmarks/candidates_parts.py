"""What the candidate methods are made of: transport, distance of Gaussians, the bridge over all codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Reseeded
from tokenizer.quantizers.tables import Table

# Share of the mean variance that is added to both covariances, so that neither is singular.
_RIDGE = 1e-6
_HEAD_DIM = 16


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
    centred = points - mean
    return mean, centred.T @ centred / len(points)


class Block(nn.Module):
    """A transformer block over (G, width): self-attention and a network of four times the width, norms first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD_DIM
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (G, width)."""
        # (G, 3 width) to three times (heads, G, width / heads)
        parts = self.queries_keys_values(self.norm(x)).unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        mixed = nn.functional.scaled_dot_product_attention(*parts)
        x = x + self.out(mixed.transpose(0, 1).flatten(1))
        return x + self.mlp(x)


class BridgeTable(Table):
    """`C + f(C)`: K vectors that a network over all of them moves together.

    f takes `patch` neighbouring codes as one vector (compress), lets these attend to each other (process), and spreads
    each over its codes again (recover): `h_g = LN(W_c C_g)`, `h' = blocks(h + positions)`, `f_g = W_r LN(h'_g)`.
    With `skip` W_r starts at 0, and codes lie where they are placed; without, the codes are f(C) alone, and placing
    them fits W_r.

    Args:
        codebook_size: K, a multiple of patch.
        dim: D.
        patch: codes to one vector.
        width: of that vector, a multiple of 16.
        depth: number of blocks.
        skip: add the network's output to the codes.
    """

    def __init__(self, codebook_size: int, dim: int, *, patch: int, width: int, depth: int, skip: bool) -> None:
        super().__init__()
        if patch < 1 or codebook_size % patch:
            raise ValueError(f"patch is {patch}, expected a divisor of codebook_size ({codebook_size})")
        if width < 1 or width % _HEAD_DIM or depth < 0:
            raise ValueError(f"width is {width} and depth {depth}, expected a multiple of {_HEAD_DIM} and 0 or more")
        self.skip = skip
        self.basis = nn.Parameter(torch.randn(codebook_size, dim))
        self.compress = nn.Sequential(nn.Linear(patch * dim, width), nn.LayerNorm(width))
        self.positions = nn.Parameter(0.02 * torch.randn(codebook_size // patch, width))
        self.process = nn.Sequential(*(Block(width) for _ in range(depth)), nn.LayerNorm(width))
        self.recover = nn.Linear(width, patch * dim)
        if skip:
            nn.init.zeros_(self.recover.weight)
            nn.init.zeros_(self.recover.bias)

    def forward(self) -> Tensor:
        """Return the codes that the network makes."""
        moved = self.recover(self._features()).reshape(self.basis.shape)
        return self.basis + moved if self.skip else moved

    @torch.no_grad()
    def place(self, codes: Tensor) -> None:
        """Put the codes at `codes`; without `skip`, as nearly as W_r can."""
        if self.skip:
            self.replace(codes, torch.ones_like(codes[:, 0], dtype=torch.bool))
            return
        self.basis.copy_(codes)
        features = nn.functional.pad(self._features(), (0, 1), value=1.0)
        # A closer fit would need weights so large that one step of training throws the codes about.
        solution = torch.linalg.pinv(features, rtol=0.1) @ codes.reshape(len(features), -1)
        self.recover.weight.copy_(solution[:-1].T)
        self.recover.bias.copy_(solution[-1])

    @torch.no_grad()
    def replace(self, codes: Tensor, rows: Tensor) -> Reseeded:
        """Move some codes, and the others only as far as the network answers; without `skip`, move none."""
        if not self.skip:
            return Reseeded(self.basis, torch.zeros_like(rows))
        # The network's answer depends on where the codes go: a few rounds settle it, one where W_r is 0.
        for _ in range(3):
            self.basis.add_(torch.where(rows[:, None], codes - self(), 0.0))
        return Reseeded(self.basis, rows)

    def _features(self) -> Tensor:
        patches = self.compress(self.basis.reshape(len(self.positions), -1))
        features: Tensor = self.process(patches + self.positions)
        return features
