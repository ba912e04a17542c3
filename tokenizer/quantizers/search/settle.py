"""Settling in float64: the best codes of latents for which float32 cannot tell them apart."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.errors import NonFiniteError
from tokenizer.quantizers.search.scores import ScoreFactors, score_factors

# Scores held at once where few of them are candidates, and where all may be: a candidate takes far more memory.
_BLOCK, _SMALL_BLOCK = 2**20, 2**17
# Candidates that each latent may have on average: with more, a closer look costs less than comparing them all.
_FEW = 16
_FLOAT32, _FLOAT64 = 2.0**-24, 2.0**-53  # the largest relative error of one rounded operation


def settle_in_float64(factors: ScoreFactors, rows: Tensor, count: int) -> Tensor:
    """Return the (R, count) codes of the largest scores of latents (R,) `rows`, largest first, the lowest of equals.

    Candidates are compared by differences, `sum_d (z_d - c_d)^2` in float64, where nothing cancels. They are found in
    up to three rounds, each closer than the last: what float32 scores cannot rule out; where that leaves too many,
    what float64 scores cannot rule out; where that leaves too many still, because many code vectors are equal, the
    same among the first of each lot of equal vectors.

    Raises:
        NonFiniteError: a code vector or a latent is not finite.
    """
    _check(factors)
    home = factors.z.device
    part = factors.of_latents(rows)
    if home.type == "mps":  # which has no float64
        part = score_factors(part.z.cpu(), part.codebook.cpu(), torch.float32, part.layout, part.by_distance)
    found = _among_candidates(part, _FLOAT32, count, _FEW)
    if found is None:
        part = score_factors(part.z.double(), part.codebook.double(), torch.float64, part.layout, part.by_distance)
        found = _among_candidates(part, _FLOAT64, count, _FEW if count == 1 else None)
    return (_among_distinct(part) if found is None else found).to(home)


def _among_candidates(factors: ScoreFactors, unit: float, count: int, few: int | None) -> Tensor | None:
    """Return the (N, count) best codes, or None where latents have more than `few` candidates each, or not enough.

    A candidate is a code whose score is no further below the `count`-th best than twice the largest error of a score,
    `slack`: no other code can truly be among the best `count`.
    """
    size = max(1, (_SMALL_BLOCK if few is None else _BLOCK) // len(factors.vectors))
    found = [torch.empty(0, count, dtype=torch.int64, device=factors.z.device)]
    for start in range(0, len(factors.z), size):
        part = factors.of_latents(slice(start, start + size))
        scores = part.latents @ part.vectors.t()
        last = scores.topk(count, dim=1).values[:, -1] if count > 1 else scores.amax(dim=1)
        near = scores >= (last - part.slack(last, part.rounding(unit)))[:, None]
        pairs = near.nonzero()
        candidates = pairs[:, 0].bincount(minlength=len(scores))
        # Too few are there only where scores overflowed: nothing compares with NaN.
        if bool((candidates < count).any()) or (few is not None and len(pairs) > few * count * len(scores)):
            return None
        found.append(_first(pairs, _losses(part, pairs), candidates, count))
    return torch.cat(found)


def _losses(factors: ScoreFactors, pairs: Tensor) -> Tensor:
    """Return the (P,) float64 losses of (P, 2) pairs of latent and code, least where the score is largest."""
    z, vectors = factors.z[pairs[:, 0]].double(), factors.codebook[pairs[:, 1]].double()
    return (z - vectors).square().sum(dim=1) if factors.by_distance else -(z * vectors).sum(dim=1)


def _first(pairs: Tensor, losses: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the (N, count) codes of least loss.

    Args:
        pairs: (P, 2) latent and code, by latent and then by code.
        losses: (P,) of each pair.
        candidates: (N,) how many pairs each latent has.
        count: how many codes of each latent to return.
    """
    # Two stable sorts, the second by latent: each latent's pairs lie together, by loss, and of equal losses by code.
    order = losses.sort(stable=True).indices
    order = order[pairs[order, 0].sort(stable=True).indices]
    begin = candidates.cumsum(dim=0) - candidates
    return pairs[order[begin[:, None] + torch.arange(count, device=pairs.device)], 1]


def _among_distinct(factors: ScoreFactors) -> Tensor:
    """Return the (N, 1) best codes where many vectors are equal: of each lot of these only the first takes part."""
    distinct, lots = torch.unique(factors.codebook, dim=0, return_inverse=True)
    numbers = torch.arange(len(lots), device=lots.device)
    # The lowest code of each lot, in ascending order: the first of equal losses is then the lowest code.
    first = torch.full_like(numbers[: len(distinct)], len(lots)).scatter_reduce_(0, lots, numbers, "amin").sort().values
    layout = factors.layout.of(len(first))
    few = score_factors(factors.z, factors.codebook[first], torch.float64, layout, factors.by_distance)
    found = _among_candidates(few, _FLOAT64, 1, None)
    if found is None:
        raise AssertionError("the best of finite scores is a candidate")
    return first[found]


def _check(factors: ScoreFactors) -> None:
    for vectors, what in ((factors.z, "latent"), (factors.codebook, "code vector")):
        finite = vectors.isfinite().all(dim=1)
        if not bool(finite.all()):
            wrong = finite.logical_not().nonzero()[:, 0]
            raise NonFiniteError(f"{len(wrong)} of {len(vectors)} {what}s are not finite, first number {int(wrong[0])}")
