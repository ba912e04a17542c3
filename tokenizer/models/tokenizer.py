"""Tokenizer: encoder, quantizer and decoder in one module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.config import NetworkConfig
from tokenizer.models.network import Decoder, Encoder
from tokenizer.quantizers import Quantized, build_quantizer


@dataclass(frozen=True)
class Reconstruction:
    """One pass through the whole tokenizer.

    Attributes:
        images: (B, 3, H, W) float, about [-1, 1], not clamped.
        tokens: (B, h, w, C) int64.
        loss: () the quantizer's auxiliary loss.
    """

    images: Tensor
    tokens: Tensor
    loss: Tensor


class Tokenizer(nn.Module):
    """Images to grids of integers and back.

    Args:
        network: the encoder's and decoder's shape.
        quantizer: name and options of a registered quantizer.
        encoder: in place of the network's own: (B, 3, H, W) in [-1, 1], channels last, to (B, D, H / f, W / f), where
            D is `network.latent_dim` and f `network.downsample`.
        decoder: in place of the network's own: (B, D, h, w) to (B, 3, f h, f w), about [-1, 1], not clamped.

    Raises:
        ConfigError: `quantizer` does not describe one.
    """

    def __init__(
        self,
        network: NetworkConfig,
        quantizer: Mapping[str, Any],
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        # The quantizer draws its random numbers last: one seed gives every method the same encoder and decoder.
        encoder = Encoder(network) if encoder is None else encoder
        decoder = Decoder(network) if decoder is None else decoder
        self.encoder = encoder
        self.quantizer = build_quantizer(quantizer, network.latent_dim)
        self.decoder = decoder

    @property
    def downsample(self) -> int:
        """Pixels per position, along each side."""
        return self.network.downsample * self.quantizer.block

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Alphabet size of each of the C codes per position."""
        return self.quantizer.sizes

    def channels_last(self) -> Tokenizer:
        """Lay kernels out in memory channels last, as `latents` hands images on, and return this tokenizer."""
        for tensor in [*self.parameters(), *self.buffers()]:
            if tensor.ndim == 4:
                tensor.data = tensor.data.to(memory_format=torch.channels_last)
        return self

    def forward(self, images: Tensor) -> Reconstruction:
        """Return the reconstruction of (B, 3, H, W) images; from the tokens alone in evaluation mode."""
        quantized: Quantized = self.quantizer(self.latents(images))
        return Reconstruction(self.pictures(quantized.vectors), quantized.tokens, quantized.loss)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the (B, h, w, C) int64 tokens of (B, 3, H, W) images in [-1, 1].

        Raises:
            ValueError: height or width is no multiple of `downsample`.
        """
        return self.quantizer.encode(self.latents(images))

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (B, 3, H, W) images, clamped to [-1, 1], of (B, h, w, C) tokens."""
        return self.pictures(self.quantizer.decode(tokens)).clamp(-1, 1)

    def latents(self, images: Tensor, encoder: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the (B, h, w, D) latents of (B, 3, H, W) images.

        Args:
            images: in [-1, 1].
            encoder: in place of the model's own, such as a compiled one.

        Raises:
            ValueError: height or width is no multiple of `downsample`.
        """
        height, width = images.shape[-2:]
        if height % self.downsample or width % self.downsample or not height * width:
            raise ValueError(f"images are {height}x{width}, expected positive multiples of {self.downsample}")
        encoder = self.encoder if encoder is None else encoder  # a compiled one has no truth value
        latents: Tensor = encoder(images.contiguous(memory_format=torch.channels_last))
        return space_to_depth(latents.permute(0, 2, 3, 1), self.quantizer.block)

    def pictures(self, vectors: Tensor) -> Tensor:
        """Return the (B, 3, H, W) float32 images of (B, h, w, D) vectors, not clamped."""
        images: Tensor = self.decoder(depth_to_space(vectors, self.quantizer.block).permute(0, 3, 1, 2))
        return images.float()


def space_to_depth(latents: Tensor, block: int) -> Tensor:
    """Return (B, H, W, D) latents as (B, H / block, W / block, block^2 D): the latents of a block, row after row."""
    if block == 1:
        return latents
    batch, height, width, dim = latents.shape
    blocks = latents.reshape(batch, height // block, block, width // block, block, dim).transpose(2, 3)
    return blocks.reshape(batch, height // block, width // block, -1)


def depth_to_space(vectors: Tensor, block: int) -> Tensor:
    """Return (B, h, w, block^2 D) vectors as (B, h block, w block, D): the inverse of `space_to_depth`."""
    if block == 1:
        return vectors
    batch, height, width, wide = vectors.shape
    blocks = vectors.reshape(batch, height, width, block, block, wide // block**2).transpose(2, 3)
    return blocks.reshape(batch, height * block, width * block, -1)


def to_unit_range(pixels: Tensor) -> Tensor:
    """Return (B, H, W, 3) uint8 pixels as (B, 3, H, W) float32 in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Return (B, 3, H, W) images in [-1, 1] as (B, H, W, 3) uint8, rounded, not truncated."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
