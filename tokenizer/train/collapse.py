"""A codebook that dies, noticed while there is time to start again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from tokenizer.config import TrainConfig

# Methods that work end far above it: between 10 and 60 % of their codes in benchmarks/README.md, at 1024 codes and at
# 16,384. One that died ends at a few codes, whatever their number.
_FLOOR = 0.02
# 2 % of a few codes is less than one; a single code that takes nearly all tokens is a collapse of any number of codes.
_LOWEST_FLOOR = 1.1
# Codes that were just placed, and dead ones that replacement is still moving, need some time.
_PATIENCE = 0.1


class CollapseWatch:
    """Says once when nearly all tokens are the same few.

    Args:
        config: of the run.
        sizes: alphabet size of each code slot.
    """

    def __init__(self, config: TrainConfig, sizes: Sequence[int]) -> None:
        self._config, self._slots = config, len(sizes)
        self._size = math.prod(sizes) ** (1 / len(sizes))
        placed = config.quantize_after or 0.0
        self._from = placed + _PATIENCE * (1 - placed)
        self._said = False

    def warning(self, progress: float, perplexity: float, counts: Tensor) -> str | None:
        """Return what is wrong and what to try, the first time that it is.

        Args:
            progress: share of the budget spent, 0 to 1.
            perplexity: of the code frequencies, geometric mean over code slots.
            counts: how often each code of each slot was chosen, one slot after the other.
        """
        if self._said or progress < self._from:
            return None
        tokens = int(counts.sum()) // self._slots  # which cannot show more codes than that
        floor = max(_LOWEST_FLOOR, _FLOOR * min(self._size, tokens))
        if not tokens or perplexity >= floor:
            return None
        self._said = True
        *first, last = _remedies(self._config)
        return (
            f"the codebook collapses: perplexity {perplexity:.1f} of {round(self._size)} codes over the last {tokens} "
            f"positions. Try {', '.join(first)} or {last}"
        )


def _remedies(config: TrainConfig) -> Iterator[str]:
    """Yield what to try, most promising first."""
    parts = list(_parts(config.quantizer))
    if any(part.get("dead_code_patience") == 0 for part in parts):
        yield "the quantizer's dead_code_patience=50, which moves dead codes"
    if not config.quantize_after:
        yield "--set quantize_after=0.2, which places the codes by k-means on trained latents"
    yield f"--lr {config.lr / 4:g}"
    if config.quantizer.get("normalize") == "none":  # stages of a residual one cannot
        yield "the quantizer's normalize=rms"
    if any(part.get("transform") == "none" for part in parts):
        yield "its transform=linear"
    if config.quantizer["name"] != "diveq":
        yield "--quantizer diveq"
    yield "a smaller --codebook-size"


def _parts(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield spec
    for stage in spec.get("stages", ()):
        yield from _parts(stage)
