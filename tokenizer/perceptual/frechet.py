"""The Frechet distance of two sets of features, each feature by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


class DiagonalFrechet:
    """The Frechet distance of two normal distributions with diagonal covariances, fitted to pairs of features.

    With diagonal covariances it is the sum over features of (difference of means)^2 + (difference of standard
    deviations)^2. Nothing correlates two features, so that a few pictures are enough: a whole covariance has a full
    rank only from as many pictures on as there are features. Memory does not grow with the number of pairs.

    Source: Dowson, Landau, "The Frechet distance between multivariate normal distributions" (1982), equation 4, for
    covariances that commute.
    """

    def __init__(self) -> None:
        self._pairs = 0
        self._means: Features | None = None
        self._squares: Features | None = None

    def add(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> None:
        """Take in the (N,) features of one picture of each set."""
        values = np.stack([first, second]).astype(np.float64)
        if self._means is None or self._squares is None:
            self._means, self._squares = np.zeros_like(values), np.zeros_like(values)
        # Sums about the running mean, which lose no digits: Welford, "Note on a method for calculating corrected sums
        # of squares and products" (1962).
        self._pairs += 1
        before = values - self._means
        self._means += before / self._pairs
        self._squares += before * (values - self._means)

    def distance(self) -> float | None:
        """Return the distance, 0 or more; None of fewer than two pairs."""
        if self._pairs < 2 or self._means is None or self._squares is None:
            return None
        spreads = np.sqrt(self._squares / (self._pairs - 1))
        return float(np.square(self._means[0] - self._means[1]).sum() + np.square(spreads[0] - spreads[1]).sum())
