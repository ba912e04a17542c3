"""Multiscale quantization: a block of latents as a few coarse codes and more fine ones."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized, Quantizer
from tokenizer.quantizers.combinators import Combinator, Specs, chosen_vectors_of, normalizes
from tokenizer.quantizers.registry import build_quantizer, register

_DEFAULT: Specs = ({"name": "diveq"}, {"name": "diveq"})
# Latents along each side of a block: the matrices that average and spread them grow with the fourth power of it.
_LARGEST_BLOCK = 16


@register("multiscale", "coarse grids before fine ones in blocks of latents: multiscale(2*diveq, scales=1 2)")
class Multiscale(Combinator):
    """A block of S x S latents as grids of 1 x 1, ..., S x S codes, each grid on what the coarser ones left over.

    A grid of s x s is the block averaged over squares, quantized, and spread bilinearly over the block again; what
    remains goes to the next grid. Two scales are the two levels of VQ-VAE-2 (Razavi et al., 2019), as a
    residual; more are the multi-scale residual of VAR (Tian et al., "Visual Autoregressive Modeling", 2024,
    https://arxiv.org/abs/2404.02905, algorithm 1). A prefix of whole grids decodes to a coarser picture.

    Departures: grids belong to blocks, not to the image, so that images of any size have tokens; and no
    convolution follows the interpolation.

    Args:
        dim: width of one latent; the quantizer's own D is S^2 times that.
        stages: specs of the quantizers: one for each scale, or one that all share.
        scales: codes along each side, ascending; each divides the last one, S.
    """

    def __init__(self, dim: int, *, stages: Specs = _DEFAULT, scales: tuple[int, ...] = (1, 2)) -> None:
        if max(scales, default=0) > _LARGEST_BLOCK:
            raise ValueError(f"scales are {scales}, expected at most {_LARGEST_BLOCK}")
        if not scales or list(scales) != sorted(set(scales)) or any(s < 1 or scales[-1] % s for s in scales):
            raise ValueError(f"scales are {scales}, expected ascending divisors of the last")
        if len(stages) not in (1, len(scales)):
            raise ValueError(f"{len(stages)} stages for {len(scales)} scales: name one, or one for each")
        made = [build_quantizer(stage, dim) for stage in stages]
        if any(stage.block > 1 or normalizes(stage) for stage in made):
            raise ValueError("stages of multiscale can neither work in blocks nor normalize")
        super().__init__(made)
        self.scales, self.block, self.width = scales, scales[-1], dim
        self.dim = dim * self.block**2
        self.sizes = tuple(size for _, stage, s in self._grids() for _ in range(s * s) for size in stage.sizes)
        for number, s in enumerate(scales):
            self.register_buffer(f"average_{number}", _averaging(self.block, s), persistent=False)
            self.register_buffer(f"spread_{number}", _spreading(s, self.block), persistent=False)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Any number of whole grids."""
        return tuple(itertools.accumulate(s * s * len(stage.sizes) for _, stage, s in self._grids()))

    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., C) tokens, grid after grid, row after row."""
        self.check_width(z)
        left, tokens = self._block(z), []
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            for number, stage, _ in self._grids():
                found = stage.encode(self._average(left, number))
                left = left - self._spread(stage.decode(found), number)
                tokens.append(found.flatten(-2))
        return torch.cat(tokens, dim=-1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) blocks of (..., n) tokens, n in `prefixes`."""
        self.check_codes(tokens)
        parts, before = [], 0
        with torch.autocast(tokens.device.type, enabled=False):
            for (number, stage, s), end in zip(self._grids(), self.prefixes, strict=True):
                if end > tokens.shape[-1]:
                    break
                grid = tokens[..., before:end].reshape(*tokens.shape[:-1], s * s, len(stage.sizes))
                parts.append(self._spread(stage.decode(grid), number))
                before = end
        return torch.stack(parts).sum(dim=0).flatten(-2)

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) blocks for training; the gradient that passes as it is reaches each latent once."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            left = self._block(z)
            total, loss, tokens = left - left.detach(), torch.zeros((), device=z.device), []
            for number, stage, _ in self._grids():
                seen = self._average(left if stage.identity_path else left.detach(), number)
                result = stage.learn(seen)
                total = total + self._spread(result.vectors - (seen - seen.detach()), number)
                left = left - self._spread(chosen_vectors_of(stage, result), number)
                loss = loss + result.loss
                tokens.append(result.tokens.flatten(-2))
        chosen_vectors = (self._block(z) - left).detach().flatten(-2)
        return Quantized(total.flatten(-2), torch.cat(tokens, dim=-1), loss, chosen_vectors)

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Start each stage from what it will see of (N, D) blocks; a shared one from all its grids."""
        if len(self.stages) == 1:
            left = self._block(z)
            seen = [self._average(left, number) for number in range(len(self.scales))]
            self.parts[0].initialize(torch.cat([grid.flatten(0, 1) for grid in seen]))
            return
        left = self._block(z)
        for number, stage, _ in self._grids():
            seen_now = self._average(left, number)
            stage.initialize(seen_now.flatten(0, 1))
            left = left - self._spread(stage.decode(stage.encode(seen_now)), number)

    def _grids(self) -> list[tuple[int, Quantizer, int]]:
        """Return number, stage and side of each grid."""
        parts = self.parts * len(self.scales) if len(self.stages) == 1 else self.parts
        return [(n, stage, s) for n, (stage, s) in enumerate(zip(parts, self.scales, strict=True))]

    def _block(self, z: Tensor) -> Tensor:
        """Return (..., S^2, width) for (..., D)."""
        return z.float().reshape(*z.shape[:-1], self.block**2, self.width)

    def _average(self, block: Tensor, number: int) -> Tensor:
        return self.get_buffer(f"average_{number}") @ block

    def _spread(self, grid: Tensor, number: int) -> Tensor:
        return self.get_buffer(f"spread_{number}") @ grid


def _averaging(block: int, side: int) -> Tensor:
    """Return the (side^2, block^2) matrix that averages a block over squares."""
    squares = torch.eye(block**2).view(block**2, 1, block, block)
    return nn.functional.avg_pool2d(squares, block // side).flatten(1).T.contiguous()


def _spreading(side: int, block: int) -> Tensor:
    """Return the (block^2, side^2) matrix that interpolates a grid bilinearly over a block."""
    corners = torch.eye(side**2).view(side**2, 1, side, side)
    wide = nn.functional.interpolate(corners, size=(block, block), mode="bilinear", align_corners=False)
    return wide.flatten(1).T.contiguous()
