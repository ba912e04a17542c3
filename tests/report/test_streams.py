"""The pass over tokens: blocks of any size give the same, and what is kept stays small."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tokenizer.report import streams
from tokenizer.report.streams import CodeCombinations, CodeCounts, TokenSample, stream_tokens
from tokenizer.tokens import headerless_tokens


def cut(codes: np.ndarray, seed: int) -> list[np.ndarray]:
    """Consecutive pieces of random lengths."""
    where = np.sort(np.random.default_rng(seed).integers(0, len(codes), 12))
    return np.split(codes, where)


class TestCounts:
    @pytest.mark.parametrize("seed", range(3))
    def test_curve_against_counting_prefixes(self, seed: int) -> None:
        codes = np.random.default_rng(seed).geometric(0.02, (3000, 1)).clip(1, 400) - 1
        counts = CodeCounts((400,))
        for block in cut(codes, seed):
            counts.add(block)
        curve = counts.whole_curve()
        assert [point.tokens for point in curve] == [256, 512, 1024, 2048, 3000]
        for point in curve:
            seen = np.unique(codes[: point.tokens], return_counts=True)[1]
            assert point.used == pytest.approx(len(seen) / 400, rel=1e-12)
            assert point.perplexity == pytest.approx(np.exp(scipy.stats.entropy(seen)), rel=1e-12)
        assert np.array_equal(counts.slots[0], np.bincount(codes[:, 0], minlength=400))

    @pytest.mark.parametrize(
        ("positions", "tokens"), [(0, []), (5, [10]), (512, [512, 1024]), (600, [512, 1024, 1200])]
    )
    def test_the_end_stands_once(self, positions: int, tokens: list[int]) -> None:
        counts = CodeCounts((2, 3))
        counts.add(np.zeros((positions, 2), np.uint8))
        assert [point.tokens for point in counts.whole_curve()] == tokens


class TestCombinations:
    @pytest.mark.parametrize("sizes", [(50, 60), (2**32, 2**33, 7)])
    def test_blocks_make_no_difference(self, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "_PENDING", 100)
        random = np.random.default_rng(0)
        codes = random.integers(0, np.minimum(sizes, 6), (1000, len(sizes)))
        counted = CodeCombinations(sizes)
        for block in cut(codes, 0):
            counted.add(block)
        counted.settle()
        assert counted.counts is not None
        assert sorted(counted.counts) == sorted(np.unique(codes, axis=0, return_counts=True)[1])

    def test_nothing_is_kept_once_there_are_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "_PENDING", 100)
        monkeypatch.setattr(streams, "MOST_COMBINED", 8 * 150)
        counted = CodeCombinations((20, 20))
        codes = np.stack(np.divmod(np.arange(400), 20), axis=-1)
        for block in np.split(codes, 8):
            counted.add(block)
        counted.settle()
        assert counted.counts is None
        assert counted.most == 150

    def test_zeros_at_the_end_of_the_bytes_count(self) -> None:
        counted = CodeCombinations((2**32, 2**32))
        counted.add(np.array([[1, 0], [1, 2**24], [0, 1], [1, 0]]))
        counted.settle()
        assert counted.counts is not None
        assert sorted(counted.counts) == [1, 1, 2]


class TestSample:
    @pytest.mark.parametrize("seed", range(4))
    def test_keeps_every_so_many_images(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "MOST_SAMPLED", 300)
        images = np.arange(1000).repeat(6).reshape(1000, 2, 3, 1)
        sample = TokenSample()
        for block in cut(images, seed):
            sample.add(block)
        (stack,) = sample.stacks
        assert (sample.step, sample.seen, sample.images) == (32, 1000, 32)
        assert np.array_equal(stack, images[::32])

    def test_neighbors_of_one_grid_are_together(self) -> None:
        sample = TokenSample()
        for shape in [(2, 1, 2, 1), (1, 1, 2, 1), (3, 2, 2, 1), (1, 1, 2, 1)]:
            sample.add(np.zeros(shape, np.uint8))
        assert [stack.shape[:3] for stack in sample.stacks] == [(3, 1, 2), (3, 2, 2), (1, 1, 2)]

    def test_one_image_is_kept_whatever_its_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "MOST_SAMPLED", 10)
        sample = TokenSample()
        sample.add(np.zeros((3, 5, 5, 1), np.uint8))
        assert (sample.images, sample.seen) == (1, 3)

    def test_empty(self) -> None:
        assert (TokenSample().images, TokenSample().stacks) == (0, [])


def test_pixels_need_every_record() -> None:
    assert stream_tokens([headerless_tokens(np.zeros((2, 3), int))], (2,)).pixels is None
    assert stream_tokens([], (2,)).pixels == 0
