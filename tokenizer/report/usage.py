"""Use of the codes: by slot, jointly, by rank and by position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.metrics import Usage
from tokenizer.report.streams import CodeCombinations, StreamedTokens, Tokens, TokenSample

# Fewer used codes say nothing about a law of ranks, fewer images nothing about a position.
LEAST_RANKED = 10
LEAST_IMAGES = 100
MOST_POSITIONS = 2**14
_POINTS = 200


@dataclass(frozen=True)
class SlotReport:
    """Use of one alphabet: one of the C codes per position.

    Attributes:
        codebook_size: K.
        used, dead, perplexity, entropy_bits: as `metrics.DEFINITIONS` says.
        top: (code, times chosen, share of tokens) of the most used codes.
        top_1_percent, top_10_percent: share of tokens, 0 to 1, that the most used 1 % and 10 % of the K codes hold
            (rounded up to whole codes).
        zipf_exponent: see `zipf_exponent`; None for fewer than 10 used codes.
        ranked: (rank from 1, share of tokens) of used codes, most used first: at most 200 of them, spread evenly over
            the logarithm of the rank.
    """

    codebook_size: int
    used: float
    dead: int
    perplexity: float
    entropy_bits: float
    top: tuple[tuple[int, int, float], ...]
    top_1_percent: float
    top_10_percent: float
    zipf_exponent: float | None
    ranked: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class JointUse:
    """Use of the combinations of the C codes of one position.

    Attributes:
        distinct: combinations seen; None where they were too many to be told apart, as are the figures below.
        possible: the product of the alphabet sizes.
        entropy_bits: of the combinations' frequencies, in bits per position.
        perplexity: 2 to that power.
        reason: why there are no figures.
    """

    distinct: int | None
    possible: int
    entropy_bits: float | None
    perplexity: float | None
    reason: str | None = None


@dataclass(frozen=True)
class PositionUse:
    """Use by position in the grid, where all images have one.

    Attributes:
        images: how many the figures are of, evenly spread over the set; no entropy is above its log2.
        entropy_bits: (h, w), of the code frequencies at each position, mean over slots, in bits per code.
    """

    images: int
    entropy_bits: tuple[tuple[float, ...], ...]


def slot_report(usage: Usage, top_k: int) -> SlotReport:
    """Return the use of one alphabet, with its `top_k` most used codes."""
    ordered = np.sort(usage.counts[usage.counts > 0])[::-1]
    size = len(usage.counts)
    return SlotReport(
        codebook_size=size,
        used=usage.used,
        dead=usage.dead,
        perplexity=usage.perplexity,
        entropy_bits=usage.entropy_bits,
        top=tuple(usage.most_used(top_k)),
        top_1_percent=_share_of_first(ordered, -(-size // 100)),
        top_10_percent=_share_of_first(ordered, -(-size // 10)),
        zipf_exponent=zipf_exponent(ordered),
        ranked=_ranked(ordered),
    )


def _share_of_first(ordered: NDArray[np.int64], codes: int) -> float:
    return float(ordered[:codes].sum() / max(1, ordered.sum()))


def _ranked(ordered: NDArray[np.int64]) -> tuple[tuple[int, float], ...]:
    if not len(ordered):
        return ()
    ranks = np.unique(np.rint(np.geomspace(1, len(ordered), _POINTS)).astype(np.int64))
    shares = ordered[ranks - 1] / ordered.sum()
    return tuple(zip(ranks.tolist(), shares.tolist(), strict=True))


def zipf_exponent(ordered: NDArray[np.int64]) -> float | None:
    """Return the s >= 0 of greatest likelihood where the code of rank r has a share proportional to r^-s.

    Ranks are those of the used codes among themselves. The likelihood is greatest where the law's mean of ln r is that
    of the tokens. 0: all are used alike; 1: Zipf's law. Source: Clauset, Shalizi, Newman, "Power-law distributions in
    empirical data" (2009), section 3.1, with the largest rank given.

    Args:
        ordered: (n,) times chosen of the used codes, most used first.

    Returns:
        s, or None for fewer than 10 used codes.
    """
    if len(ordered) < LEAST_RANKED:
        return None
    from scipy.optimize import brentq

    logs = np.log(np.arange(1, len(ordered) + 1))
    wanted = float((ordered * logs).sum() / ordered.sum())

    def excess(exponent: float) -> float:
        weights = np.exp(-exponent * logs)
        return float((weights * logs).sum() / weights.sum()) - wanted

    if excess(0.0) <= 0:
        return 0.0
    upper = 1.0
    while excess(upper) > 0:
        upper *= 2
    return float(brentq(excess, 0.0, upper))


def joint_use(combinations: CodeCombinations, sizes: tuple[int, ...]) -> JointUse:
    """Return the use of the combinations of codes."""
    possible = math.prod(sizes)
    if combinations.counts is None:
        return JointUse(None, possible, None, None, f"more than {combinations.most} different combinations")
    usage = Usage(combinations.counts)
    return JointUse(len(usage.counts), possible, usage.entropy_bits, usage.perplexity)


def position_use(streamed: StreamedTokens) -> PositionUse | None:
    """Return the use by position; None for several grids, very large ones, or fewer than 100 images."""
    sample: TokenSample = streamed.sample
    if len(streamed.grids) != 1 or sample.images < LEAST_IMAGES:
        return None
    ((height, width),) = streamed.grids
    if height * width > MOST_POSITIONS:
        return None
    (stack,) = sample.stacks
    entropies = entropy_of_columns(stack.reshape(len(stack), -1)).reshape(height, width, -1).mean(axis=-1)
    return PositionUse(len(stack), tuple(map(tuple, entropies.tolist())))


def entropy_of_columns(codes: Tokens) -> NDArray[np.float64]:
    """Return the (n,) entropies in bits of the code frequencies in each column of (images, n) tokens."""
    return np.array([Usage(np.unique(column, return_counts=True)[1]).entropy_bits for column in codes.T])
