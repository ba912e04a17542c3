"""Combinators: quantizers that are made of quantizers, their stages, with several codes for one position."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized, Quantizer, ReplacedRows
from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.notation import STAGES
from tokenizer.quantizers.registry import METHODS

Specs = tuple[Mapping[str, Any], ...]


class Combinator(Quantizer):
    """A quantizer made of stages, each a quantizer.

    Args:
        stages: the quantizers, in the order of their codes.
    """

    def __init__(self, stages: Sequence[Quantizer]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.sizes = tuple(size for stage in stages for size in stage.sizes)

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return the least width that all stages can work with, and what divides it."""
        found = [METHODS[stage["name"]].cls.widths(stage) for stage in options[STAGES]]
        return max((least for least, _ in found), default=1), math.lcm(*(divisor for _, divisor in found))

    @classmethod
    def min_parameters(cls, options: Mapping[str, Any], dim: int) -> int:
        """Return the sum over the stages."""
        return sum(
            METHODS[stage["name"]].cls.min_parameters(stage, cls.share(options, dim)) for stage in options[STAGES]
        )

    @classmethod
    def share(cls, options: Mapping[str, Any], dim: int) -> int:  # noqa: ARG003  # for those that split latents
        """Return the width of what each stage sees of latents `dim` wide."""
        return dim

    @property
    def parts(self) -> list[Quantizer]:
        """The stages, in order."""
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]

    @property
    def spec(self) -> dict[str, Any]:
        """Name and options, and those of the stages as they are now."""
        return {**self.settings, STAGES: [stage.spec for stage in self.parts]}

    @abstractmethod
    def initialize(self, z: Tensor) -> None:
        """Start each stage from what it will see of (N, D) latents."""

    def replace_dead_codes(self) -> list[ReplacedRows]:
        """Give new vectors to the dead codes of every stage."""
        return [change for stage in self.parts for change in stage.replace_dead_codes()]

    def merge_(self) -> None:
        """Turn the code vectors of every stage into plain tables."""
        for stage in self.parts:
            stage.merge_()

    def cut(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return the (..., C_i) tokens of each stage; C_i is 0 for stages beyond a prefix."""
        ends = itertools.accumulate(len(stage.sizes) for stage in self.parts)
        return tuple(tokens[..., end - len(stage.sizes) : end] for stage, end in zip(self.parts, ends, strict=True))


def chosen_vectors_of(stage: Quantizer, result: Quantized) -> Tensor:
    """Return the (..., D) vectors that a stage's tokens decoded to when it chose them, without gradient."""
    return stage.decode(result.tokens).detach() if result.chosen_vectors is None else result.chosen_vectors


def normalizes(stage: Quantizer) -> bool:
    """Say whether the stage, or one it is made of, projects latents."""
    return any(getattr(part, "normalize", "none") != "none" for part in stage.modules())


def is_one_step(stages: Sequence[Quantizer]) -> bool:
    """Say whether the stages are of one method of `one_step`, with equal settings but for those of their tables."""
    if not all(isinstance(stage, CodebookQuantizer) and stage.one_step for stage in stages):
        return False
    own = ("codebook_size", "dead_code_patience", "transform")
    return all(
        {k: v for k, v in stage.settings.items() if k not in own}
        == {k: v for k, v in stages[0].settings.items() if k not in own}
        for stage in stages
    )


def combined_step(stage: Quantizer, z: Tensor, chosen_vectors: Tensor) -> Tensor:
    """Return the (..., D) training output of a method of `one_step` for the vectors that all stages chose together."""
    return cast("CodebookQuantizer", stage).estimate(z, chosen_vectors)


def observe_choice(stage: Quantizer, z: Tensor, chosen_vectors: Tensor, tokens: Tensor) -> None:
    """Let a stage of `one_step` note the (..., D) latents it saw, and the vectors and (..., 1) tokens it chose."""
    cast("CodebookQuantizer", stage).observe(z, chosen_vectors.detach(), tokens[..., 0])
