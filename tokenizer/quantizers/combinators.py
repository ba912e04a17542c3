"""Quantizers made of quantizers: several codes for one position."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized, Quantizer, Reseeded
from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.registry import METHODS, STAGES, build, register

Specs = tuple[Mapping[str, Any], ...]


class Combinator(Quantizer):
    """What combinators share: their stages."""

    def __init__(self, stages: Sequence[Quantizer]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.sizes = tuple(size for stage in stages for size in stage.sizes)

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return what all stages can work with."""
        found = [METHODS[stage["name"]].cls.widths(stage) for stage in options[STAGES]]
        return max((least for least, _ in found), default=1), math.lcm(*(divisor for _, divisor in found))

    @property
    def parts(self) -> list[Quantizer]:
        """The stages, in order."""
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]

    @property
    def spec(self) -> dict[str, Any]:
        """Name and options, and those of the stages as they are now."""
        return {**self.settings, STAGES: [stage.spec for stage in self.parts]}

    @abstractmethod
    def initialise(self, z: Tensor) -> None:
        """Start each stage from what it will see of (N, D) latents."""

    def revive(self) -> list[Reseeded]:
        """Re-seed dead codes of every stage."""
        return [change for stage in self.parts for change in stage.revive()]

    def merge_(self) -> None:
        """Merge the codes of every stage."""
        for stage in self.parts:
            stage.merge_()

    def cut(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return the (..., C_i) tokens of each stage; one that has none of them left gets an empty one."""
        ends = torch.tensor([len(stage.sizes) for stage in self.parts]).cumsum(0).tolist()
        return tuple(tokens[..., end - len(stage.sizes) : end] for stage, end in zip(self.parts, ends, strict=True))


@register("residual", "stages one after the other, each on what those before left over: residual(4*diveq)")
class Residual(Combinator):
    """RVQ: `q = q_1 + q_2 + ...`, each `q_i` made of `z - q_1 - ... - q_(i-1)`.

    A prefix of the codes decodes to a coarser vector. Stages of one method of the DiVeQ family take a single step
    towards the sum of their codes (Vali et al., ICLR 2026, section 3.3). Other stages make a step each, and the
    identity's gradient, which each step of a straight-through method carries, reaches the latent once.

    Args:
        dim: D, the width of a latent.
        stages: specs of the quantizers, one or more.
        drop: share of the samples, along the first axis of the latents, that train with a prefix of the stages of
            random length, at least one (Zeghidour et al., "SoundStream", 2021, section III-C).
    """

    def __init__(self, dim: int, *, stages: Specs = ({"name": "diveq"},) * 4, drop: float = 0.0) -> None:
        made = [build(stage, dim) for stage in stages]
        if not made or len({(stage.dim, stage.block) for stage in made}) > 1:
            raise ValueError("residual takes one or more stages, all with blocks of one size")
        if any(map(normalises, made)):
            raise ValueError("stages of residual cannot normalise: the length of what is left over is what they code")
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
            return self._one_step(z.float()) if one_step(self.parts) else self._steps(z.float())

    def _one_step(self, z: Tensor) -> Quantized:
        codes, left = torch.zeros_like(z), z.detach()
        tokens, kept = [], self._kept(z)
        for stage, keep in zip(self.parts, kept, strict=True):
            tokens.append(stage.encode(left))
            chosen = stage.decode(tokens[-1])
            _note(stage, left, chosen, tokens[-1])
            codes = codes + chosen * keep
            left = left - chosen.detach()
        return Quantized(_step(self.parts[0], z, codes), torch.cat(tokens, dim=-1), torch.zeros((), device=z.device))

    def _steps(self, z: Tensor) -> Quantized:
        total, left = torch.zeros_like(z), z
        tokens, kept, loss = [], self._kept(z), torch.zeros((), device=z.device)
        for number, (stage, keep) in enumerate(zip(self.parts, kept, strict=True)):
            seen = left if stage.identity_path or number == 0 else left.detach()
            result = stage.learn(seen)
            own_path = seen - seen.detach() if number else 0.0
            total = total + (result.vectors - own_path) * keep
            tokens.append(result.tokens)
            loss = loss + result.loss
            left = left - codes_of(stage, result)
        return Quantized(total, torch.cat(tokens, dim=-1), loss, (z - left).detach())

    def _kept(self, z: Tensor) -> list[Tensor | float]:
        """Return for each stage 1, or (n, 1, ...) zeros and ones: which samples keep it."""
        if not self.drop or len(self.parts) == 1:
            return [1.0] * len(self.parts)
        samples = z.shape[0]
        length = torch.randint(1, len(self.parts), (samples,), device=z.device)
        length[torch.rand(samples, device=z.device) >= self.drop] = len(self.parts)
        length = length.view(-1, *[1] * (z.ndim - 1))
        return [(length > number).float() for number in range(len(self.parts))]

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Start each stage from what those before leave of (N, D) latents."""
        left = z.float()
        for stage in self.parts:
            stage.initialise(left)
            left = left - stage.decode(stage.encode(left))


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
        made = [build(stage, dim // len(stages)) for stage in stages]
        if any(stage.block > 1 for stage in made):
            raise ValueError("stages of product cannot work in blocks")
        super().__init__(made)
        self.dim, self.width = dim, dim // len(stages)
        self.identity_path = all(stage.identity_path for stage in made)

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return what a part for each stage makes."""
        count, found = len(options[STAGES]), [METHODS[stage["name"]].cls.widths(stage) for stage in options[STAGES]]
        least = max((least for least, _ in found), default=1)
        return max(1, count) * least, max(1, count) * math.lcm(*(divisor for _, divisor in found))

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
            if one_step(self.parts):
                return self._one_step(z.float())
            results = [stage.learn(part) for stage, part in self._split(z.float())]
        return Quantized(
            torch.cat([result.vectors for result in results], dim=-1),
            torch.cat([result.tokens for result in results], dim=-1),
            torch.stack([result.loss for result in results]).sum(),
            torch.cat([codes_of(stage, result) for stage, result in zip(self.parts, results, strict=True)], dim=-1),
        )

    def _one_step(self, z: Tensor) -> Quantized:
        z = self.prepare(z)
        tokens, codes = [], []
        for stage, part in self._split(z):
            tokens.append(stage.encode(part))
            codes.append(stage.decode(tokens[-1]))
            _note(stage, part.detach(), codes[-1], tokens[-1])
        vectors = _step(self.parts[0], z, torch.cat(codes, dim=-1))
        return Quantized(vectors, torch.cat(tokens, dim=-1), torch.zeros((), device=z.device))

    def _split(self, z: Tensor) -> list[tuple[Quantizer, Tensor]]:
        return list(zip(self.parts, torch.split(z, self.width, dim=-1), strict=True))

    def initialise(self, z: Tensor) -> None:
        """Start each stage from its part of (N, D) latents."""
        for stage, part in self._split(z):
            stage.initialise(part)


def codes_of(stage: Quantizer, result: Quantized) -> Tensor:
    """Return the (..., D) vectors that a stage's tokens stood for when it chose them, without gradient."""
    return stage.decode(result.tokens).detach() if result.codes is None else result.codes


def normalises(stage: Quantizer) -> bool:
    """Say whether the stage, or one it is made of, projects latents."""
    return any(getattr(part, "normalise", "none") != "none" for part in stage.modules())


def one_step(stages: Sequence[Quantizer]) -> bool:
    """Say whether the stages are of one method that steps on the whole error, with equal settings but for size."""
    if not all(isinstance(stage, CodebookQuantizer) and stage.one_step for stage in stages):
        return False
    own = ("codebook_size", "revival_patience", "transform")
    return all(
        {k: v for k, v in stage.settings.items() if k not in own}
        == {k: v for k, v in stages[0].settings.items() if k not in own}
        for stage in stages
    )


def _step(stage: Quantizer, z: Tensor, codes: Tensor) -> Tensor:
    return cast("CodebookQuantizer", stage).estimate(z, codes)


def _note(stage: Quantizer, z: Tensor, codes: Tensor, tokens: Tensor) -> None:
    cast("CodebookQuantizer", stage).observe(z, codes.detach(), tokens[..., 0])
