"""Code lengths: against a coder written with dictionaries, and on sources whose entropy rate is known."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
import scipy.stats

from tokenizer.report import ContextRate
from tokenizer.report.rates import context_rate
from tokenizer.report.streams import TokenSample


def sampled(*blocks: np.ndarray) -> TokenSample:
    sample = TokenSample()
    for block in blocks:
        sample.add(block)
    return sample


class Dictionaries:
    """Shares that the coders give one code; those of all contexts last, on each that may be the shortest."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.after: dict[tuple[Hashable, ...], Counter[int]] = defaultdict(Counter)

    def learn(self, code: int, contexts: Sequence[int]) -> None:
        self.after[()][code] += 1
        self.after["all", *contexts][code] += 1
        for number, context in enumerate(contexts):
            self.after[number, context][code] += 1

    def discount(self, level: Hashable) -> float:
        counts = [times for key, seen in self.after.items() if key and key[0] == level for times in seen.values()]
        return (counts.count(1) + 1) / (counts.count(1) + 2 * counts.count(2) + 2)

    def discounted(self, level: Hashable, context: Sequence[int], code: int, lower: float) -> float:
        seen, given_up = self.after.get((level, *context)), self.discount(level)
        if not seen:
            return lower
        return (max(0, seen[code] - given_up) + given_up * len(seen) * lower) / seen.total()

    def shares(self, code: int, contexts: Sequence[int]) -> list[float]:
        single = (self.after[()][code] + 0.5) / (self.after[()].total() + self.size / 2)
        alone = [self.discounted(number, [context], code, single) for number, context in enumerate(contexts)]
        coders = [single, *alone, sum(alone) / len(alone)]
        return coders + [self.discounted("all", contexts, code, lower) for lower in coders]


