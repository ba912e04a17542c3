"""Product quantization: stages side by side, each on its share of the dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tokenizer.quantizers.base import Quantized, Quantizer
from tokenizer.quantizers.combinators import (
    Combinator,
    Specs,
    chosen_vectors_of,
    combined_step,
    is_one_step,
    observe_choice,
)
from tokenizer.quantizers.notation import STAGES
from tokenizer.quantizers.registry import METHODS, build_quantizer, register


@register("product", "stages side by side, each on its share of the dimensions: product(2*diveq)")
class Product(Combinator):
    """PQ: the latent is cut into equal parts, each quantized by itself.

    Source: Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search" (2011). Stages of one method of
    the DiVeQ family take a single step on the whole error (Vali et al., ICLR 2026, section 3.3).

    Args:
        dim: D, the width of a latent; a multiple of the number of stages.
        stages: specs of the quantizers, one or more.
    """

    def __init__(self, dim: int, *, stages: Specs = ({"name": "diveq"},) * 2) -> None:
        if not stages or dim % len(stages):
            raise ValueError(f"latents {dim} wide cannot be cut into {len(stages)} equal parts")
        made = [build_quantizer(stage, dim // len(stages)) for stage in stages]
        if any(stage.block > 1 for stage in made):
            raise ValueError("stages of product cannot work in blocks")
        super().__init__(made)
        self.dim, self.width = dim, dim // len(stages)
        self.identity_path = all(stage.identity_path for stage in made)

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return the least width whose equal parts all stages can work with, and what divides it."""
        count, found = len(options[STAGES]), [METHODS[stage["name"]].cls.widths(stage) for stage in options[STAGES]]
        least = max((least for least, _ in found), default=1)
        return max(1, count) * least, max(1, count) * math.lcm(*(divisor for _, divisor in found))

    @classmethod
    def share(cls, options: Mapping[str, Any], dim: int) -> int:
        """Return the width of a part."""
        return dim // max(1, len(options[STAGES]))

    def prepare(self, z: Tensor) -> Tensor:
        """Return (..., D) latents as the stages take them."""
        return torch.cat([stage.prepare(part) for stage, part in self._split(z)], dim=-1)

    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., C) tokens, part after part."""
        self.check_width(z)
        return torch.cat([stage.encode(part) for stage, part in self._split(z)], dim=-1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) vectors of (..., C) tokens."""
        self.check_codes(tokens)
        pairs = zip(self.parts, self.cut(tokens), strict=True)
        return torch.cat([stage.decode(part) for stage, part in pairs], dim=-1)

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) latents for training."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            if is_one_step(self.parts):
                return self._one_step(z.float())
            results = [stage.learn(part) for stage, part in self._split(z.float())]
        return Quantized(
            torch.cat([result.vectors for result in results], dim=-1),
            torch.cat([result.tokens for result in results], dim=-1),
            torch.stack([result.loss for result in results]).sum(),
            torch.cat(
                [chosen_vectors_of(stage, result) for stage, result in zip(self.parts, results, strict=True)], dim=-1
            ),
        )

    def _one_step(self, z: Tensor) -> Quantized:
        z = self.prepare(z)
        tokens, chosen_vectors = [], []
        for stage, part in self._split(z):
            tokens.append(stage.encode(part))
            chosen_vectors.append(stage.decode(tokens[-1]))
            observe_choice(stage, part.detach(), chosen_vectors[-1], tokens[-1])
        vectors = combined_step(self.parts[0], z, torch.cat(chosen_vectors, dim=-1))
        return Quantized(vectors, torch.cat(tokens, dim=-1), torch.zeros((), device=z.device))

    def _split(self, z: Tensor) -> list[tuple[Quantizer, Tensor]]:
        return list(zip(self.parts, torch.split(z, self.width, dim=-1), strict=True))

    def initialize(self, z: Tensor) -> None:
        """Start each stage from its part of (N, D) latents."""
        for stage, part in self._split(z):
            stage.initialize(part)
