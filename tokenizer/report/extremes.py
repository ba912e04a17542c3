"""The worst and the best pictures of a set, collected while all are compared."""

from __future__ import annotations

import bisect
import itertools
import math

from tokenizer.html import PicturePair, make_pair
from tokenizer.images import Pixels
from tokenizer.metrics import psnr


class ExtremePairs:
    """Keeps the pictures of the lowest and of the highest PSNR, compressed: memory does not grow with the set.

    Args:
        most: how many at most, half of them the worst.
        prefix: of the pairs' names in the page, which differ from gallery to gallery.
    """

    def __init__(self, most: int, prefix: str = "picture") -> None:
        self._most_worst, self._most_best, self._prefix = -(-most // 2), most // 2, prefix
        self._worst: list[tuple[float, int, PicturePair]] = []
        self._best: list[tuple[float, int, PicturePair]] = []
        self._numbers = itertools.count(1)

    def keep(self, name: str, original: Pixels, made: Pixels) -> None:
        """Look at one (H, W, 3) uint8 picture and what its tokens decode to."""
        number, decibels = next(self._numbers), psnr(original, made)
        bad = len(self._worst) < self._most_worst or (self._worst and decibels < self._worst[-1][0])
        good = len(self._best) < self._most_best or (self._best and -decibels < self._best[-1][0])
        if not bad and not good:
            return
        note = "exact" if math.isinf(decibels) else f"{decibels:.2f} dB"
        views = make_pair(f"{self._prefix}-{number}", name, note, original, made)
        bisect.insort(self._worst, (decibels, number, views))
        bisect.insort(self._best, (-decibels, number, views))
        del self._worst[self._most_worst :], self._best[self._most_best :]

    @property
    def worst(self) -> list[PicturePair]:
        """Pairs of the lowest PSNR, the lowest first."""
        return [views for _, _, views in self._worst]

    @property
    def best(self) -> list[PicturePair]:
        """Pairs of the highest PSNR that are not among the worst, the highest first."""
        worst = {number for _, number, _ in self._worst}
        return [views for _, number, views in self._best if number not in worst]
