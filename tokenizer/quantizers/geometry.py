"""Directions."""

from __future__ import annotations

from torch import Tensor


def unit(v: Tensor) -> Tensor:
    """Return the direction of (..., D) vectors: `v / max(|v|, 1e-12)`, 0 for a zero vector."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12)
