"""Code tables: free vectors, or vectors that a function with shared parameters makes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import ReplacedRows

Transform = Literal["none", "linear", "linear-frozen", "mlp", "bridge"]
TRANSFORMS: tuple[str, ...] = get_args(Transform)
_PATCH, _WIDTH, _HEADS, _DEPTH = 16, 64, 4, 2


class CodeTable(nn.Module, ABC):
    """K code vectors, each D wide."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the (K, D) code vectors, with their gradient."""

    @abstractmethod
    def place(self, vectors: Tensor) -> None:
        """Put the code vectors at (K, D) `vectors`, as nearly as the function can."""

    @abstractmethod
    def replace(self, vectors: Tensor, rows: Tensor) -> ReplacedRows:
        """Put the code vectors of (K,) bool `rows` at their places in (K, D) `vectors`, and move no others."""


class PlainTable(CodeTable):
    """K free vectors."""

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(codebook_size, dim))

    def forward(self) -> Tensor:
        """Return the vectors."""
        return self.weight

    @torch.no_grad()
    def place(self, vectors: Tensor) -> None:
        """Overwrite all vectors."""
        self.weight.copy_(vectors)

    @torch.no_grad()
    def replace(self, vectors: Tensor, rows: Tensor) -> ReplacedRows:
        """Overwrite some vectors."""
        self.weight.copy_(torch.where(rows[:, None], vectors, self.weight))
        return ReplacedRows(self.weight, rows)


class LinearTable(CodeTable):
    """`C W`: K vectors through one (D, D) map, so that a step on one moves all of them.

    Source: Zhu et al., "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer" (SimVQ,
    2024), https://arxiv.org/abs/2411.02038, equation 5.

    Args:
        codebook_size: K.
        dim: D.
        frozen: train the map alone, as the paper does, and leave C where it was placed.
    """

    def __init__(self, codebook_size: int, dim: int, *, frozen: bool) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(codebook_size, dim), requires_grad=not frozen)
        self.map = nn.Parameter(torch.eye(dim))

    def forward(self) -> Tensor:
        """Return the mapped vectors."""
        return self.basis @ self.map

    @torch.no_grad()
    def place(self, vectors: Tensor) -> None:
        """Overwrite C so that the mapped vectors lie at `vectors`."""
        self.basis.copy_(self._before_map(vectors))

    @torch.no_grad()
    def replace(self, vectors: Tensor, rows: Tensor) -> ReplacedRows:
        """Overwrite some rows of C so that, mapped, they lie at `vectors`."""
        self.basis.copy_(torch.where(rows[:, None], self._before_map(vectors), self.basis))
        return ReplacedRows(self.basis, rows)

    def _before_map(self, vectors: Tensor) -> Tensor:
        return vectors @ torch.linalg.pinv(self.map)


