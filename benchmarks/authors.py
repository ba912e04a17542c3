"""The DiVeQ authors' recipe, rebuilt from its description: the baseline that `quality.py` measures against.

Source: Vali, Bäckström, Solin, https://arxiv.org/abs/2509.26469 (appendix on VQ-VAE experiments): stride-2 4x4
convolutions 32-64-128-256, 6 residual blocks of 128 channels, a 1x1 convolution to D = 512, a mirrored decoder of
transposed convolutions, the `diveq` package with its defaults, Adam at 5.5e-4, mean squared error, float32.
"""

from __future__ import annotations

import math

import torch
from diveq import DIVEQ
from torch import Tensor, nn

from tokenizer.quantizers.diveq import DiVeQ

WIDTHS = (32, 64, 128, 256)
LATENT_DIM = 512
HIDDEN = 128
BLOCKS = 6
LEARNING_RATE = 5.5e-4


class Block(nn.Module):
    """The VQ-VAE residual block: 3x3 to 128 channels, 1x1 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(HIDDEN, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        return x + self.layers(x)


class OurLayer(nn.Module):
    """Our DiVeQ layer behind the package's interface, its codebook placed on the latents of the first batch."""

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.layer = DiVeQ(LATENT_DIM, codebook_size=codebook_size)
        self.placed = False

    @property
    def codebook(self) -> Tensor:
        """The (K, D) codes."""
        return self.layer.code_vectors()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the training output and tokens of (N, D) latents."""
        if not self.placed:
            self.layer.initialize(z)
            self.placed = True
        result = self.layer(z)
        return result.vectors, result.tokens[:, 0], None

    def inference(self, z: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the codes and tokens of (N, D) latents."""
        tokens = self.layer.encode(z)
        return self.layer.decode(tokens), tokens[:, 0], None


class Authors(nn.Module):
    """Encoder, the package's quantizer (or ours), decoder. `downsample` of 16 has all four stages, 8 the last three."""

    def __init__(self, downsample: int, codebook_size: int, *, our_layer: bool = False) -> None:
        super().__init__()
        widths = WIDTHS[-int(math.log2(downsample)) :]
        down: list[nn.Module] = []
        for narrow, wide in zip((3, *widths), widths, strict=False):
            down += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.ReLU()]
        wide = widths[-1]
        down += [*(Block(wide) for _ in range(BLOCKS)), nn.ReLU(), nn.Conv2d(wide, LATENT_DIM, 1)]
        up: list[nn.Module] = [nn.Conv2d(LATENT_DIM, wide, 1), *(Block(wide) for _ in range(BLOCKS)), nn.ReLU()]
        for wide, narrow in zip(widths[::-1], (*widths[-2::-1], 3), strict=True):
            up += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up[:-1])
        self.quantizer = OurLayer(codebook_size) if our_layer else DIVEQ(codebook_size, LATENT_DIM, verbose=False)

    def _flat(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
        latents = self.encoder(images)
        batch, dim, height, width = latents.shape
        return latents.permute(0, 2, 3, 1).reshape(-1, dim), (batch, height, width, dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, 3, H, W) training output for (B, 3, H, W) images in [-1, 1]."""
        flat, shape = self._flat(images)
        vectors, _, _ = self.quantizer(flat)
        return self.decoder(vectors.view(shape).permute(0, 3, 1, 2))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the (B, h, w, 1) tokens."""
        flat, shape = self._flat(images)
        _, tokens, _ = self.quantizer.inference(flat)
        return tokens.view(*shape[:3], 1)

    @torch.inference_mode()
    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (B, 3, H, W) images in [-1, 1] of (B, h, w, 1) tokens."""
        return self.decoder(self.quantizer.codebook[tokens[..., 0]].permute(0, 3, 1, 2)).clamp(-1, 1)
