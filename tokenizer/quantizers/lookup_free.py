"""Lookup-free quantizers, which round numbers in place of searching a codebook; finite scalar quantization (FSQ)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized, Quantizer
from tokenizer.quantizers.registry import register
from tokenizer.quantizers.search import is_exporting
from tokenizer.runtime import from_first_rank

# The levels that the FSQ paper recommends for these codebook sizes: their product is only near them.
_PAPER_LEVELS: dict[int, tuple[int, ...]] = {
    2**8: (8, 6, 5),
    2**10: (8, 5, 5, 5),
    2**12: (7, 5, 5, 5, 5),
    2**14: (8, 8, 8, 6, 5),
    2**16: (8, 8, 8, 5, 5, 5),
}
_FLAT = 1e-4  # a direction that varies by less than this share of the widest is not stretched: that would be noise
# Between these, a number of variance 1 is scaled to fill the range of tanh; it would be 0.9 for a normal one.
_SCALES = (0.1, 10.0)


class LookupFreeQuantizer(Quantizer):
    """`outward(unit * round(bound(inward(z))))`: each of W numbers is rounded to levels of its own.

    The token is the mixed-radix integer `sum_d digit_d prod_{e<d} L_e`: the first number is the least significant.
    Rounding passes the gradient as it is (straight-through). Between the network's 1 x 1 convolutions the two linear
    maps add nothing that it could not learn, but they can be placed on the first latents.

    A method defines `bound`, `digits`, `grid` and `placement`, and `unit` and `auxiliary_loss` where it has them. Its
    constructor ends with `start`.

    Args:
        dim: D, the width of a latent.
        levels: L_d, how many values each of the W numbers can take.
    """

    # The gradient passes two maps and the bound on its way to the latent, so that it does not pass as it is.
    identity_path = False
    levels: Tensor
    radix: Tensor

    def __init__(self, dim: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        if dim < len(levels):
            raise ValueError(f"latents are {dim} wide, {math.prod(levels)} codes of this method take {len(levels)}")
        self.dim, self.sizes = dim, (math.prod(levels),)
        if self.sizes[0] >= 2**63:
            raise ValueError("a token of these levels needs more than 63 bits")
        self.inward, self.outward = nn.Linear(dim, len(levels)), nn.Linear(len(levels), dim)
        radix = torch.tensor([math.prod(levels[:place]) for place in range(len(levels))])
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("radix", radix, persistent=False)

    @abstractmethod
    def bound(self, inner: Tensor) -> Tensor:
        """Return (..., W) float32 numbers in the range of the grid, differentiable."""

    @abstractmethod
    def digits(self, bounded: Tensor) -> Tensor:
        """Return the (..., W) int64 digits of bounded numbers, `0 <= digits[..., d] < L_d`."""

    @abstractmethod
    def grid(self, digits: Tensor) -> Tensor:
        """Return the (..., W) whole numbers that bounded ones are rounded to."""

    @abstractmethod
    def placement(self, white: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (W, W) matrix and (W,) offset that move numbers to where their levels are well used.

        Args:
            white: (N, W) uncorrelated numbers of mean 0 and variance 1, those of the widest directions first.
        """

    def unit(self) -> Tensor:
        """Return the () or (W,) numbers that the grid's whole numbers are multiplied by before they go outward."""
        return torch.ones((), device=self.levels.device)

    def auxiliary_loss(self, bounded: Tensor, grid: Tensor) -> Tensor:  # noqa: ARG002  # for methods that have one
        """Return the () loss that the method adds to the reconstruction's; 0 unless a method says otherwise."""
        return torch.zeros((), device=bounded.device)

    @torch.no_grad()
    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., 1) token of the level nearest to each number."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            return self._join(self.digits(self.bound(self._inward_alike(z))))

    def _inward_alike(self, z: Tensor) -> Tensor:
        """Return `inward` of (..., D) latents as (..., W) float32, the same whatever latents share the batch.

        The order in which a product of float32 matrices adds up depends on how many rows there are, so that a number
        next to a border between two levels could fall on either side. In float64 what the order changes is lost when
        the result is rounded to float32. An exported graph stays in float32, as few runtimes have more.
        """
        if is_exporting() or z.device.type == "mps":  # which has no float64
            inward: Tensor = self.inward(z.float())
            return inward
        return nn.functional.linear(z.double(), self.inward.weight.double(), self.inward.bias.double()).float()

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) vectors of (..., 1) tokens."""
        self.check_codes(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            vectors: Tensor = self.outward(self.grid(self._split(tokens)) * self.unit())
        return vectors

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) latents for training."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            bounded = self.bound(self.inward(z.float()))
            digits = self.digits(bounded)
            grid = self.grid(digits)
            # In this order the value is the grid's to the last bit.
            rounded = grid + (bounded - bounded.detach())
            vectors, loss = self.outward(rounded * self.unit()), self.auxiliary_loss(bounded, grid)
        return Quantized(vectors, self._join(digits), loss)

    def _join(self, digits: Tensor) -> Tensor:
        return (digits * self.radix).sum(dim=-1, keepdim=True)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.long() // self.radix % self.levels

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Place both maps on (N, D) latents, N at least 1, on every rank as on the first.

        `inward` takes the W directions of largest variance, scaled to one and moved by `placement`; `outward` is
        the least-squares fit of the latents on their rounded numbers, so that the means agree.
        """
        self.check_width(z)
        self._place(z.float())
        for parameter in (*self.inward.parameters(), *self.outward.parameters()):
            parameter.copy_(from_first_rank(parameter))

    @torch.no_grad()
    def start(self) -> None:
        """Place both maps as for standard normal latents; where tensors have shapes only, do nothing."""
        if not self.levels.is_meta:
            self._place(torch.randn(min(32 * self.dim, 2**15), self.dim))

    def _place(self, z: Tensor) -> None:
        mean = z.mean(dim=0)
        whitening = _whitening(z - mean, len(self.levels))
        mix, offset = self.placement((z - mean) @ whitening.T)
        self.inward.weight.copy_(mix @ whitening)
        self.inward.bias.copy_(offset - self.inward.weight @ mean)
        grid = self.grid(self.digits(self.bound(self.inward(z)))) * self.unit()
        self.outward.weight.copy_(_regression(grid - grid.mean(dim=0), z - mean))
        self.outward.bias.copy_(mean - self.outward.weight @ grid.mean(dim=0))


