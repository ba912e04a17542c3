"""Directions of vectors, and rotation from one to another."""

from __future__ import annotations

import torch
from torch import Tensor

# Below this length a latent's direction is noise, and so would be a gradient scaled by its inverse.
_SHORTEST = 1e-6


def unit(v: Tensor) -> Tensor:
    """Return the direction of (..., D) vectors: `v / max(|v|, 1e-12)`, 0 for a zero vector."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def rotate(z: Tensor, target: Tensor) -> Tensor:
    """Return (..., D) `z` turned and scaled onto (..., D) `target`, by a rotation and a scale without gradient.

    `R = I - 2 r r^T + 2 t u^T` with u, t the directions of `z` and `target` and r that of `u + t`: the product of two
    reflections, which turns u onto t in their plane and leaves everything orthogonal to it alone.
    """
    with torch.no_grad():
        u, t = unit(z), unit(target)
        r = unit(u + t)
        scale = target.norm(dim=-1, keepdim=True) / z.norm(dim=-1, keepdim=True).clamp_min(_SHORTEST)
    along_r, along_u = (z * r).sum(dim=-1, keepdim=True), (z * u).sum(dim=-1, keepdim=True)
    return scale * (z - 2 * along_r * r + 2 * along_u * t)
