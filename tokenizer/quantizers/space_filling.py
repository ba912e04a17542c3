"""Space-filling curves: code vectors are the corners of a curve through the latents, a token is a piece of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized
from tokenizer.quantizers.codebook import CodebookQuantizer, Normalize
from tokenizer.quantizers.geometry import unit
from tokenizer.quantizers.k_means import k_means, short_tour
from tokenizer.quantizers.registry import register
from tokenizer.quantizers.search import nearest
from tokenizer.quantizers.tables import Transform
from tokenizer.runtime import from_first_rank


class Curve(CodebookQuantizer):
    """A curve through K corners, the code vectors: K - 1 segments, each cut into `points` equal pieces.

    A token is a piece, and decodes to its middle; the alphabet is `(K - 1) points`. Training takes one random point
    of each segment, the nearest of which a latent steps to.

    Departure: at inference the authors' code takes the latent's projection on the curve. No integer holds that place,
    so that their reconstructions cannot be had from tokens.

    Args:
        dim: D, the width of a latent.
        codebook_size: K, the number of corners, 2 or more.
        points: pieces of each segment: twice as many cost one bit more.
        transform: as of every codebook, for the corners.
        normalize: as of every codebook, for latents and corners; points between corners lie inside the sphere.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 1024,
        points: int = 1,
        transform: Transform = "none",
        normalize: Normalize = "none",
    ) -> None:
        # A corner that moves bends the curve for its neighbors, so none is replaced: random points keep all in use.
        super().__init__(
            dim, codebook_size=codebook_size, transform=transform, normalize=normalize, dead_code_patience=0
        )
        if codebook_size < 2 or points < 1:
            raise ValueError(f"codebook_size is {codebook_size} and points {points}, expected 2 and 1 or more")
        self.points = points
        self.sizes = ((codebook_size - 1) * points,)

    def pieces(self) -> Tensor:
        """Return the ((K - 1) points, D) middles of the pieces, along the curve."""
        corners = self.code_vectors()
        places = (torch.arange(self.points, device=corners.device, dtype=corners.dtype) + 0.5) / self.points
        return torch.lerp(corners[:-1, None], corners[1:, None], places[:, None]).flatten(0, 1)

    @torch.no_grad()
    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., 1) piece whose middle is nearest; float32 distances, the lowest among equals."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            flat = self.prepare(z.float()).reshape(-1, self.dim)
            return nearest(flat, self.pieces()).reshape(*z.shape[:-1], 1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) middles of (..., 1) pieces."""
        self.check_codes(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            return nn.functional.embedding(tokens[..., 0].long(), self.pieces())

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) latents for training: each segment shows one random point, the nearest of these counts."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            z = self.prepare(z.float())
            corners = self.code_vectors()
            dither = torch.rand(len(corners) - 1, 1, device=z.device)
            segment = nearest(z.reshape(-1, self.dim), torch.lerp(corners[:-1], corners[1:], dither))
            segment = segment.reshape(z.shape[:-1])
            place = dither[segment]
            first = nn.functional.embedding(segment, corners)
            second = nn.functional.embedding(segment + 1, corners)
            vectors = self.step(z, first, second, place)
            tokens = segment * self.points + (place[..., 0] * self.points).long().clamp_max(self.points - 1)
        return Quantized(vectors, tokens[..., None], torch.zeros((), device=z.device))

    def step(self, z: Tensor, first: Tensor, second: Tensor, place: Tensor) -> Tensor:
        """Return the (..., D) training output.

        Args:
            z: (..., D) latents.
            first: (..., D) corner at the beginning of each latent's segment.
            second: (..., D) corner at its end.
            place: (..., 1) where the random point lies between them, 0 to 1.
        """
        raise NotImplementedError

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Place the corners on (N, D) latents by k-means, and join near ones."""
        self.check_width(z)
        corners = k_means(self.prepare(z.float()), self.table().shape[0])
        self.table.place(from_first_rank(corners[short_tour(corners)]))


@register("sf-diveq", "SF-DiVeQ: DiVeQ's step to a random point on a curve through the code vectors")
class SFDiVeQ(Curve):
    """`z + |a| sg[(1 - t) unit(a + v1)] + |b| sg[t unit(b + v2)]`, `a = c_i - z`, `b = c_(i+1) - z`, v noise.

    Source: Vali, Bäckström, Solin, "DiVeQ" (ICLR 2026), https://arxiv.org/abs/2509.26469, section 3.2.

    Args:
        dim: D, the width of a latent.
        noise_std: standard deviation of the directions' noise, in the latents' unit.
        shared: options of every curve.
    """

    def __init__(self, dim: int, *, noise_std: float = 1e-3, **shared: Any) -> None:
        super().__init__(dim, **shared)
        if noise_std < 0:
            raise ValueError(f"noise_std is {noise_std}, expected 0 or more")
        self.noise_std = noise_std

    def step(self, z: Tensor, first: Tensor, second: Tensor, place: Tensor) -> Tensor:
        """Return the (..., D) latents plus a step towards each end of their segment."""
        return _towards_both(z, first, second, place, self.noise_std)


@register("sf-diveq-detach", "SF-DiVeQ without noise: the training output is the point on the curve")
class SFDiVeQDetach(Curve):
    """`sf-diveq` without noise: the value is the random point itself."""

    def step(self, z: Tensor, first: Tensor, second: Tensor, place: Tensor) -> Tensor:
        """Return the (..., D) random points, reached by a step towards each end of their segment."""
        return _towards_both(z, first, second, place, 0.0)


def _towards_both(z: Tensor, first: Tensor, second: Tensor, place: Tensor, noise_std: float) -> Tensor:
    """Return (..., D) latents plus a step to each corner, weighed by how near the point `place` lies to it."""
    moved = z
    for corner, share in ((first, 1 - place), (second, place)):
        gap = corner - z
        noisy = gap + noise_std * torch.randn_like(gap) if noise_std else gap
        moved = moved + gap.norm(dim=-1, keepdim=True) * (share * unit(noisy)).detach()
    return moved


@register("sfvq", "SFVQ: NSVQ's step, a random direction, for the distance to a random point on the curve")
class SFVQ(Curve):
    """`z + |p - z| unit(v)`, `p = (1 - t) c_i + t c_(i+1)`, `v ~ N(0, I)`.

    Source: Vali, Bäckström, "Interpretable Latent Space Using Space-Filling Curves for Phonetic Analysis in Voice
    Conversion" (Interspeech 2023), section 2.2.
    """

    def step(self, z: Tensor, first: Tensor, second: Tensor, place: Tensor) -> Tensor:
        """Return the (..., D) latents plus a random step as long as the distance to the point."""
        gap = torch.lerp(first, second, place) - z
        return z + gap.norm(dim=-1, keepdim=True) * unit(torch.randn_like(gap))
