"""The distance of the features that a network has of two images."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_LEAST = 1e-8  # of a feature vector's squared length, so that its direction has a bounded gradient


class FeatureDistance(nn.Module):
    """Squared distance between a network's features, each of unit length, summed over its stages.

    Its weights are frozen. It computes in the precision of its surroundings, or with `full_precision` in that of its
    weights, and compares in float32 or better.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018),
    https://arxiv.org/abs/1801.03924, equation 1. A departure: every channel's weight w_l is 1, where LPIPS has learned
    ones. Values are larger than those of LPIPS.

    Args:
        stages: what makes the features of each stage of those of the one before; of the first, of an image.
        mean, std: of each color, in [-1, 1], by which an image is normalized; None where it is not.
        full_precision: leave autocast off: for networks whose gradients suffer from it.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        stages: Iterable[nn.Module],
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        *,
        full_precision: bool = False,
    ) -> None:
        super().__init__()
        self._full_precision = full_precision
        self.stages = nn.ModuleList(stages)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, None if values is None else torch.tensor(values)[:, None, None])
        self.requires_grad_(requires_grad=False).eval().to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the () distance of (B, 3, H, W) images in [-1, 1] from `targets`, 0 to 4 for each stage.

        It is the mean over images, and over the positions of each stage. The gradient reaches the images alone.
        """
        off = torch.autocast(images.device.type, enabled=False) if self._full_precision else contextlib.nullcontext()
        with off:
            return self._distance(images, targets)

    def _distance(self, images: Tensor, targets: Tensor) -> Tensor:
        distance = images.new_zeros(())
        x, y = self._normalize(images), self._normalize(targets)
        for layers in self.stages:
            x = layers(x)
            with torch.no_grad():
                y = layers(y)
            distance = distance + (_directions(x) - _directions(y)).square().sum(dim=1).mean()
        return distance

    @functools.cached_property
    def digest(self) -> Tensor:
        """The (32,) uint8 SHA-256 of the weights."""
        sha = hashlib.sha256()
        for parameter in self.parameters():
            sha.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return torch.tensor(list(sha.digest()), dtype=torch.uint8)

    def _normalize(self, images: Tensor) -> Tensor:
        return images if self.mean is None or self.std is None else (images - self.mean) / self.std


def _directions(features: Tensor) -> Tensor:
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + _LEAST)
