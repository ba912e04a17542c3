"""Encoder and decoder, convolutional networks.

Fully convolutional, with a finite receptive field: nothing mixes over the whole image, so a position's latent does
not depend on how large the image is. No stage runs at full resolution: the stem puts pixels into channels
(space-to-depth), the decoder puts them back, and one small convolution after that works against block edges.

With a linear path, a block transform stands beside both: encoder and decoder begin as that transform alone, and learn
what it lacks.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from tokenizer.config import NetworkConfig
from tokenizer.models.winograd import Conv3x3

# Pixels along each side that the stem puts into channels: the first stage runs at a quarter of the resolution.
_STEM = 4
# Directions in (red, green, blue), and the variance of photographs along each over that along the first.
_COLOR_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
_COLOR_VARIANCES = (1.0, 0.06, 0.012)
_CORRELATION = 0.95  # of neighboring pixels


class ResidualBlock(nn.Module):
    """`x + conv3x3(relu(conv3x3(x)))`; the second kernel starts at 0, so a fresh block is the identity.

    There is no normalization: one over positions would tie every latent to the whole image, and one over channels
    costs more time than it earns (`benchmarks/README.md`).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv3x3(channels, channels)
        self.second = Conv3x3(channels, channels)
        _zeroed(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        return x + self.second(nn.functional.relu(self.first(x)))


def block_transform(side: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` basis functions of side x side blocks along which photographs vary most; and a mean of 0.

    The discrete cosine transform of three color axes, in the order of the variances of a first-order Markov process:
    near the blocks' principal components, and made without data. No more than the block has numbers.

    Source: Ahmed, Natarajan, Rao, "Discrete Cosine Transform" (IEEE Transactions on Computers, 1974): the transform,
    and the process of whose covariance it is nearly the eigenbasis.

    Returns:
        (count, 3 side^2) and (3 side^2,) float32, in the order of `PixelUnshuffle`.
    """
    steps = torch.arange(side, dtype=torch.float64)
    waves = torch.cos(math.pi / side * steps[:, None] * (steps + 0.5)) * math.sqrt(2 / side)
    waves[0] *= math.sqrt(0.5)
    covariance = _CORRELATION ** (steps[:, None] - steps).abs()
    variances = (waves @ covariance @ waves.T).diagonal()
    axes = nn.functional.normalize(torch.tensor(_COLOR_AXES, dtype=torch.float64))
    colors = torch.tensor(_COLOR_VARIANCES, dtype=torch.float64)[:, None, None]
    order = (colors * variances[:, None] * variances).flatten().argsort(descending=True, stable=True)[:count]
    basis = torch.einsum("ac,ux,vy->auvcxy", axes, waves, waves).reshape(3 * side**2, -1)
    return basis[order].float(), torch.zeros(3 * side**2)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _places(layers: nn.Sequential) -> dict[tuple[int, int], nn.Module]:
    """Return modules by (layer, block): how many that are no blocks came before, and how many blocks after these."""
    found: dict[tuple[int, int], nn.Module] = {}
    layer = block = 0
    for module in layers:
        is_block = isinstance(module, ResidualBlock)
        layer, block = (layer, block + 1) if is_block else (layer + 1, 0)
        found[layer, block] = module
    return found


class _Part(nn.Module):
    """What encoder and decoder share: layers, a linear path beside them or none, and how they begin as a smaller one.

    Attributes:
        layers: the convolutional path.
        linear: a block transform, where the configuration has it.
    """

    layers: nn.Sequential
    linear: nn.Sequential | None

    def use_basis(self, basis: Tensor, mean: Tensor) -> None:
        """Let the linear path compute the coordinates of blocks of pixels, or blocks of such coordinates.

        Args:
            basis: (D', 3 f^2) orthonormal rows, D' at most D: the coordinates beyond are 0.
            mean: (3 f^2,) the block whose coordinates are 0.
        """
        raise NotImplementedError

    def start_from(self, source: _Part) -> None:
        """Take over the weights of a part that may have fewer residual blocks in its stages, and no linear path.

        Fresh blocks are the identity, and a path that was not there becomes 0: this computes what `source` does.
        """
        places = _places(self.layers)
        for place, module in _places(source.layers).items():
            places[place].load_state_dict(module.state_dict())
        if self.linear is not None and source.linear is not None:
            self.linear.load_state_dict(source.linear.state_dict())
        elif self.linear is not None:
            for parameter in self.linear.parameters():
                nn.init.zeros_(parameter)


def _blocks(channels: int, depth: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(depth)]


class Encoder(_Part):
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
        last = nn.Conv2d(config.widths[-1], config.latent_dim, 1)
        self.layers = nn.Sequential(*layers, _zeroed(last) if config.linear else last)
        self.linear = None
        if config.linear:
            transform = nn.Conv2d(3 * config.downsample**2, config.latent_dim, 1)
            self.linear = nn.Sequential(nn.PixelUnshuffle(config.downsample), transform)
            self.use_basis(*block_transform(config.downsample, config.latent_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, D, h, w) latents."""
        latents: Tensor = self.layers(images)
        return latents if self.linear is None else latents + self.linear(images)

    @torch.no_grad()
    def use_basis(self, basis: Tensor, mean: Tensor) -> None:
        """Let the linear path compute the coordinates of blocks of pixels."""
        if self.linear is not None:
            weight, bias = (nn.init.zeros_(parameter) for parameter in self.linear.parameters())
            weight[: len(basis)] = basis[:, :, None, None]
            bias[: len(basis)] = -basis @ mean


class Decoder(_Part):
    """Latents to images, the encoder's mirror: (B, D, h, w) to (B, 3, f h, f w), about [-1, 1], not clamped.

    Attributes:
        receptive_field: how many latents beyond the one they lie in the f x f pixels depend on, to each side.
    """

    receptive_field: int

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        # Backwards, in positions of each stage. Of the first stage's grid, the last 3x3 over pixels needs one position
        # beyond, the 3x3 before that one more, and each block two; a stage below has half as many, rounded up.
        widths, depths = (shape[::-1] for shape in config.decoder_shape)
        receptive_field = 2
        for depth in depths[:0:-1]:
            receptive_field = -(-(receptive_field + 2 * depth) // 2)
        self.receptive_field = receptive_field + 2 * depths[0]
        layers: list[nn.Module] = [nn.Conv2d(config.latent_dim, widths[0], 1)]
        layers += _blocks(widths[0], depths[0])
        for (wide, narrow), depth in zip(pairwise(widths), depths[1:], strict=True):
            layers += [nn.Conv2d(wide, 4 * narrow, 1), nn.PixelShuffle(2), *_blocks(narrow, depth)]
        last = nn.Conv2d(widths[-1], 3 * _STEM**2, 3, padding=1)
        self.layers = nn.Sequential(*layers, _zeroed(last) if config.linear else last, nn.PixelShuffle(_STEM))
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            self.smooth.weight.mul_(0.0 if config.linear else 0.1)
            self.smooth.bias.zero_()  # type: ignore[union-attr]
        self.linear = None
        if config.linear:
            transform = nn.Conv2d(config.latent_dim, 3 * config.downsample**2, 1)
            self.linear = nn.Sequential(transform, nn.PixelShuffle(config.downsample))
            self.use_basis(*block_transform(config.downsample, config.latent_dim))

    def forward(self, latents: Tensor) -> Tensor:
        """Return the (B, 3, f h, f w) images."""
        images: Tensor = self.layers(latents)
        if self.linear is not None:
            images = images + self.linear(latents)
        return images + self.smooth(images)

    @torch.no_grad()
    def use_basis(self, basis: Tensor, mean: Tensor) -> None:
        """Let the linear path compute the blocks of pixels that have such coordinates."""
        if self.linear is not None:
            weight, bias = (nn.init.zeros_(parameter) for parameter in self.linear.parameters())
            weight[:, : len(basis)] = basis.T[:, :, None, None]
            bias.copy_(mean)

    def start_from(self, source: _Part) -> None:
        """Take over the weights of a smaller decoder."""
        super().start_from(source)
        if isinstance(source, Decoder):
            self.smooth.load_state_dict(source.smooth.state_dict())
