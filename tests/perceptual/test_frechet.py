"""The Frechet distance of diagonal covariances, by hand and against whole covariances that are diagonal."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.perceptual import DiagonalFrechet


def distance(first: np.ndarray, second: np.ndarray) -> float | None:
    frechet = DiagonalFrechet()
    for pair in zip(first, second, strict=True):
        frechet.add(*pair)
    return frechet.distance()


def test_by_hand() -> None:
    first = np.array([[0.0, 1.0], [2.0, 1.0]])  # means 1, 1; standard deviations sqrt(2), 0
    second = np.array([[3.0, 0.0], [3.0, 4.0]])  # means 3, 2; standard deviations 0, sqrt(8)
    assert distance(first, second) == pytest.approx(4 + 1 + 2 + 8)


def test_few_pairs_have_none() -> None:
    assert DiagonalFrechet().distance() is None
    assert distance(np.zeros((1, 3)), np.ones((1, 3))) is None


def test_it_is_that_of_whole_covariances_where_they_are_diagonal() -> None:
    """Of all combinations of two values for each feature, no two features are correlated."""
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T
    first, second = signs * [1.0, 2.0, 3.0, 0.5] + 5, signs * [2.0, 2.0, 1.0, 0.0] - [1.0, 0.0, 0.0, 2.0]
    covariances = [np.cov(one, rowvar=False) for one in (first, second)]
    root = np.sqrt(covariances[0] @ covariances[1])  # of a diagonal matrix
    wanted = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distance(first, second) == pytest.approx(wanted, rel=1e-12)


def test_large_means_lose_no_digits() -> None:
    noise = np.random.default_rng(0).normal(size=(200, 8))
    wanted = distance(noise, 2 * noise)
    shifted = distance(noise + 1e6, 2 * noise + 1e6)
    assert shifted == pytest.approx(wanted, rel=1e-6)
    assert distance(noise, noise) == 0
