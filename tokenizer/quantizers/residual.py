"""Residual quantization: stages one after the other, each on what those before left over."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.quantizers.base import Quantized
from tokenizer.quantizers.combinators import (
    Combinator,
    Specs,
    chosen_vectors_of,
    combined_step,
    is_one_step,
    normalizes,
    observe_choice,
)
from tokenizer.quantizers.registry import build_quantizer, register


@register("residual", "stages one after the other, each on what those before left over: residual(4*diveq)")
class Residual(Combinator):
    """RVQ: `q = q_1 + q_2 + ...`, each `q_i` made of `z - q_1 - ... - q_(i-1)`.

    A prefix of the codes decodes to a coarser vector. Stages of one method of the DiVeQ family take a single step
    towards the sum of their code vectors (Vali et al., ICLR 2026, section 3.3). Other stages make a step each. Each
    step of a straight-through method passes the gradient on to the latent as it is: that of the first stage alone
    counts.

    Args:
        dim: D, the width of a latent.
        stages: specs of the quantizers, one or more.
        drop: share of the samples, along the first axis of the latents, that train with a prefix of the stages of
            random length, at least one (Zeghidour et al., "SoundStream", 2021, section III-C).
    """

    def __init__(self, dim: int, *, stages: Specs = ({"name": "diveq"},) * 4, drop: float = 0.0) -> None:
        made = [build_quantizer(stage, dim) for stage in stages]
        if not made or len({(stage.dim, stage.block) for stage in made}) > 1:
            raise ValueError("residual takes one or more stages, all with blocks of one size")
        if any(map(normalizes, made)):
            raise ValueError("stages of residual cannot normalize: the length of what is left over is what they encode")
        if not 0 <= drop <= 1:
            raise ValueError(f"drop is {drop}, expected 0 to 1")
        super().__init__(made)
        self.dim, self.block, self.drop = made[0].dim, made[0].block, drop
        self.identity_path = made[0].identity_path

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Any number of whole stages, and of the first codes of the stage after them."""
        found, before = [], 0
        for stage in self.parts:
            found += [before + prefix for prefix in stage.prefixes]
            before += len(stage.sizes)
        return tuple(found)

    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., C) tokens, each stage's after those of the stages before it."""
        self.check_width(z)
        left, tokens = z.float(), []
        with torch.no_grad():
            for stage in self.parts:
                tokens.append(stage.encode(left))
                left = left - stage.decode(tokens[-1])
        return torch.cat(tokens, dim=-1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) sum of the vectors of (..., n) tokens, n in `prefixes`."""
        self.check_codes(tokens)
        first, *rest = self.parts
        parts = self.cut(tokens)
        total = first.decode(parts[0])
        for stage, part in zip(rest, parts[1:], strict=True):
            if part.shape[-1]:
                total = total + stage.decode(part)
        return total

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) latents for training."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            return self._one_step(z.float()) if is_one_step(self.parts) else self._steps(z.float())

    def _one_step(self, z: Tensor) -> Quantized:
        total, left = torch.zeros_like(z), z.detach()
        tokens, kept = [], self._kept(z)
        for stage, keep in zip(self.parts, kept, strict=True):
            tokens.append(stage.encode(left))
            chosen_vectors = stage.decode(tokens[-1])
            observe_choice(stage, left, chosen_vectors, tokens[-1])
            total = total + chosen_vectors * keep
            left = left - chosen_vectors.detach()
        return Quantized(
            combined_step(self.parts[0], z, total), torch.cat(tokens, dim=-1), torch.zeros((), device=z.device)
        )

    def _steps(self, z: Tensor) -> Quantized:
        total, left = torch.zeros_like(z), z
        tokens, kept, loss = [], self._kept(z), torch.zeros((), device=z.device)
        for number, (stage, keep) in enumerate(zip(self.parts, kept, strict=True)):
            seen = left if stage.identity_path or number == 0 else left.detach()
            result = stage.learn(seen)
            # 0 in value; taken away, it leaves the first stage alone the gradient that passes as it is.
            own_path = seen - seen.detach() if number else 0.0
            total = total + (result.vectors - own_path) * keep
            tokens.append(result.tokens)
            loss = loss + result.loss
            left = left - chosen_vectors_of(stage, result)
        return Quantized(total, torch.cat(tokens, dim=-1), loss, (z - left).detach())

    def _kept(self, z: Tensor) -> list[Tensor | float]:
        """Return for each stage 1, or (n, 1, ...) ones for the samples that keep it and zeros for the others."""
        if not self.drop or len(self.parts) == 1:
            return [1.0] * len(self.parts)
        samples = z.shape[0]
        length = torch.randint(1, len(self.parts), (samples,), device=z.device)
        length[torch.rand(samples, device=z.device) >= self.drop] = len(self.parts)
        length = length.view(-1, *[1] * (z.ndim - 1))
        return [(length > number).float() for number in range(len(self.parts))]

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Start each stage from what those before leave of (N, D) latents."""
        left = z.float()
        for stage in self.parts:
            stage.initialize(left)
            left = left - stage.decode(stage.encode(left))