def slowly(images: Sequence[np.ndarray], sizes: Sequence[int]) -> ContextRate:
    """`context_rate` of (h, w, C) images, written another way."""
    single = chosen = 0.0
    for slot, size in enumerate(sizes):
        rows: list[list[tuple[int, list[int]]]] = []
        for image in images:
            padded = np.pad(image[..., slot], ((1, 0), (1, 0)), constant_values=size)
            rows.append([])
            for y, x in np.ndindex(image.shape[:2]):
                contexts = [int(padded[y + 1, x]), int(padded[y, x + 1])]
                contexts += [int(image[y, x, slot - 1])] if slot else []
                rows[-1].append((int(image[y, x, slot]), contexts))
        bits = np.zeros(2 * (len(rows[0][0][1]) + 2))
        for half in (0, 1):
            coder = Dictionaries(size)
            for row in rows[1 - half :: 2]:
                for code, contexts in row:
                    coder.learn(code, contexts)
            for row in rows[half::2]:
                for code, contexts in row:
                    bits -= np.log2(coder.shares(code, contexts))
        single += bits[0]
        shortest = bits[: len(bits) // 2].argmin()
        stored = sum(map(len, rows)) * math.log2(size)
        chosen += min(stored, bits[shortest], bits[shortest + len(bits) // 2]) + 2 * math.log2(len(bits) + 1)
    tokens = sum(image.size for image in images)
    return ContextRate(len(images), tokens, single / tokens, chosen / tokens)


@pytest.mark.parametrize("sizes", [(5,), (4, 6), (3, 2, 4)])
def test_against_dictionaries(sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    blocks = [np.sort(random.integers(0, sizes, (n, h, w, len(sizes))), axis=2) for n, h, w in [(7, 3, 4), (4, 5, 2)]]
    wanted = slowly([image for block in blocks for image in block], sizes)
    found = context_rate(sampled(*blocks), sizes)
    assert found
    assert (found.images, found.tokens) == (wanted.images, wanted.tokens)
    assert found.single_bits == pytest.approx(wanted.single_bits, rel=1e-12)
    assert found.context_bits == pytest.approx(wanted.context_bits, rel=1e-12)


def test_shares_add_up_to_one() -> None:
    """So that they are code lengths at all: of every code that may come next, after what another image showed."""
    fitted = [np.array([0, 1, 1, 3, 0, 1]), np.array([4, 0, 1, 4, 3, 0]), np.array([4, 4, 4, 0, 1, 1])]
    coder = Dictionaries(4)
    for code, *contexts in zip(*map(np.ndarray.tolist, fitted), strict=True):
        coder.learn(code, contexts)
    for contexts in ([4, 4], [4, 0], [2, 2], [3, 1]):
        assert np.sum([coder.shares(code, contexts) for code in range(4)], axis=0) == pytest.approx(1, rel=1e-12)


def chains(count: int, length: int, moves: np.ndarray, seed: int) -> np.ndarray:
    """(count, 1, length, 1) codes, each row a walk that starts where it is everywhere."""
    random = np.random.default_rng(seed)
    codes = np.empty((count, length), np.int64)
    values, vectors = np.linalg.eig(moves.T)
    even = np.real(vectors[:, np.argmax(np.real(values))])
    codes[:, 0] = random.choice(len(moves), count, p=even / even.sum())
    ends = moves.cumsum(axis=1)
    for step in range(1, length):
        codes[:, step] = (random.random((count, 1)) > ends[codes[:, step - 1]]).sum(axis=1).clip(0, len(moves) - 1)
    return codes.reshape(count, 1, length, 1)


def test_approaches_the_entropy_rate_of_a_chain_from_above() -> None:
    moves = np.random.default_rng(0).dirichlet(np.full(16, 0.2), 16) * 0.98 + 0.02 / 16
    values, vectors = np.linalg.eig(moves.T)
    even = np.real(vectors[:, np.argmax(np.real(values))])
    rate = float((even / even.sum()) @ scipy.stats.entropy(moves, base=2, axis=1))
    gaps = []
    for count in (20, 200, 2000):
        found = context_rate(sampled(chains(count, 100, moves, 1)), (16,))
        assert found
        gaps.append(found.context_bits - rate)
        assert found.single_bits > rate + 0.5
    # A code in a hundred begins a row and costs more; sampling alone moves the last one by 0.01 bits.
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.05


@pytest.mark.parametrize(("size", "images"), [(4, 50), (256, 50), (256, 2000)])
def test_independent_codes_are_not_shortened(size: int, images: int) -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(size))
    codes = random.choice(size, (images, 8, 8, 1), p=shares)
    found = context_rate(sampled(codes), (size,))
    assert found
    told = -np.log2(shares[codes])  # by a coder that knows the source
    noise = 3 * told.std() / math.sqrt(told.size)
    assert found.context_bits > float(told.mean()) - 1e-12
    assert found.single_bits > scipy.stats.entropy(shares, base=2) - noise
    # No more is lost than it costs to say that context does not help.
    assert found.context_bits <= found.single_bits + 2 * math.log2(9) / codes.size + 1e-9


def test_never_above_the_coder_without_context() -> None:
    """Where every neighborhood is new, context must not cost more than the choice."""
    codes = np.random.default_rng(0).integers(0, 1000, (4, 6, 6, 1))
    found = context_rate(sampled(codes), (1000,))
    assert found
    assert found.context_bits <= found.single_bits + 2 * math.log2(9) / codes.size + 1e-9


def test_never_above_what_is_stored() -> None:
    """Few codes of a large alphabet: their frequencies cannot be known, and ten bits each will do."""
    codes = np.random.default_rng(0).permutation(1024)[:512].reshape(8, 8, 8, 1)
    found = context_rate(sampled(codes), (1024,))
    assert found
    assert found.single_bits > 10.1
    assert found.context_bits == pytest.approx(10 + 2 * math.log2(9) / codes.size, rel=1e-12)


def test_the_code_before_in_the_position_is_known() -> None:
    first = np.random.default_rng(0).integers(0, 64, (400, 4, 4))
    found = context_rate(sampled(np.stack([first, (first * 5 + 3) % 64], axis=-1)), (64, 64))
    assert found
    assert found.single_bits == pytest.approx(6, abs=0.2)
    assert found.context_bits == pytest.approx(3, abs=0.4)  # six bits for the first, next to none for the second


def test_all_equal() -> None:
    found = context_rate(sampled(np.full((10, 8, 8, 1), 3)), (8,))
    assert found
    assert 0 < found.context_bits < 0.05


def test_one_code() -> None:
    found = context_rate(sampled(np.zeros((2, 1, 1, 1), int)), (1,))
    assert found == ContextRate(2, 2, 0.0, pytest.approx(math.log2(9)))


def test_needs_two_images() -> None:
    assert context_rate(sampled(np.zeros((1, 4, 4, 1), int)), (2,)) is None
    assert context_rate(TokenSample(), (2,)) is None
