"""The last word, in float64, on latents whose best codes float32 cannot tell apart."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.errors import NonFiniteError
from tokenizer.quantizers.search.scores import Scores, augment

# Scores of one block where few of them are candidates, and where all may be.
_BLOCK, _SMALL_BLOCK = 2**20, 2**17
# Candidates that each latent may have on average: with more, a closer look costs less than comparing them all.
_FEW = 16


def in_float64(scores: Scores, rows: Tensor, count: int) -> Tensor:
    """Return the (R, count) indices of the largest scores of (R,) `rows`, largest first, the lowest first of equals.

    Candidates are compared by differences, `sum_d (z_d - c_d)^2` in float64, where nothing cancels. They are what
    float32 scores leave; where these leave many, what float64 scores leave; and of equal codes only the first.

    Raises:
        NonFiniteError: a code or a latent is not finite.
    """
    _check(scores)
    home = scores.z.device
    part = scores.rows(rows)
    if home.type == "mps":  # which has no float64
        part = augment(part.z.cpu(), part.codebook.cpu(), torch.float32, part.layout, part.by_distance)
    found = _among_candidates(part, 2.0**-24, count, _FEW)
    if found is None:
        part = augment(part.z.double(), part.codebook.double(), torch.float64, part.layout, part.by_distance)
        found = _among_candidates(part, 2.0**-53, count, _FEW if count == 1 else None)
    return (_among_distinct(part) if found is None else found).to(home)


def _among_candidates(scores: Scores, unit: float, count: int, few: int | None) -> Tensor | None:
    """Return the (N, count) best, or None where latents have more than `few` candidates each, or not enough."""
    size = max(1, (_SMALL_BLOCK if few is None else _BLOCK) // len(scores.codes))
    found = [torch.empty(0, count, dtype=torch.int64, device=scores.z.device)]
    for start in range(0, len(scores.z), size):
        part = scores.rows(slice(start, start + size))
        values = part.latents @ part.codes.t()
        last = values.topk(count, dim=1).values[:, -1] if count > 1 else values.amax(dim=1)
        near = values >= (last - part.slack(last, part.rounding(unit)))[:, None]
        pairs = near.nonzero()
        candidates = pairs[:, 0].bincount(minlength=len(values))
        if bool((candidates < count).any()) or (few is not None and len(pairs) > few * count * len(values)):
            return None
        found.append(_first(pairs, _losses(part, pairs), candidates, count))
    return torch.cat(found)


def _losses(scores: Scores, pairs: Tensor) -> Tensor:
    """Return the (P,) float64 losses of (P, 2) pairs of latent and code, least where the score is largest."""
    z, codes = scores.z[pairs[:, 0]].double(), scores.codebook[pairs[:, 1]].double()
    return (z - codes).square().sum(dim=1) if scores.by_distance else -(z * codes).sum(dim=1)


def _first(pairs: Tensor, losses: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the (N, count) codes of least loss, of (P, 2) pairs by latent and code, (N,) `candidates` a latent."""
    order = losses.sort(stable=True).indices
    order = order[pairs[order, 0].sort(stable=True).indices]
    begin = candidates.cumsum(dim=0) - candidates
    return pairs[order[begin[:, None] + torch.arange(count, device=pairs.device)], 1]


def _among_distinct(scores: Scores) -> Tensor:
    """Return the (N, 1) best of codes of which many are equal: of each lot only the first takes part."""
    distinct, lots = torch.unique(scores.codebook, dim=0, return_inverse=True)
    numbers = torch.arange(len(lots), device=lots.device)
    first = torch.full_like(numbers[: len(distinct)], len(lots)).scatter_reduce_(0, lots, numbers, "amin").sort().values
    few = augment(scores.z, scores.codebook[first], torch.float64, scores.layout.of(len(first)), scores.by_distance)
    found = _among_candidates(few, 2.0**-53, 1, None)
    if found is None:
        raise AssertionError("the best of finite scores is a candidate")
    return first[found]


def _check(scores: Scores) -> None:
    for vectors, what in ((scores.z, "latent"), (scores.codebook, "code")):
        finite = vectors.isfinite().all(dim=1)
        if not bool(finite.all()):
            wrong = finite.logical_not().nonzero()[:, 0]
            raise NonFiniteError(f"{len(wrong)} of {len(vectors)} {what}s are not finite, first number {int(wrong[0])}")
