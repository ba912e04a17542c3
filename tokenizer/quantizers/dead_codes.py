"""Dead-code replacement: new vectors for codes that no latent chooses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokenizer.runtime import any_over_ranks, from_first_rank, gather_rows


@dataclass(frozen=True)
class Replacements:
    """New vectors for dead codes.

    Attributes:
        rows: (K,) bool, true where the code is dead.
        vectors: (K, D) a new vector for each code; only those of `rows` are to be used.
    """

    rows: Tensor
    vectors: Tensor


class DeadCodeReplacement(nn.Module):
    """Counts which codes are chosen, and finds new vectors for those that no latent chose for `patience` steps.

    The vector of a dead code moves to a latent of the last batch, drawn in proportion to its squared error, with a
    noise of a hundredth of the latents' spread so that no two vectors coincide. Nothing here waits for the device. On
    several ranks a code is dead when none chose it, and the first rank draws its vector from the latents of all.
    The counts belong to the training state, not to the checkpoint.

    Args:
        codebook_size: K.
        patience: steps; 0 turns it off.
    """

    idle_steps: Tensor

    def __init__(self, codebook_size: int, patience: int) -> None:
        super().__init__()
        if patience < 0:
            raise ValueError(f"dead_code_patience is {patience}, expected 0 or more")
        self.patience = patience
        self.register_buffer("idle_steps", torch.zeros(codebook_size, dtype=torch.int64), persistent=False)
        self._latents: Tensor | None = None
        self._errors: Tensor | None = None

    @torch.no_grad()
    def observe(self, z: Tensor, chosen_vectors: Tensor, chosen: Tensor) -> None:
        """Note one step: (..., D) latents, the (..., D) code vectors they chose, and the (...,) codes of these."""
        hit = torch.zeros_like(self.idle_steps, dtype=torch.bool)
        hit[chosen.flatten()] = True
        self.idle_steps.add_(1).masked_fill_(any_over_ranks(hit), 0)
        self._latents = z.detach().reshape(-1, z.shape[-1])
        self._errors = (chosen_vectors - z).detach().square().sum(dim=-1).flatten()

    @torch.no_grad()
    def replacements(self) -> Replacements | None:
        """Return new vectors for the dead codes, whose counts start anew; None when there is nothing to do."""
        latents, errors = self._latents, self._errors
        self._latents = self._errors = None
        if not self.patience or latents is None or errors is None:
            return None
        latents, errors = gather_rows(latents), gather_rows(errors)
        rows = self.idle_steps >= self.patience
        if not len(latents):  # no rank had any: draw from one made up, and replace nothing
            latents, errors, rows = latents.new_zeros(1, latents.shape[1]), errors.new_zeros(1), torch.zeros_like(rows)
        rows = from_first_rank(rows)
        self.idle_steps.masked_fill_(rows, 0)
        drawn = latents[torch.multinomial(errors + 1e-12, len(rows), replacement=True)]
        noise = 0.01 * latents.std(correction=0) * torch.randn_like(drawn)
        return Replacements(rows, from_first_rank(drawn + noise))