class MLPTable(CodeTable):
    """`c_i = g(b_i)`: K vectors of a few dimensions through one small network.

    `g(b) = mean + b A + W2 relu(W1 b)`, W2 starting at 0: what can be placed is the nearest point of the plane that
    A spans, the rest is learned.

    Args:
        codebook_size: K.
        dim: D; the b_i have half of it, at least one dimension.
    """

    mean: Tensor

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        width = max(1, dim // 2)
        self.basis = nn.Parameter(torch.randn(codebook_size, width))
        self.plane = nn.Parameter(torch.linalg.qr(torch.randn(dim, width)).Q.T.contiguous())
        self.mean = nn.Parameter(torch.zeros(dim))
        self.first = nn.Linear(width, 4 * dim)
        self.second = nn.Linear(4 * dim, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self) -> Tensor:
        """Return the vectors that the network makes."""
        bent: Tensor = self.second(nn.functional.relu(self.first(self.basis)))
        return self.mean + self.basis @ self.plane + bent

    @torch.no_grad()
    def place(self, vectors: Tensor) -> None:
        """Span the plane of the vectors' largest variance, and put each vector on its nearest point there."""
        self.mean.copy_(vectors.mean(dim=0))
        directions = torch.linalg.svd(vectors - self.mean, full_matrices=False).Vh[: len(self.plane)]
        self.plane.zero_()[: len(directions)] = directions
        self.basis.copy_((vectors - self.mean) @ self.plane.T)

    @torch.no_grad()
    def replace(self, vectors: Tensor, rows: Tensor) -> ReplacedRows:
        """Move some vectors to their nearest point on the plane, without what the network adds to it."""
        before = (vectors - self.mean) @ torch.linalg.pinv(self.plane)
        self.basis.copy_(torch.where(rows[:, None], before, self.basis))
        return ReplacedRows(self.basis, rows)


class AttentionBlock(nn.Module):
    """Self-attention over (G, width) vectors, then a network of four times the width; norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (G, width)."""
        # (G, 3 width) to three of (heads, G, width / heads).
        parts = self.queries_keys_values(self.norm(x)).reshape(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)
        mixed = nn.functional.scaled_dot_product_attention(*parts)
        x = x + self.out(mixed.transpose(0, 1).flatten(1))
        refined: Tensor = x + self.mlp(x)
        return refined


class BridgeTable(CodeTable):
    """`C + f(C)`: K vectors that a network over all of them moves together.

    f makes one vector of 64 numbers of every `gcd(K, 16)` neighboring rows of C (compress), lets these attend to each
    other in two blocks (process), and makes a step for each row of them (recover), which is 0 at first.

    Source: Chang et al., "Scalable Training for Vector-Quantized Networks with 100% Codebook Utilization" (FVQ,
    VQBridge, 2025), https://arxiv.org/abs/2509.10140. Departures: there the code vectors are f(C) alone; added to C,
    k-means and dead-code replacement can place them. Sizes are for latents of a few numbers; heads, norms and
    positions are our reading.

    Args:
        codebook_size: K.
        dim: D.
    """

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        patch = math.gcd(codebook_size, _PATCH)
        self.basis = nn.Parameter(torch.randn(codebook_size, dim))
        self.compress = nn.Sequential(nn.Linear(patch * dim, _WIDTH), nn.LayerNorm(_WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(codebook_size // patch, _WIDTH))
        self.process = nn.Sequential(*(AttentionBlock(_WIDTH, _HEADS) for _ in range(_DEPTH)), nn.LayerNorm(_WIDTH))
        self.recover = nn.Linear(_WIDTH, patch * dim)
        nn.init.zeros_(self.recover.weight)
        nn.init.zeros_(self.recover.bias)

    def forward(self) -> Tensor:
        """Return the vectors that the network makes."""
        patches = self.compress(self.basis.reshape(len(self.positions), -1)) + self.positions
        return self.basis + self.recover(self.process(patches)).reshape(self.basis.shape)

    @torch.no_grad()
    def place(self, vectors: Tensor) -> None:
        """Put the code vectors at `vectors`, but for what three rounds leave."""
        self.replace(vectors, torch.ones_like(vectors[:, 0], dtype=torch.bool))

    @torch.no_grad()
    def replace(self, vectors: Tensor, rows: Tensor) -> ReplacedRows:
        """Move some code vectors; the others move too, by what the network makes of the new rows."""
        # f(C) changes with C, so that `C += wanted - (C + f(C))` is off by the change of f: repeated, it settles. While
        # f is still 0, one round is exact.
        for _ in range(3):
            self.basis.add_(torch.where(rows[:, None], vectors - self(), 0.0))
        return ReplacedRows(self.basis, rows)


def build_table(transform: Transform, codebook_size: int, dim: int) -> CodeTable:
    """Return the table of that transform."""
    if transform == "none":
        return PlainTable(codebook_size, dim)
    if transform == "mlp":
        return MLPTable(codebook_size, dim)
    if transform == "bridge":
        return BridgeTable(codebook_size, dim)
    return LinearTable(codebook_size, dim, frozen=transform == "linear-frozen")
