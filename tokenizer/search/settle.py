"""The last word, in float64, on latents whose best codes float32 cannot tell apart."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from tokenizer.errors import NonFiniteError
from tokenizer.search.scores import Scores, augment

# Scores of one block: 1 MiB on a CPU.
_BLOCK = {"cpu": 2**17, "cuda": 2**21}
# Candidates of a latent, on average, from which on codes are likely to be equal.
_MANY = 16


def in_float64(scores: Scores, rows: Tensor, count: int) -> Tensor:
    """Return the (R, count) indices of the largest scores of (R,) `rows`, largest first, the lowest first of equals.

    Float64 scores leave a few candidates; these are compared by differences, `sum_d (z_d - c_d)^2`, where nothing
    cancels.

    Raises:
        NonFiniteError: a code or a latent is not finite.
    """
    _check(scores.z, "latent")
    _check(scores.codebook, "code")
    home = scores.z.device
    device = torch.device("cpu") if home.type == "mps" else home
    z, codebook = scores.z[rows].to(device).double(), scores.codebook.to(device).double()
    return _largest(dataclasses.replace(scores, z=z, codebook=codebook), count, distinct=False).to(home)


def _largest(scores: Scores, count: int, *, distinct: bool) -> Tensor:
    exact = augment(scores.z, scores.codebook, torch.float64, scores.layout, scores.by_distance)
    size = max(1, _BLOCK.get(scores.z.device.type, 2**17) // len(exact.codes))
    found: list[Tensor] = []
    for start in range(0, len(scores.z), size):
        part = exact.rows(slice(start, start + size))
        values = part.latents @ part.codes.t()
        last = values.topk(count, dim=1).values[:, -1] if count > 1 else values.amax(dim=1)
        pairs = (values >= (last - part.slack(last, part.rounding(2.0**-53)))[:, None]).nonzero()
        if count == 1 and not distinct and len(pairs) > _MANY * len(values):
            return _among_distinct(scores)
        found.append(_first(pairs, _losses(part, pairs), len(values), count))
    return torch.cat(found)


def _losses(scores: Scores, pairs: Tensor) -> Tensor:
    """Return the (P,) float64 losses of (P, 2) pairs of latent and code, least where the score is largest."""
    z, codes = scores.z[pairs[:, 0]], scores.codebook[pairs[:, 1]]
    return (z - codes).square().sum(dim=1) if scores.by_distance else -(z * codes).sum(dim=1)


def _first(pairs: Tensor, losses: Tensor, rows: int, count: int) -> Tensor:
    """Return the (rows, count) codes of least (P,) loss; (P, 2) pairs come by latent, then by code."""
    order = losses.sort(stable=True).indices
    order = order[pairs[order, 0].sort(stable=True).indices]
    candidates = pairs[:, 0].bincount(minlength=rows)
    begin = candidates.cumsum(dim=0) - candidates
    return pairs[order[begin[:, None] + torch.arange(count, device=pairs.device)], 1]


def _among_distinct(scores: Scores) -> Tensor:
    """Return the (R, 1) best of codes of which many are equal: of each lot only the first takes part."""
    distinct, lots = torch.unique(scores.codebook, dim=0, return_inverse=True)
    numbers = torch.arange(len(lots), device=lots.device)
    first = torch.full_like(numbers[: len(distinct)], len(lots)).scatter_reduce_(0, lots, numbers, "amin").sort().values
    few = dataclasses.replace(scores, codebook=scores.codebook[first], layout=scores.layout.of(len(first)))
    return first[_largest(few, 1, distinct=True)]


def _check(vectors: Tensor, what: str) -> None:
    finite = vectors.isfinite().all(dim=1)
    if not bool(finite.all()):
        wrong = finite.logical_not().nonzero()[:, 0]
        raise NonFiniteError(f"{len(wrong)} of {len(vectors)} {what}s are not finite, first number {int(wrong[0])}")
