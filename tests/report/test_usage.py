"""Use by slot, jointly, by rank and by position, against computations by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from tokenizer.metrics import Usage
from tokenizer.report import JointUse, PositionUse, streams, usage_report
from tokenizer.report.usage import slot_report, zipf_exponent
from tokenizer.tokens import headerless_tokens


def drawn_from_law(exponent: float, codes: int, tokens: int, seed: int = 0) -> np.ndarray:
    """How often each of `codes` was drawn, most first, where rank r has a share proportional to r^-s."""
    shares = np.arange(1, codes + 1) ** -exponent
    counts = np.random.default_rng(seed).multinomial(tokens, shares / shares.sum())
    return np.sort(counts[counts > 0])[::-1]


class TestZipf:
    @pytest.mark.parametrize("exponent", [0.3, 1.0, 1.7])
    @pytest.mark.parametrize("codes", [10, 300])
    def test_finds_the_exponent_of_a_sample(self, exponent: float, codes: int) -> None:
        counts = drawn_from_law(exponent, codes, 2_000_000)
        assert zipf_exponent(counts) == pytest.approx(exponent, abs=0.02)

    def test_has_the_greatest_likelihood(self) -> None:
        counts = np.sort(np.random.default_rng(1).integers(1, 1000, 50))[::-1]
        ranks = np.arange(1, 51)

        def loss(exponent: float) -> float:
            return float(exponent * (counts * np.log(ranks)).sum() + counts.sum() * np.log((ranks**-exponent).sum()))

        wanted = scipy.optimize.minimize_scalar(loss, bounds=(0, 10), method="bounded", options={"xatol": 1e-9}).x
        assert zipf_exponent(counts) == pytest.approx(wanted, abs=1e-6)

    @pytest.mark.parametrize("codes", [10, 11, 12, 64, 1000])
    @pytest.mark.parametrize("times", [1, 7, 10**12])
    def test_even_use_is_zero(self, codes: int, times: int) -> None:
        """Whichever way the sums are rounded."""
        assert zipf_exponent(np.full(codes, times)) == pytest.approx(0, abs=1e-9)

    def test_one_code_that_has_nearly_all(self) -> None:
        found = zipf_exponent(np.array([10**15, *[1] * 9]))
        assert found is not None
        assert 30 < found < 60

    def test_needs_ten_codes(self) -> None:
        assert zipf_exponent(np.array([9, 8, 7, 6, 5, 4, 3, 2, 1])) is None
        assert zipf_exponent(np.array([], np.int64)) is None


class TestSlot:
    def test_shares_of_the_most_used(self) -> None:
        counts = np.arange(250)
        found = slot_report(Usage(np.random.default_rng(0).permutation(counts)), 2)
        assert found.top_1_percent == (249 + 248 + 247) / counts.sum()  # 2.5 codes are 3
        assert found.top_10_percent == counts[-25:].sum() / counts.sum()
        assert [times for _, times, _ in found.top] == [249, 248]

    def test_ranks_are_spread_over_their_logarithm(self) -> None:
        counts = np.arange(1, 5001)
        found = slot_report(Usage(counts), 0).ranked
        ranks = np.array([rank for rank, _ in found])
        assert 100 < len(ranks) <= 200
        assert list(ranks[:10]) == list(range(1, 11))
        assert ranks[-1] == 5000
        assert np.diff(np.log(ranks[100:])).max() < 0.06
        assert all(share == counts[-rank] / counts.sum() for rank, share in found)

    def test_few_codes_have_every_rank(self) -> None:
        assert slot_report(Usage(np.array([0, 1, 3])), 0).ranked == ((1, 0.75), (2, 0.25))

    def test_one_code(self) -> None:
        found = slot_report(Usage(np.array([5])), 1)
        assert (found.used, found.dead, found.perplexity, found.entropy_bits) == (1, 0, 1, 0)
        assert (found.top_1_percent, found.top_10_percent, found.zipf_exponent) == (1, 1, None)
        assert found.ranked == ((1, 1.0),)

    def test_no_tokens(self) -> None:
        found = slot_report(Usage(np.zeros(20, np.int64)), 1)
        assert (found.used, found.top_1_percent, found.top_10_percent) == (0, 0, 0)
        assert (found.zipf_exponent, found.ranked) == (None, ())


class TestJoint:
    @pytest.mark.parametrize("sizes", [(3, 4), (2, 5, 7), (1024,) * 8, (2**16, 300, 2**20, 2**20)])
    def test_against_counting_tuples(self, sizes: tuple[int, ...]) -> None:
        """Alphabets whose product fits one integer, and others."""
        random = np.random.default_rng(0)
        some = random.integers(0, sizes, (40, len(sizes)))
        codes = some[random.integers(0, 40, 600)]
        found = usage_report([headerless_tokens(codes.reshape(6, 10, 10, -1))], sizes, 0).joint
        assert found
        times = np.unique(codes, axis=0, return_counts=True)[1]
        assert (found.distinct, found.possible) == (len(times), math.prod(sizes))
        assert found.entropy_bits == pytest.approx(scipy.stats.entropy(times, base=2), rel=1e-12)
        assert found.perplexity == pytest.approx(math.exp(scipy.stats.entropy(times)), rel=1e-12)

    def test_too_many_combinations_give_no_figure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "MOST_COMBINED", 8 * 5)
        some = [headerless_tokens(np.array([[[[a, a]]] for a in range(count)])) for count in (5, 6)]
        assert usage_report(some[:1], (8, 8), 0).joint == JointUse(5, 64, pytest.approx(math.log2(5)), pytest.approx(5))
        joint = usage_report(some, (8, 8), 0).joint
        assert joint == JointUse(None, 64, None, None, "more than 5 different combinations")

    def test_one_code_a_position_has_none(self) -> None:
        assert usage_report([headerless_tokens(np.array([[0]]))], (2,), 0).joint is None

    def test_no_tokens(self) -> None:
        assert usage_report([], (2, 2), 0).joint == JointUse(0, 4, 0, 1)


class TestPositions:
    def test_against_scipy(self) -> None:
        codes = np.random.default_rng(0).poisson([[2, 9], [4, 1], [0, 3]], (150, 3, 2)).clip(0, 15)
        found = usage_report([headerless_tokens(codes[:70]), headerless_tokens(codes[70:])], (16,), 0).positions
        assert found
        assert found.images == 150
        for y, x in np.ndindex(3, 2):
            wanted = scipy.stats.entropy(np.bincount(codes[:, y, x]), base=2)
            assert found.entropy_bits[y][x] == pytest.approx(wanted, rel=1e-12)

    def test_means_over_slots(self) -> None:
        codes = np.stack([np.arange(128).reshape(-1, 1, 1) % 2, np.arange(128).reshape(-1, 1, 1) % 8], axis=-1)
        assert usage_report([headerless_tokens(codes)], (2, 8), 0).positions == PositionUse(128, ((2.0,),))

    def test_of_several_grids_or_few_images_there_are_none(self) -> None:
        many = np.zeros((100, 2, 3), int)
        assert usage_report([headerless_tokens(many)], (2,), 0).positions
        assert usage_report([headerless_tokens(many[1:])], (2,), 0).positions is None
        assert (
            usage_report([headerless_tokens(many), headerless_tokens(np.zeros((1, 3, 2), int))], (2,), 0).positions
            is None
        )

    def test_of_grids_that_are_too_large_to_look_at_there_are_none(self) -> None:
        assert usage_report([headerless_tokens(np.zeros((100, 2**7, 2**7), np.uint8))], (2,), 0).positions
        assert usage_report([headerless_tokens(np.zeros((100, 2**7, 2**7 + 1), np.uint8))], (2,), 0).positions is None
