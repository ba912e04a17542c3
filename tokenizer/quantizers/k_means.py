"""K-means, which places a codebook on latents, and a short tour, which orders it."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.quantizers.search import nearest


@torch.no_grad()
def k_means(z: Tensor, count: int, iterations: int = 10) -> Tensor:
    """Return `count` centers that cover latents `z`: Lloyd's k-means, started on distinct latents.

    A center that loses all its latents stays where it was. With fewer latents than centers, latents are used
    again, and a noise of a hundredth of their spread keeps centers apart.

    Args:
        z: (N, D) latents, N at least 1.
        count: number of centers.
        iterations: of Lloyd's algorithm.

    Returns:
        (count, D) float32.
    """
    z = z.detach().float()
    order = torch.cat([torch.randperm(len(z), device=z.device) for _ in range(-(-count // len(z)))])[:count]
    centers = z[order]
    if len(z) < count:
        return centers + 0.01 * z.std(correction=0) * torch.randn_like(centers)
    for _ in range(iterations):
        owner = nearest(z, centers)
        sizes = torch.zeros(count, device=z.device).index_add_(0, owner, torch.ones(len(z), device=z.device))
        sums = torch.zeros_like(centers).index_add_(0, owner, z)
        centers = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp_min(1), centers)
    return centers


@torch.no_grad()
def short_tour(points: Tensor) -> Tensor:
    """Return an order of (K, D) points in which neighbors are near each other.

    It begins at the point furthest from the mean, and goes on to the nearest of those that are left.

    Returns:
        (K,) int64, each index once.
    """
    start = int((points - points.mean(dim=0)).norm(dim=1).argmax())
    left = torch.zeros(len(points), device=points.device)
    order = torch.empty(len(points), dtype=torch.int64, device=points.device)
    here = torch.tensor(start, device=points.device)
    for place in range(len(points)):
        order[place] = here
        left[here] = torch.inf
        here = ((points - points[here]).square().sum(dim=1) + left).argmin()
    return order
