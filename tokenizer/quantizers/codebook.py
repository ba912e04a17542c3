"""What every quantizer with one table of codes shares."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized, Quantizer, Reseeded
from tokenizer.quantizers.initialise import spread
from tokenizer.quantizers.revival import Revival
from tokenizer.search import nearest


class CodebookQuantizer(Quantizer):
    """A quantizer whose token is the nearest row of one (K, D) table.

    A method holds only its `estimate`, and `auxiliary_loss` where it has one.

    Args:
        dim: D, the width of a latent.
        codebook_size: K.
        revival_patience: steps after which a code that no latent chose is re-seeded; 0 turns it off.
    """

    def __init__(self, dim: int, codebook_size: int, revival_patience: int) -> None:
        super().__init__()
        if dim < 1 or codebook_size < 1:
            raise ValueError(f"dim is {dim} and codebook_size {codebook_size}, expected 1 or more")
        self.dim = dim
        self.sizes = (codebook_size,)
        self.codebook = nn.Parameter(torch.randn(codebook_size, dim))
        self.revival = Revival(codebook_size, revival_patience)

    @abstractmethod
    def estimate(self, z: Tensor, codes: Tensor) -> Tensor:
        """Return the (..., D) training output for latents `z` and their nearest `codes`, both (..., D) float32."""

    def auxiliary_loss(self, z: Tensor, codes: Tensor) -> Tensor:  # noqa: ARG002  # for methods that have one
        """Return the () loss that the method adds to the reconstruction's; 0 unless a method says otherwise."""
        return torch.zeros((), device=z.device)

    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., 1) index of the nearest code; float32 distances, the lowest among equal codes."""
        self.check_width(z)
        return nearest(z.reshape(-1, self.dim), self.codebook).reshape(*z.shape[:-1], 1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) codes of (..., 1) tokens."""
        self.check_codes(tokens)
        return nn.functional.embedding(tokens[..., 0].long(), self.codebook)

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) latents for training and count the codes they chose."""
        tokens = self.encode(z)
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            codes = self.decode(tokens)
            vectors, loss = self.estimate(z, codes), self.auxiliary_loss(z, codes)
        self.revival.observe(z, codes, tokens)
        return Quantized(vectors, tokens, loss)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Place the codes on (N, D) latents by k-means."""
        self.check_width(z)
        self.codebook.copy_(spread(z, len(self.codebook)))

    @torch.no_grad()
    def revive(self) -> list[Reseeded]:
        """Move codes that no latent chose for a while to badly served latents of the last batch."""
        placed = self.revival.replacements()
        if placed is None:
            return []
        self.codebook.copy_(torch.where(placed.rows[:, None], placed.vectors, self.codebook))
        return [Reseeded(self.codebook, placed.rows)]