def _whitening(z: Tensor, width: int) -> Tensor:
    """Return the (width, D) map of (N, D) centered latents to their principal components, of variance 1."""
    # Small, and done in double precision where every machine has it.
    variances, directions = torch.linalg.eigh((z.T @ z / len(z)).double().cpu())
    spreads = variances.flip(0)[:width].clamp_min(0).sqrt()
    widest = spreads[0] if spreads[0] > 0 else torch.ones_like(spreads[0])
    scales = torch.where(spreads > _FLAT * widest, spreads, widest)
    return (directions.flip(1)[:, :width] / scales).T.to(z)


def _regression(given: Tensor, wanted: Tensor) -> Tensor:
    """Return the (D, W) map of (N, W) centered numbers that comes nearest to (N, D) centered ones."""
    gram, cross = ((given.T @ side / len(given)).double().cpu() for side in (given, wanted))
    return (torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ cross).T.to(given)


def choose_levels(codebook_size: int) -> tuple[int, ...]:
    """Return the levels of each number for about `codebook_size` codes; for the FSQ paper's sizes, its own.

    The paper's have products near the size only: 4375 codes for 2^12. For other sizes the product comes as near to
    `codebook_size` as it can without passing it; of equal products that of the fewest numbers, then the most even.
    Levels are from 5, as the paper advises, to 8; below 125 codes from 3, where 5 would leave gaps.
    """
    if codebook_size in _PAPER_LEVELS:
        return _PAPER_LEVELS[codebook_size]
    least = 5 if codebook_size >= 5**3 else min(3, codebook_size)
    longest = next(count for count in range(codebook_size) if least ** (count + 1) > codebook_size)
    found = [c for n in range(1, longest + 1) for c in combinations_with_replacement(range(8, least - 1, -1), n)]
    fitting = [levels for levels in found if math.prod(levels) <= codebook_size]
    return max(fitting, key=lambda levels: (math.prod(levels), -len(levels), levels[-1] - levels[0]))


