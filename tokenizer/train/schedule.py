"""The learning rate over a run."""

from __future__ import annotations

import math


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Return the rate at `progress` (0 to 1): linear from 0 over `warmup`, then a cosine from `peak` to 0."""
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
