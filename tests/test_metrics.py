"""Figures, against other implementations and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import skimage.data
import skimage.metrics
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from tests.conftest import draw
from tokenizer.metrics import Usage, add_counts, ms_ssim, overall_usage, psnr, ssim


def counts(*values: int) -> Usage:
    return Usage(np.array(values, np.int64))


class TestUsage:
    def test_by_hand(self) -> None:
        usage = counts(4, 0, 2, 2)
        assert (usage.tokens, usage.dead, usage.used) == (8, 1, 0.75)
        assert usage.entropy_bits == 1.5
        assert usage.perplexity == pytest.approx(2**1.5, rel=1e-15)

    @pytest.mark.parametrize("seed", range(5))
    def test_entropy_against_scipy(self, seed: int) -> None:
        drawn = np.random.default_rng(seed).integers(0, 1000, 4096) * (np.arange(4096) % 3 > 0)
        usage = Usage(drawn)
        assert usage.entropy_bits == pytest.approx(scipy.stats.entropy(drawn, base=2), rel=1e-12)
        assert usage.perplexity == pytest.approx(math.exp(scipy.stats.entropy(drawn)), rel=1e-12)
        assert usage.dead == np.count_nonzero(drawn == 0)
        assert usage.used == pytest.approx(np.count_nonzero(drawn) / 4096, abs=1e-15)

    def test_uniform_is_the_whole_alphabet(self) -> None:
        usage = counts(*[7] * 256)
        assert (usage.used, usage.dead, usage.entropy_bits, usage.perplexity) == (1, 0, 8, 256)

    def test_one_code(self) -> None:
        usage = counts(0, 9, 0, 0)
        assert (usage.used, usage.dead, usage.entropy_bits, usage.perplexity) == (0.25, 3, 0, 1)
        assert math.copysign(1, usage.entropy_bits) == 1

    def test_one_token(self) -> None:
        usage = counts(0, 1)
        assert (usage.tokens, usage.entropy_bits, usage.perplexity) == (1, 0, 1)

    def test_no_tokens(self) -> None:
        usage = counts(0, 0, 0)
        assert (usage.tokens, usage.used, usage.dead, usage.entropy_bits, usage.perplexity) == (0, 0, 3, 0, 1)
        assert usage.most_used(2) == [(0, 0, 0), (1, 0, 0)]

    def test_top(self) -> None:
        usage = counts(1, 5, 0, 5, 9)
        assert usage.most_used(3) == [(4, 9, 0.45), (1, 5, 0.25), (3, 5, 0.25)]
        assert usage.most_used(0) == []
        assert len(usage.most_used(99)) == 5


class TestPsnr:
    def test_by_hand(self) -> None:
        first = np.full((2, 2, 3), 100, np.uint8)
        second = first.copy()
        second[0, 0, 0] = 112  # 144 over 12 samples
        assert psnr(first, second) == pytest.approx(10 * math.log10(65025 / 12), rel=1e-14)

    def test_equal_pictures(self) -> None:
        assert psnr(draw(8, 8), draw(8, 8)) == math.inf

    def test_the_widest_error_is_0_db(self) -> None:
        black = np.zeros((3, 5, 3), np.uint8)
        assert psnr(black, black + 255) == psnr(black + 255, black) == 0

    @pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
    def test_against_torchmetrics(self, name: str) -> None:
        whole = photograph(name)
        first, second = whole[:150, :170], noisy(whole)[:150, :170]
        assert psnr(first, second) == pytest.approx(
            skimage.metrics.peak_signal_noise_ratio(first, second, data_range=255), rel=1e-12
        )
        assert psnr(first, second) == psnr(second, first)


class TestOverall:
    def test_slots_of_different_sizes_by_hand(self) -> None:
        together = overall_usage([counts(2, 2), counts(4, 0, 0, 0, 0, 0)])
        assert together.dead == 5
        assert together.used == 3 / 8, "over all codes, not the mean of 1 and 1/6"
        assert together.entropy_bits == 0.5
        assert together.perplexity == 2**0.5

    def test_counts_add_up(self) -> None:
        sums = [np.zeros(2, np.int64), np.zeros(3, np.int64)]
        for _ in range(2):
            add_counts(sums, np.array([[[0, 2], [1, 2]]], np.uint8))
        assert [total.tolist() for total in sums] == [[2, 2], [0, 0, 4]]


def photograph(name: str) -> np.ndarray:
    return np.ascontiguousarray(getattr(skimage.data, name)()[60:180, 100:260])


def noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, pixels.shape)
    return np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


class TestSsim:
    # Both compute the same formula in float64; 1e-7 leaves room for the order of sums in near-flat windows.
    @pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
    def test_against_torchmetrics(self, name: str) -> None:
        first, second = photograph(name), noisy(photograph(name))
        for other in (second, first[::-1], np.roll(first, 1, axis=1)):
            assert ssim(first, other) == pytest.approx(reference(first, other), abs=1e-7)

    @pytest.mark.parametrize("size", [(11, 11), (11, 40), (13, 12)])
    def test_small_pictures(self, size: tuple[int, int]) -> None:
        first, second = draw(*size, seed=1), draw(*size, seed=2)
        assert ssim(first, second) == pytest.approx(reference(first, second), abs=1e-7)

    def test_equal_pictures(self) -> None:
        assert ssim(draw(16, 16), draw(16, 16)) == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
    def test_smaller_than_the_window(self, size: tuple[int, int]) -> None:
        assert ssim(draw(*size), draw(*size)) is None


def reference(first: np.ndarray, second: np.ndarray) -> float:
    """The same figure from torchmetrics, whose own mean takes in the mirrored border."""
    pair = [torch.from_numpy(side.copy()).permute(2, 0, 1)[None].double() for side in (first, second)]
    _, similarity = structural_similarity_index_measure(*pair, data_range=255.0, return_full_image=True)
    return float(similarity[..., 5:-5, 5:-5].mean())


class TestMsSsim:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["astronaut", "coffee"])
    def test_against_torchmetrics(self, name: str) -> None:
        first = np.ascontiguousarray(getattr(skimage.data, name)()[20:203, 60:238])
        for second in (noisy(first), first // 2):
            assert ms_ssim(first, second) == pytest.approx(multi_scale(first, second), abs=1e-9)

    def test_the_smallest_pictures(self) -> None:
        first = draw(176, 180)
        assert ms_ssim(first, noisy(first)) == pytest.approx(multi_scale(first, noisy(first)), abs=1e-9)
        assert ms_ssim(first[:175], first[:175]) is None
        assert ms_ssim(first[:, :175], first[:, :175]) is None

    def test_equal_pictures(self) -> None:
        assert ms_ssim(draw(176, 176), draw(176, 176)) == pytest.approx(1, abs=1e-12)

    def test_a_negative_mean_counts_as_0(self) -> None:
        stripes = np.tile(np.array([0, 255], np.uint8)[:, None, None], (88, 176, 3))
        assert ms_ssim(stripes, 255 - stripes) == 0


def multi_scale(first: np.ndarray, second: np.ndarray) -> float:
    """The same figure from torchmetrics' two factors at each scale, the border left out.

    Its own `multiscale_structural_similarity_index_measure` takes the mirrored border into the mean at the coarsest
    scale (0.3 % off on photographs), and averages over channels before it multiplies.
    """
    x, y = (torch.from_numpy(side.copy()).permute(2, 0, 1)[:, None].double() for side in (first, second))
    product = torch.ones(3, dtype=torch.float64)
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        _, contrast = structural_similarity_index_measure(
            x, y, data_range=255.0, reduction="none", return_contrast_sensitivity=True
        )
        product *= contrast.clamp(min=0) ** weight
        x, y = (torch.nn.functional.avg_pool2d(side, 2) for side in (x, y))
    _, similarity = structural_similarity_index_measure(x, y, data_range=255.0, return_full_image=True)
    product *= similarity[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).clamp(min=0) ** 0.1333
    return float(product.mean())