@register("fsq", "FSQ: a few bounded numbers, each rounded to its own 5 to 8 levels; no codebook, no extra loss")
class FSQ(LookupFreeQuantizer):
    """`round(tanh(x + s) h - o) / floor(L / 2)`, `h = (L - 1)(1 - 0.001) / 2`, `o` = 1/2 and `s = tan(o / h)` for
    even L, else 0.

    Source: Mentzer, Minnen, Agustsson, Tschannen, "Finite Scalar Quantization: VQ-VAE Made Simple" (2023),
    https://arxiv.org/abs/2309.15505, section 3.1 and the code of its appendix. That has the tangent where the inverse
    of tanh would put 0 on 0; from 4 levels on they differ by less than 0.001, and for 2 the latter has no value.

    The learned step is that of Esser et al., "Learned Step Size Quantization" (2019), https://arxiv.org/abs/1902.08153,
    equations 1 to 3, with tanh for their clip: `x / r` is bounded and rounded, and r multiplies the result. Learned is
    its logarithm, so that it stays positive, without their gradient scale, which Adam would not see.

    Args:
        dim: D, the width of a latent.
        codebook_size: about how many codes, where `levels` are not given; `choose_levels` says which.
        levels: of each number, in place of `codebook_size`.
        learn_step: learn r, from 1.
    """

    def __init__(
        self, dim: int, *, codebook_size: int = 1024, levels: tuple[int, ...] = (), learn_step: bool = False
    ) -> None:
        if codebook_size < 2:
            raise ValueError(f"codebook_size is {codebook_size}, expected 2 or more")
        if any(level < 2 for level in levels):
            raise ValueError(f"levels are {levels}, expected 2 or more each")
        super().__init__(dim, tuple(levels) or choose_levels(codebook_size))
        self.log_step = nn.Parameter(torch.zeros(len(self.levels))) if learn_step else None
        self.start()

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return one number for each of the levels."""
        return len(options["levels"] or choose_levels(max(2, options["codebook_size"]))), 1

    def bound(self, inner: Tensor) -> Tensor:
        """Return numbers from about `-floor(L / 2)` to `floor((L - 1) / 2)`, their gradient that of tanh."""
        half, offset, shift = self._shape()
        return torch.tanh(inner / self._step() + shift) * half - offset

    def digits(self, bounded: Tensor) -> Tensor:
        """Return the nearest whole numbers, counted from the lowest."""
        return bounded.round().long() + self.levels // 2

    def grid(self, digits: Tensor) -> Tensor:
        """Return whole numbers from `-floor(L / 2)` on."""
        return (digits - self.levels // 2).float()

    def unit(self) -> Tensor:
        """Return `r / floor(L / 2)`."""
        return self._step() / (self.levels // 2)

    def placement(self, white: Tensor) -> tuple[Tensor, Tensor]:
        """Return a map by which tanh has mean 0 and mean square 1/3, which are those of even use of its range.

        The number with the most levels takes the direction of the largest variance.
        """
        rank = self.levels.argsort(descending=True, stable=True).argsort()
        numbers = white[:, rank]
        scale, offset = torch.ones_like(numbers[0]), torch.zeros_like(numbers[0])
        for _ in range(30):  # offset and scale depend on each other: each round corrects both
            bounded = torch.tanh(numbers * scale + offset)
            offset = offset - bounded.mean(dim=0)
            scale = (scale / (3 * bounded.square().mean(dim=0)).sqrt()).clamp(*_SCALES)
        order = torch.eye(len(rank), device=white.device)[rank]
        return (scale * self._step())[:, None] * order, (offset - self._shape()[2]) * self._step()

    def _shape(self) -> tuple[Tensor, Tensor, Tensor]:
        half = (self.levels - 1) * (1 - 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return half, offset, torch.tan(offset / half)

    def _step(self) -> Tensor:
        return torch.ones(len(self.levels), device=self.levels.device) if self.log_step is None else self.log_step.exp()
