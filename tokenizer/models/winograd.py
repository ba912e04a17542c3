"""Winograd's minimal filtering: 3x3 convolutions for training on a CPU, with a quarter of the multiplications."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

# A tile of 4x4 outputs is made of 6x6 inputs.
_OUT, _IN = 4, 6
# Below this, transforming tiles takes longer than the multiplications that it saves (`benchmarks/convolutions.py`).
_LEAST_CHANNELS = 112
_CACHED = 2**23  # bytes


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution that keeps height and width.

    Where it is trained in float32 on a CPU, with many channels, the gradient's three convolutions are computed by
    Winograd's algorithm; everywhere else, encoding and decoding included, by torch's own. Both are float32: they differ
    by rounding, at most about 1e-5 of the largest value.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) for (B, inputs, h, w)."""
        if not self._by_winograd(x):
            return super().forward(x)
        y: Tensor = Winograd.apply(x.movedim(1, -1).contiguous(), self.weight, self.bias)
        return y.movedim(-1, 1)

    def _by_winograd(self, x: Tensor) -> bool:
        trained = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        fits = min(self.in_channels, self.out_channels) >= _LEAST_CHANNELS and not any(s % _OUT for s in x.shape[-2:])
        return trained and plain and fits and not torch.compiler.is_compiling()


class Winograd(torch.autograd.Function):
    """`F(4x4, 3x3)`: a 3x3 convolution of (B, H, W, C) with (K, C, 3, 3) and (K,), H and W multiples of 4.

    With V = B^T d B of every 6x6 tile d of the input and U = G g G^T of every kernel g, each of the 36 places of a tile
    is one matrix product V U over channels, and A^T (V U) A are the 4x4 outputs. Backward goes through the transposes.

    Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), https://arxiv.org/abs/1509.09308,
    section 4.3.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        """Return the (B, H, W, K) outputs."""
        into, of_kernels, out = _transforms(x.dtype)
        channels, count = x.shape[-1], len(kernels)
        u = (of_kernels @ kernels.permute(2, 3, 1, 0).reshape(9, -1)).view(_IN**2, channels, count)
        images, transformed = _images_at_once(x), []
        y = x.new_empty(*x.shape[:-1], count)
        for part, made in zip(torch.split(x, images), torch.split(y, images), strict=True):
            v = (into @ _cut(part)).view(_IN**2, -1, channels)
            products = torch.bmm(v, u).view(_IN**2, -1)
            _in_tiles(made).copy_((out @ products).view(_in_tiles(made).shape))
            transformed.append(v)
        ctx.save_for_backward(u, *transformed)
        return y.add_(bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients at the inputs, the kernels and the bias."""
        (gradient,), (u, *transformed) = gradients, ctx.saved_tensors
        into, of_kernels, out = _transforms(gradient.dtype)
        channels, count = u.shape[1:]
        sizes = [v.shape[1] * _OUT**2 // gradient[0, ..., 0].numel() for v in transformed]
        at_u, at_x = torch.zeros_like(u), []
        for part, v in zip(torch.split(gradient, sizes), transformed, strict=True):
            tiles = _in_tiles(part)
            at_products = (out.T @ tiles.reshape(_OUT**2, -1)).view(_IN**2, -1, count)
            if ctx.needs_input_grad[0]:
                at_tiles = into.T @ torch.bmm(at_products, u.transpose(1, 2)).view(_IN**2, -1)
                at_x.append(_add_up(at_tiles.view(_IN, _IN, *tiles.shape[2:5], channels)))
            if ctx.needs_input_grad[1]:
                at_u.baddbmm_(v.transpose(1, 2), at_products)
        at_kernels = (of_kernels.T @ at_u.view(_IN**2, -1)).view(3, 3, channels, count).permute(3, 2, 0, 1)
        return (
            torch.cat(at_x) if ctx.needs_input_grad[0] else None,
            at_kernels if ctx.needs_input_grad[1] else None,
            gradient.sum(dim=(0, 1, 2)) if ctx.needs_input_grad[2] else None,
        )


def _images_at_once(x: Tensor) -> int:
    """Return how many images of (B, H, W, C) are transformed together, so that a processor's cache holds them."""
    return max(1, _CACHED // (x.element_size() * x[0].numel() * _IN**2 // _OUT**2))


def _in_tiles(x: Tensor) -> Tensor:
    """Return (B, H, W, C) as (4, 4, B, H/4, W/4, C), the same memory where it is contiguous."""
    batch, height, width, channels = x.shape
    tiles = x.reshape(batch, height // _OUT, _OUT, width // _OUT, _OUT, channels)
    return tiles.permute(2, 4, 0, 1, 3, 5)


def _cut(x: Tensor) -> Tensor:
    """Return the (36, B H/4 W/4 C) tiles of (B, H, W, C), which overlap by two pixels, zeros around the image."""
    batch, height, width, channels = x.shape
    padded = nn.functional.pad(x, (0, 0, 1, 1, 1, 1))
    image, row, column, channel = padded.stride()
    shape = (_IN, _IN, batch, height // _OUT, width // _OUT, channels)
    return padded.as_strided(shape, (row, column, image, _OUT * row, _OUT * column, channel)).reshape(_IN**2, -1)


def _add_up(tiles: Tensor) -> Tensor:
    """Return (B, H, W, C) of which (6, 6, B, H/4, W/4, C) are the tiles, summed where they overlap."""
    _, _, batch, down, across, channels = tiles.shape
    over = _IN - _OUT
    wide = tiles.new_zeros(_IN, batch, down, across + 1, _OUT, channels)
    wide[:, :, :, :across] = tiles[:, :_OUT].permute(0, 2, 3, 4, 1, 5)
    wide[:, :, :, 1:, :over] += tiles[:, _OUT:].permute(0, 2, 3, 4, 1, 5)
    wide = wide.flatten(3, 4)
    whole = tiles.new_zeros(batch, down + 1, _OUT, wide.shape[3], channels)
    whole[:, :down] = wide[:_OUT].permute(1, 2, 0, 3, 4)
    whole[:, 1:, :over] += wide[_OUT:].permute(1, 2, 0, 3, 4)
    return whole.flatten(1, 2)[:, 1 : 1 + _OUT * down, 1 : 1 + _OUT * across]


@functools.cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return (36, 36), (36, 9) and (16, 36): B^T, G and A^T for both sides of a tile at once."""
    into = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
    into += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
    of_kernels = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]]
    of_kernels += [[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
    out = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    one, two, three = (torch.tensor(rows, dtype=torch.float64) for rows in (into, of_kernels, out))
    return tuple(torch.kron(side, side).to(dtype) for side in (one, two, three))  # type: ignore[return-value]
