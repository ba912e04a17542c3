"""Quantizer, the contract that every method fulfills.

`z` and `vectors` are (..., D); `tokens` are (..., C) int64, C codes per position, `0 <= tokens[..., c] < sizes[c]`.
Three verbs that never blur: `encode` and `decode` are pure and deterministic, `learn` is training's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of latents.

    Attributes:
        vectors: (..., D) float32, what the decoder sees.
        tokens: (..., C) int64.
        loss: () auxiliary loss, 0 where the method needs none.
        chosen_vectors: (..., D) what the tokens decoded to when they were chosen, without gradient; None where they
            still decode to that. Where moving averages set the code vectors, `learn` moves them after the choice.
    """

    vectors: Tensor
    tokens: Tensor
    loss: Tensor
    chosen_vectors: Tensor | None = None


@dataclass(frozen=True)
class ReplacedRows:
    """Rows of a parameter that were overwritten: their optimizer moments are stale.

    Attributes:
        parameter: (K, D) the codebook.
        rows: (K,) bool, true where a row is new.
    """

    parameter: nn.Parameter
    rows: Tensor


class Quantizer(nn.Module, ABC):
    """Latents to integers and back.

    Attributes:
        dim: D, the width of a latent.
        sizes: alphabet size of each of the C codes per position.
        block: how many latents along each side one position holds: D is block^2 times the width of one latent.
        identity_path: true where the training output is the latent plus a step, so that the latent's gradient
            passes as it is; false where it is a function of the code vectors alone.
        settings: name and options that `build_quantizer` made it of; empty where it was made by hand.
    """

    dim: int
    sizes: tuple[int, ...]
    block: int = 1
    identity_path: bool = True
    settings: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., C) int64 tokens of (..., D) latents. Pure and deterministic.

        Raises:
            ValueError: the latents are not D wide.
        """

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) float32 vectors of (..., n) tokens, n in `prefixes`: the one meaning of a token. Pure.

        Raises:
            ValueError: n is not in `prefixes`.
        """

    @abstractmethod
    def learn(self, z: Tensor) -> Quantized:
        """Quantize for training: noise, statistics and auxiliary loss belong here and nowhere else."""

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(self, z: Tensor) -> Quantized:
        """Return `learn(z)` in training mode, and `decode(encode(z))` otherwise."""
        if self.training:
            return self.learn(z)
        tokens = self.encode(z)
        return Quantized(self.decode(tokens), tokens, torch.zeros((), device=z.device))

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:  # noqa: ARG003  # for methods that care
        """Return the least width of a latent that resolved `options` can work with, and what divides it."""
        return 1, 1

    @classmethod
    def min_parameters(cls, options: Mapping[str, Any], dim: int) -> int:  # noqa: ARG003  # for methods that care
        """Return how many numbers a quantizer of resolved `options` holds at least, for latents `dim` wide.

        The memory it takes is not much more.
        """
        return dim

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many of a position's first codes `decode` can make something of, ascending; the last is C."""
        return (len(self.sizes),)

    @property
    def spec(self) -> dict[str, Any]:
        """Name and options, from which `build_quantizer` makes the same quantizer."""
        return dict(self.settings)

    def prepare(self, z: Tensor) -> Tensor:
        """Return (..., D) latents as the method sees them, without quantizing: the decoder's input in a warm-up."""
        return z

    def initialize(self, z: Tensor) -> None:
        """Start from (N, D) latents of the first batches. Does nothing where there is nothing to place."""

    def replace_dead_codes(self) -> list[ReplacedRows]:
        """Give new vectors to codes that no latent chooses any more. Called once after each optimizer step."""
        return []

    def merge_(self) -> None:
        """Turn code vectors that are computed into plain tables, in place: every token means what it did."""

    def check_width(self, z: Tensor) -> None:
        """Raise ValueError unless `z` is (..., D)."""
        if z.shape[-1] != self.dim:
            raise ValueError(f"latents are {z.shape[-1]} wide, this quantizer takes {self.dim}")

    def check_codes(self, tokens: Tensor) -> None:
        """Raise ValueError unless `tokens` is (..., n) with n in `prefixes`."""
        if tokens.shape[-1] not in self.prefixes:
            wanted = " or ".join(map(str, self.prefixes))
            raise ValueError(f"tokens hold {tokens.shape[-1]} codes per position, this quantizer takes {wanted}")
