"""Rates: the bits that tokens need as stored, by their frequencies, and with a coder that knows their neighbors.

The coder is fitted to one half of the images and codes the other, and the other way round: its code lengths are reached
by an arithmetic coder whose receiver has the first half. They count what the plug-in entropy leaves out, that
frequencies must be known, and so may lie above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.report.streams import Tokens, TokenSample

Integers = NDArray[np.signedinteger[Any]]  # narrow where it can be: millions of each are held at once
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ContextRate:
    """Code lengths in bits per code, means over all slots.

    Attributes:
        images, tokens: how many the coder was fitted to and measured on, evenly spread over the set.
        single_bits: of the coder that knows the frequencies of single codes.
        context_bits: of the coder that also knows the left and the upper neighbor, and the code before in the
            position; at most `single_bits`, but for the bits that say so.
    """

    images: int
    tokens: int
    single_bits: float
    context_bits: float


@dataclass(frozen=True)
class BitRate:
    """Bits per pixel of the pictures without padding.

    Attributes:
        stored: log2 of the alphabet size for each token.
        entropy: the entropy of the code frequencies of its slot for each token.
        context: `Context.context_bits` for each token; None where there is no `Context`.
    """

    stored: float
    entropy: float
    context: float | None


def context_rate(sample: TokenSample, sizes: Sequence[int]) -> ContextRate | None:
    """Return what a coder with context makes of the sample; None for fewer than two images.

    A code's context is the code left of it and the code above it in its own slot, and for all slots but the first the
    one before in the same position; beyond the border lies a code of its own. Each slot takes the shortest of the
    coders of `code_lengths` for all its tokens, or log2 K bits for each, and pays in each half for saying which.
    """
    if sample.images < 2:
        return None
    stacks = sample.stacks
    halves = _halves(stacks)
    single = chosen = 0.0
    for slot, size in enumerate(sizes):
        codes = _flat([stack[..., slot] for stack in stacks])
        contexts = [_flat([_shifted(stack[..., slot], axis, size) for stack in stacks]) for axis in (2, 1)]
        if slot:
            contexts.append(_flat([stack[..., slot - 1] for stack in stacks]))
        lengths = code_lengths(codes, contexts, halves, size)
        single += lengths[0]
        chosen += min(*lengths, len(codes) * math.log2(size)) + 2 * choice_bits(len(contexts))
    tokens = sum(stack.size for stack in stacks)
    return ContextRate(sample.images, tokens, single / tokens, chosen / tokens)


def choice_bits(contexts: int) -> float:
    """Return what it costs to say which coder: that of log2 K bits, or what to fall back on and whether to at all."""
    return math.log2(2 * (contexts + 2) + 1)


def _halves(stacks: Sequence[Tokens]) -> Integers:
    """Return 0 or 1 for each position: images take turns."""
    images = np.repeat([stack[0, ..., 0].size for stack in stacks], [len(stack) for stack in stacks])
    return np.repeat((np.arange(len(images)) % 2).astype(np.int8), images)


def _flat(parts: Sequence[Tokens]) -> Integers:
    return np.concatenate([part.ravel() for part in parts]).astype(np.int32)


def _shifted(codes: Tokens, axis: int, border: int) -> Integers:
    """Return the neighbor before each of (n, h, w) codes along an axis; `border` where there is none."""
    moved = np.roll(codes.astype(np.int32), 1, axis)
    moved[(slice(None),) * axis + (0,)] = border
    return moved


def code_lengths(codes: Integers, contexts: Sequence[Integers], halves: Integers, size: int) -> tuple[float, ...]:
    """Return the bits that each coder needs for all codes, without those that say which it is.

    The first knows single frequencies: Krichevsky and Trofimov's estimate, half a count for each code. One for each
    context predicts from that alone, the next mixes these predictions with equal weights; the last predicts from all
    contexts together. A prediction falls back on single frequencies, the last one on the shortest coder before it, by
    absolute discounting: each count of a code after a context gives up D = (n1 + 1) / (n1 + 2 n2 + 2), where n1 and n2
    counts are 1 and 2. Source: Ney, Essen, Kneser, "On structuring probabilistic dependences in stochastic language
    modelling" (Computer Speech and Language 8, 1994); the ones keep D above 0 and below 1.

    Args:
        codes: (n,) 0 to `size` - 1.
        contexts: (n,) each: what each code is predicted from.
        halves: (n,) 0 or 1: each half is coded by what was fitted to the other.
        size: K.
    """
    seen, total = _counts(_numbered(codes), halves), np.bincount(1 - halves, minlength=2)[halves]
    single = (seen + 0.5) / (total + size / 2)
    best, lengths, mixed = single, [_bits(single)], np.zeros(len(codes))
    for context in contexts:
        alone = _predicted(codes, context, halves, single, size)
        mixed += alone / len(contexts)
        best, lengths = _shorter(best, alone), [*lengths, _bits(alone)]
    best, lengths = _shorter(best, mixed), [*lengths, _bits(mixed)]
    every = np.zeros_like(codes)
    for context in contexts:
        every = _numbered(every.astype(np.int64) * (int(context.max(initial=0)) + 1) + context)
    return (*lengths, _bits(_predicted(codes, every, halves, best, size)))


def _shorter(first: Floats, second: Floats) -> Floats:
    """Return the shares of the coder that needs fewer bits."""
    return second if _bits(second) < _bits(first) else first


def _bits(shares: Floats) -> float:
    return float(-np.log2(shares).sum())


def _numbered(values: Integers) -> Integers:
    """Return the number of each value among the different ones."""
    return np.unique(values, return_inverse=True)[1].ravel().astype(np.int32)


def _counts(numbers: Integers, halves: Integers) -> Integers:
    """Return how often the number of each element occurs in the half that it is not in."""
    return _by_half(numbers, halves)[numbers, 1 - halves]


def _by_half(numbers: Integers, halves: Integers) -> Integers:
    """Return the (n, 2) times that each of n numbers occurs in each half."""
    count = int(numbers.max(initial=0)) + 1
    return np.bincount(2 * numbers + halves, minlength=2 * count).reshape(count, 2).astype(np.int32)


def _predicted(codes: Integers, context: Integers, halves: Integers, lower: Floats, size: int) -> Floats:
    """Return the (n,) shares that the other half gives each code in its context, falling back on (n,) `lower`."""
    pairs, inverse = np.unique(context.astype(np.int64) * size + codes, return_inverse=True)
    number = inverse.ravel().astype(np.int32)
    times = _by_half(number, halves)
    place = _numbered(pairs // size)  # of the context of each pair
    del pairs, inverse
    totals = np.stack([np.bincount(place, times[:, half]) for half in (0, 1)], axis=-1).astype(np.int32)
    kinds = np.stack([np.bincount(place[times[:, half] > 0], minlength=len(totals)) for half in (0, 1)], axis=-1)
    once, twice = (times == 1).sum(axis=0), (times == 2).sum(axis=0)
    discount = (once + 1) / (once + 2 * twice + 2)
    other, here = 1 - halves, place[number]
    shares = discount[other] * kinds[here, other] * lower
    shares += np.maximum(0, times[number, other] - discount[other])
    total = totals[here, other]
    shares /= np.maximum(1, total)
    return np.where(total > 0, shares, lower)
