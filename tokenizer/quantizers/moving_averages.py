"""Moving averages of the latents that chose each code, over all ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenizer.runtime import sum_over_ranks

# Added to every count before the division, so that a code that no latent chose keeps a finite mean.
_SMOOTHING = 1e-5


class MovingAverages(nn.Module):
    """Moving sums and counts, over all ranks. They belong to the training state, not to the checkpoint.

    Args:
        codebook_size: K.
        dim: D.
        decay: share of the old sums that one step keeps.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, codebook_size: int, dim: int, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}, expected 0 or more and less than 1")
        self.decay = decay
        self.register_buffer("sums", torch.zeros(codebook_size, dim), persistent=False)
        self.register_buffer("counts", torch.zeros(codebook_size), persistent=False)

    @torch.no_grad()
    def add(self, z: Tensor, chosen: Tensor) -> None:
        """Count (..., D) latents at the (...,) codes that they chose."""
        index, flat = chosen.flatten(), z.reshape(-1, z.shape[-1])
        sums = torch.zeros_like(self.sums).index_add_(0, index, flat)
        counts = torch.zeros_like(self.counts).index_add_(0, index, torch.ones_like(flat[:, 0]))
        self.sums.lerp_(sum_over_ranks(sums), 1 - self.decay)
        self.counts.lerp_(sum_over_ranks(counts), 1 - self.decay)

    @torch.no_grad()
    def means(self, code_vectors: Tensor) -> Tensor:
        """Return the (K, D) averages; a code that was never counted keeps its row of (K, D) `code_vectors`."""
        total, size = self.counts.sum(), len(self.counts)
        # Smoothed counts, scaled so that their sum is still that of the counts.
        smooth = (self.counts + _SMOOTHING) / (total + size * _SMOOTHING) * total
        return torch.where(self.counts[:, None] > 0, self.sums / smooth.clamp_min(1e-30)[:, None], code_vectors)

    @torch.no_grad()
    def restart(self, code_vectors: Tensor, rows: Tensor | None = None) -> None:
        """Begin anew from (K, D) `code_vectors`, at (K,) bool `rows` or at all: as if one latent had chosen each."""
        if rows is None:
            rows = torch.ones_like(self.counts, dtype=torch.bool)
        self.sums.copy_(torch.where(rows[:, None], code_vectors, self.sums))
        self.counts.masked_fill_(rows, 1.0)
