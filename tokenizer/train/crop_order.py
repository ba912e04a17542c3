"""The order in which images give crops: a function of a seed alone, with folders balanced and readings shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tokenizer.images import Source


@dataclass(frozen=True)
class Draw:
    """Which image a crop is of.

    Attributes:
        image: place of the image in the list.
        later: numbers of the crops after it for which the image need not be read again.
    """

    image: int
    later: tuple[int, ...] = ()


@dataclass
class CropOrder:
    """Which image the n-th crop is of, fixed by (seed, n) alone.

    In an epoch every image comes `per_read` times, or, with `balance`, as often as its folder's weight says. These
    `per_read` crops lie within the time of `window` images, so that few are under way at once, and another one begins
    at about each `per_read`-th crop, at an even pace. With one crop each, an epoch is a permutation.

    Attributes:
        sources: the images.
        seed: of the order.
        balance: 0 draws every image alike; 1 every folder alike, whatever it holds; between them, n images share a
            weight of n^(1 - balance). A folder is that in which an image lies.
        per_read: crops of an image each time it comes.
        window: over how many images these are spread.
    """

    sources: Sequence[Source]
    seed: int
    balance: float = 0.0
    per_read: int = 1
    window: int = 1
    _folders: list[NDArray[np.int64]] = field(default_factory=list, init=False, repr=False)
    _epochs: dict[int, _Epoch] = field(default_factory=dict, init=False, repr=False)

    def draw(self, number: int) -> Draw:
        """Return which image the crop of that number is of."""
        length = self.per_read * len(self.sources)
        epoch, place = divmod(number, length)
        order = self._epoch(epoch)
        slot = int(order.slots[place]) % len(self.sources)
        image = int(order.images[slot])
        if self.per_read == 1:
            return Draw(image)
        places = sorted(int(other) for other in order.places[slot :: len(self.sources)] if other > place)
        return Draw(image, tuple(epoch * length + other for other in places))

    def _epoch(self, epoch: int) -> _Epoch:
        found = self._epochs.get(epoch)
        if found is None:
            found = self._made(epoch)
            # Threads that read ahead meet the end of one and the beginning of the next.
            self._epochs = {e: o for e, o in self._epochs.items() if abs(e - epoch) == 1} | {epoch: found}
        return found

    def _made(self, epoch: int) -> _Epoch:
        count = len(self.sources)
        slots = np.arange(self.per_read * count)
        if self.per_read > 1:
            spread = np.random.default_rng([self.seed, 4, epoch]).random((self.per_read, count))
            slots = np.argsort((np.arange(count) + min(self.window, count) * spread).ravel(), kind="stable")
        places = np.empty_like(slots)
        places[slots] = np.arange(len(slots))
        return _Epoch(self._permuted(epoch), slots, places)

    def _permuted(self, epoch: int) -> NDArray[np.int64]:
        """Return the images of an epoch, as many as there are sources, in its order."""
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.sources))
        if not self.balance:
            return order
        self._folders = self._folders or folders_of(self.sources)
        quotas = _quotas([len(rows) for rows in self._folders], self.balance)
        drawn = [
            _dealt(rows, epoch * quota, quota, [self.seed, 2, number])
            for number, (rows, quota) in enumerate(zip(self._folders, quotas, strict=True))
        ]
        return np.concatenate(drawn)[order]


@dataclass(frozen=True)
class _Epoch:
    """Images in their order; the slot of each crop, which is one of an image's modulo the images; the crop of each."""

    images: NDArray[np.int64]
    slots: NDArray[np.int64]
    places: NDArray[np.int64]


def folders_of(sources: Sequence[Source]) -> list[NDArray[np.int64]]:
    """Return the places of the images of each folder, in the order in which the folders come.

    A folder is the one in which an image lies, so that two folders of them are balanced as one that holds both is.
    """
    rows: dict[str, list[int]] = {}
    for row, source in enumerate(sources):
        rows.setdefault(source.name.rpartition("/")[0], []).append(row)
    return [np.array(found, np.int64) for found in rows.values()]


def _quotas(sizes: Sequence[int], balance: float) -> list[int]:
    """Return how many of `sum(sizes)` draws each folder gets: the largest remainders are rounded up."""
    weights = np.array(sizes, float) ** (1 - balance)
    exact = sum(sizes) * weights / weights.sum()
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: sum(sizes) - quotas.sum()]] += 1
    return [int(quota) for quota in quotas]


def _dealt(rows: NDArray[np.int64], first: int, count: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """Return `count` of `rows` from the `first`-th on, of shuffles of all of them one after the other."""
    rounds = range(first // len(rows), -(-(first + count) // len(rows)))
    shuffled = [np.random.default_rng([*seed, number]).permutation(rows) for number in rounds]
    start = first - rounds.start * len(rows)
    return np.concatenate([*shuffled, rows[:0]])[start : start + count]
