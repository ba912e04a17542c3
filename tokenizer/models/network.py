"""Encoder and decoder, convolutional networks.

Fully convolutional, with a finite receptive field: nothing mixes over the whole image, so a position's latent does
not depend on how large the image is. No stage runs at full resolution: the stem puts pixels into channels
(space-to-depth), the decoder puts them back, and one small convolution after that works against block edges.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tokenizer.config import NetworkConfig

# Pixels along each side that the stem puts into channels: the first stage runs at a quarter of the resolution.
_STEM = 4


class ResidualBlock(nn.Module):
    """`x + conv3x3(relu(conv3x3(x)))`; the second kernel starts at 0, so a fresh block is the identity.

    There is no normalization: one over positions would tie every latent to the whole image, and one over channels
    costs more time than it earns (`benchmarks/README.md`).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        return x + self.second(nn.functional.relu(self.first(x)))


def _blocks(channels: int, depth: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(depth)]


class Encoder(nn.Module):
    """Images to latents: (B, 3, H, W) in [-1, 1] to (B, D, H / f, W / f), H and W multiples of f.

    Attributes:
        receptive_field: how many pixels beyond its own f x f a latent depends on, to each side.
    """

    receptive_field: int

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        # A 3x3 kernel reaches one position further, which at stage s is _STEM 2^s pixels: the stem has one, each block
        # two. Kernels that halve the resolution do not overlap, and reach no further.
        self.receptive_field = _STEM * (1 + sum(2 * depth << stage for stage, depth in enumerate(config.depths)))
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(_STEM),
            nn.Conv2d(3 * _STEM**2, config.widths[0], 3, padding=1),
        ]
        layers += _blocks(config.widths[0], config.depths[0])
        for (narrow, wide), depth in zip(pairwise(config.widths), config.depths[1:], strict=True):
            layers += [nn.Conv2d(narrow, wide, 2, stride=2), *_blocks(wide, depth)]
        layers += [nn.Conv2d(config.widths[-1], config.latent_dim, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, D, h, w) latents."""
        latents: Tensor = self.layers(images)
        return latents


class Decoder(nn.Module):
    """Latents to images, the encoder's mirror: (B, D, h, w) to (B, 3, f h, f w), about [-1, 1], not clamped.

    Attributes:
        receptive_field: how many latents beyond the one they lie in the f x f pixels depend on, to each side.
    """

    receptive_field: int

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        # Backwards, in positions of each stage. Of the first stage's grid, the last 3x3 over pixels needs one position
        # beyond, the 3x3 before that one more, and each block two; a stage below has half as many, rounded up.
        receptive_field = 2
        for depth in config.depths[:-1]:
            receptive_field = -(-(receptive_field + 2 * depth) // 2)
        self.receptive_field = receptive_field + 2 * config.depths[-1]
        widths, depths = config.widths[::-1], config.depths[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.latent_dim, widths[0], 1)]
        layers += _blocks(widths[0], depths[0])
        for (wide, narrow), depth in zip(pairwise(widths), depths[1:], strict=True):
            layers += [nn.Conv2d(wide, 4 * narrow, 1), nn.PixelShuffle(2), *_blocks(narrow, depth)]
        layers += [nn.Conv2d(widths[-1], 3 * _STEM**2, 3, padding=1), nn.PixelShuffle(_STEM)]
        self.layers = nn.Sequential(*layers)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            self.smooth.weight.mul_(0.1)
            self.smooth.bias.zero_()  # type: ignore[union-attr]

    def forward(self, latents: Tensor) -> Tensor:
        """Return the (B, 3, f h, f w) images."""
        images: Tensor = self.layers(latents)
        return images + self.smooth(images)
