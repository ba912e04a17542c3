"""What a search makes as large as possible, and how far float32 can be trusted with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer.quantizers.search.groups import CodeGroups


@dataclass(frozen=True)
class Scores:
    """`s_ij = z_i . c_j + o_j`, with the offset as one more column of the codes and a 1 beside each latent.

    For distances `o_j = -|c_j|^2 / 2`, so that `|z_i - c_j|^2 = |z_i|^2 - 2 s_ij`, and both sides are shifted by the
    mean code first, so that a common offset costs no precision. For inner products `o_j = 0`.

    Attributes:
        z: (N, D) latents as they came.
        codebook: (K, D) codes as they came.
        by_distance: whether the scores are those of distances.
        layout: how the codes are cut into tiles.
        latents: (N, D + 1) float32.
        codes: (P, D + 1) float32, P at least K; rows from K on score minus infinity.
        norms: (N,) float32, lengths of the (shifted) latents.
        longest: () float32, length of the longest (shifted) code.
    """

    z: Tensor
    codebook: Tensor
    by_distance: bool
    layout: CodeGroups
    latents: Tensor
    codes: Tensor
    norms: Tensor
    longest: Tensor

    @classmethod
    def distances(cls, z: Tensor, codebook: Tensor) -> Scores:
        """Return the scores that are largest where (N, D) latents and (K, D) codes are nearest."""
        return augment(z, codebook, torch.float32, CodeGroups.of(len(codebook)), by_distance=True)

    @classmethod
    def products(cls, z: Tensor, codebook: Tensor) -> Scores:
        """Return the scores of (N, D) latents and (K, D) codes that are their inner products."""
        return augment(z, codebook, torch.float32, CodeGroups.of(len(codebook)), by_distance=False)

    def rounding(self, unit: float) -> float:
        """Return the largest error of a computed score, as a share of `|z| |c| + |c|^2 / 2`.

        A sum of n terms in any order, each product and addition off by at most `unit`, is off by at most
        `n unit / (1 - n unit)` times the sum of their sizes (Higham, "Accuracy and Stability of Numerical Algorithms",
        2002, section 3.1). Here n is D + 6: D products, the offset with its own rounding, and the shift.
        """
        terms = (self.latents.shape[1] + 5) * unit
        return terms / (1 - terms)

    def slack(self, best: Tensor, error: float) -> Tensor:
        """Return the (N,) gap to (N,) `best` up to which two scores may be in the wrong order.

        A code as near as the best is no longer than the latent plus its distance, nor than the longest code. NaN where
        a number is not finite.
        """
        reach = self.longest.expand_as(self.norms)
        if not self.by_distance:
            return 2 * error * reach * self.norms
        distance = (self.norms.square() - 2 * best).clamp_min(0).sqrt()
        reach = torch.minimum(1.01 * (self.norms + distance), reach)
        return 2 * error * reach * (self.norms + reach / 2)

    def rows(self, rows: slice | Tensor) -> Scores:
        """Return the scores of some latents."""
        return dataclasses.replace(self, z=self.z[rows], latents=self.latents[rows], norms=self.norms[rows])


@dataclass(frozen=True)
class Winners:
    """What a float32 search found.

    Attributes:
        index: (N,) int64, the code with the largest computed score.
        best: (N,) float32, that score.
        second: (N,) float32, the largest computed score of any other code.
        error: of a computed score at most, as a share of `|z| |c| + |c|^2 / 2`.
    """

    index: Tensor
    best: Tensor
    second: Tensor
    error: float

    def certain(self, scores: Scores) -> Tensor:
        """Return (N,) bool: whether `index` is the best code without doubt."""
        return (self.best - self.second > scores.slack(self.best, self.error)) & self.best.isfinite()


def augment(z: Tensor, codebook: Tensor, dtype: torch.dtype, layout: CodeGroups, by_distance: bool) -> Scores:
    """Return the scores of (N, D) latents and (K, D) codes, held as `dtype`."""
    count, dim = codebook.shape
    latents = torch.empty(len(z), dim + 1, dtype=dtype, device=z.device)
    codes = torch.empty(layout.padded, dim + 1, dtype=dtype, device=z.device)
    codes[count:, :dim] = 0
    codes[count:, dim] = -torch.inf
    center = torch.zeros(dim, dtype=dtype, device=z.device)
    if by_distance:
        center = codebook.to(torch.promote_types(codebook.dtype, dtype)).mean(dim=0)
    torch.sub(z, center, out=latents[:, :dim])
    torch.sub(codebook, center, out=codes[:count, :dim])
    lengths = torch.linalg.vector_norm(codes[:count, :dim], dim=1)
    latents[:, dim] = 1
    codes[:count, dim] = lengths.square() / -2 if by_distance else 0
    norms = torch.linalg.vector_norm(latents[:, :dim], dim=1)
    return Scores(z, codebook, by_distance, layout, latents, codes, norms, lengths.amax())
