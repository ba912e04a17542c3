"""Where the codes of a codebook come from: a plain table, or a function with parameters that all codes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Reseeded

Transform = Literal["none", "linear", "linear-frozen", "mlp"]
TRANSFORMS: tuple[str, ...] = get_args(Transform)


class Table(nn.Module, ABC):
    """(K, D) codes."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the (K, D) codes, with their gradient."""

    @abstractmethod
    def place(self, codes: Tensor) -> None:
        """Put the codes where (K, D) `codes` say, as nearly as the function can."""

    @abstractmethod
    def replace(self, codes: Tensor, rows: Tensor) -> Reseeded:
        """Move the codes of (K,) bool `rows` to their places in (K, D) `codes`, and no other code."""


class PlainTable(Table):
    """K free vectors."""

    def __init__(self, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(codebook_size, dim))

    def forward(self) -> Tensor:
        """Return the codes."""
        return self.weight

    @torch.no_grad()
    def place(self, codes: Tensor) -> None:
        """Overwrite all codes."""
        self.weight.copy_(codes)

    @torch.no_grad()
    def replace(self, codes: Tensor, rows: Tensor) -> Reseeded:
        """Overwrite some codes."""
        self.weight.copy_(torch.where(rows[:, None], codes, self.weight))
        return Reseeded(self.weight, rows)


class LinearTable(Table):
    """`C W`: K vectors through one (D, D) map, so that a step on one code moves all of them.

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
        """Return the mapped codes."""
        return self.basis @ self.map

    @torch.no_grad()
    def place(self, codes: Tensor) -> None:
        """Overwrite C so that the mapped codes lie at `codes`."""
        self.basis.copy_(self._before_map(codes))

    @torch.no_grad()
    def replace(self, codes: Tensor, rows: Tensor) -> Reseeded:
        """Overwrite some rows of C so that their mapped codes lie at `codes`."""
        self.basis.copy_(torch.where(rows[:, None], self._before_map(codes), self.basis))
        return Reseeded(self.basis, rows)

    def _before_map(self, codes: Tensor) -> Tensor:
        return codes @ torch.linalg.pinv(self.map)


class MLPTable(Table):
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
        """Return the codes that the network makes."""
        bent: Tensor = self.second(nn.functional.relu(self.first(self.basis)))
        return self.mean + self.basis @ self.plane + bent

    @torch.no_grad()
    def place(self, codes: Tensor) -> None:
        """Span the plane of the codes' largest variance, and put each code on its nearest point there."""
        self.mean.copy_(codes.mean(dim=0))
        directions = torch.linalg.svd(codes - self.mean, full_matrices=False).Vh[: len(self.plane)]
        self.plane.zero_()[: len(directions)] = directions
        self.basis.copy_((codes - self.mean) @ self.plane.T)

    @torch.no_grad()
    def replace(self, codes: Tensor, rows: Tensor) -> Reseeded:
        """Move some codes to their nearest point on the plane, the network's bend left out."""
        before = (codes - self.mean) @ torch.linalg.pinv(self.plane)
        self.basis.copy_(torch.where(rows[:, None], before, self.basis))
        return Reseeded(self.basis, rows)


def make(transform: Transform, codebook_size: int, dim: int) -> Table:
    """Return the table of that transform."""
    if transform == "none":
        return PlainTable(codebook_size, dim)
    if transform == "mlp":
        return MLPTable(codebook_size, dim)
    return LinearTable(codebook_size, dim, frozen=transform == "linear-frozen")
