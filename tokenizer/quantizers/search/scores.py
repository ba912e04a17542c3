"""What a search makes as large as possible, in which tiles of codes, and how far float32 can be trusted with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

# 256 latents have 1 MiB of scores in a tile of 1024 code vectors: they stay in a core's cache.
_TILE = 1024
# Rows in a group, and the least number of groups. Maxima over the members of all groups of a tile are taken at once,
# one vector operation for each member; it runs at the speed of memory where a tile has 32 groups or more.
_MEMBERS, _GROUPS = 16, 32


@dataclass(frozen=True)
class CodeGroups:
    """K code vectors in tiles of `members * groups`; group g of a tile has its rows g, g + groups, g + 2 groups, ...

    Attributes:
        tiles: number of tiles.
        members: rows in a group.
        groups: groups in a tile.
    """

    tiles: int
    members: int
    groups: int

    @property
    def width(self) -> int:
        """Rows in a tile."""
        return self.members * self.groups

    @property
    def padded(self) -> int:
        """Rows in all tiles: K or a few more."""
        return self.tiles * self.width

    @classmethod
    def of(cls, codebook_size: int) -> CodeGroups:
        """Return the groups of a codebook of that size: up to two tiles' worth lie in one."""
        if codebook_size > 2 * _TILE:
            return cls(-(-codebook_size // _TILE), _MEMBERS, _TILE // _MEMBERS)
        members = max(1, min(_MEMBERS, codebook_size // _GROUPS))
        return cls(1, members, -(-codebook_size // members))


@dataclass(frozen=True)
class ScoreFactors:
    """Two matrices, whose product holds the scores `s_ij = z_i . c_j + o_j`, and what bounds their rounding.

    The offsets o_j are one more column of the code vectors, with a 1 beside each latent. For distances
    `o_j = -|c_j|^2 / 2`, so that `|z_i - c_j|^2 = |z_i|^2 - 2 s_ij`: the largest score is the least distance. Both
    sides are shifted by the mean code vector first, so that what all have in common costs no precision. For inner
    products `o_j = 0`.

    Attributes:
        z: (N, D) latents as they came.
        codebook: (K, D) code vectors as they came.
        by_distance: whether the scores are those of distances.
        layout: how the code vectors are cut into tiles.
        latents: (N, D + 1) float32, the shifted latents and ones.
        vectors: (P, D + 1) float32, the shifted code vectors and offsets; P at least K, rows from K on score minus
            infinity.
        norms: (N,) float32, lengths of the shifted latents.
        longest: () float32, length of the longest shifted code vector.
    """

    z: Tensor
    codebook: Tensor
    by_distance: bool
    layout: CodeGroups
    latents: Tensor
    vectors: Tensor
    norms: Tensor
    longest: Tensor

    @classmethod
    def of_distances(cls, z: Tensor, codebook: Tensor) -> ScoreFactors:
        """Return the factors of scores that are largest where (N, D) latents and (K, D) code vectors are nearest."""
        return score_factors(z, codebook, torch.float32, CodeGroups.of(len(codebook)), by_distance=True)

    @classmethod
    def of_products(cls, z: Tensor, codebook: Tensor) -> ScoreFactors:
        """Return the factors of scores that are inner products of (N, D) latents and (K, D) code vectors."""
        return score_factors(z, codebook, torch.float32, CodeGroups.of(len(codebook)), by_distance=False)

    def rounding(self, unit: float) -> float:
        """Return the largest error of a computed score, as a share of `|z| |c| + |c|^2 / 2`.

        A sum of n terms in any order, each product and addition off by at most `unit`, is off by at most
        `n unit / (1 - n unit)` times the sum of their sizes (Higham, "Accuracy and Stability of Numerical Algorithms",
        2002, section 3.1). Here n is D + 6: D products, the offset with its own rounding, and the shift.
        """
        terms = (self.latents.shape[1] + 5) * unit  # the width is D + 1
        return terms / (1 - terms)

    def slack(self, best: Tensor, error: float) -> Tensor:
        """Return the (N,) gap to the (N,) best scores up to which two scores may be in the wrong order.

        Each of the two is off by at most `error (|z| |c| + |c|^2 / 2)`, so the gap is twice that, for the longest c
        that can be as good as the best. That is no longer than the longest code vector; by distances no longer either
        than the latent plus its distance `sqrt(|z|^2 - 2 best)`, which with its own rounding is taken 1 % larger. NaN
        where a number is not finite.
        """
        length = self.longest.expand_as(self.norms)
        if not self.by_distance:
            return 2 * error * length * self.norms
        distance = (self.norms.square() - 2 * best).clamp_min(0).sqrt()
        length = torch.minimum(1.01 * (self.norms + distance), length)
        return 2 * error * length * (self.norms + length / 2)

    def of_latents(self, rows: slice | Tensor) -> ScoreFactors:
        """Return the factors of some of the latents."""
        return dataclasses.replace(self, z=self.z[rows], latents=self.latents[rows], norms=self.norms[rows])


@dataclass(frozen=True)
class BestScores:
    """The best code of each latent in float32, with the two best scores.

    Attributes:
        codes: (N,) int64, the code with the largest computed score.
        best: (N,) float32, that score.
        second: (N,) float32, the largest computed score of any other code.
        error: of a computed score at most, as a share of `|z| |c| + |c|^2 / 2`.
    """

    codes: Tensor
    best: Tensor
    second: Tensor
    error: float

    def certain(self, factors: ScoreFactors) -> Tensor:
        """Return (N,) bool: whether `codes` is the best without doubt."""
        return (self.best - self.second > factors.slack(self.best, self.error)) & self.best.isfinite()


def score_factors(
    z: Tensor, codebook: Tensor, dtype: torch.dtype, layout: CodeGroups, by_distance: bool
) -> ScoreFactors:
    """Return the factors of the scores of (N, D) latents and (K, D) code vectors, held as `dtype`."""
    count, dim = codebook.shape
    latents = torch.empty(len(z), dim + 1, dtype=dtype, device=z.device)
    vectors = torch.empty(layout.padded, dim + 1, dtype=dtype, device=z.device)
    vectors[count:, :dim] = 0
    vectors[count:, dim] = -torch.inf
    center = torch.zeros(dim, dtype=dtype, device=z.device)
    if by_distance:
        center = codebook.to(torch.promote_types(codebook.dtype, dtype)).mean(dim=0)
    torch.sub(z, center, out=latents[:, :dim])
    torch.sub(codebook, center, out=vectors[:count, :dim])
    lengths = torch.linalg.vector_norm(vectors[:count, :dim], dim=1)
    latents[:, dim] = 1
    vectors[:count, dim] = lengths.square() / -2 if by_distance else 0
    norms = torch.linalg.vector_norm(latents[:, :dim], dim=1)
    return ScoreFactors(z, codebook, by_distance, layout, latents, vectors, norms, lengths.amax())
