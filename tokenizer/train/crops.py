"""Random crops of the training images, in an order that a seed fixes, and their reading ahead."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer.errors import ImageError, TrainingError
from tokenizer.images import Pixels, Source, read_image, resize

_CACHE_BYTES = 2**30


@dataclass
class Crops:
    """Random square crops of a list of images.

    The n-th crop is fixed by (seed, n) alone: image and place follow from them, whatever was drawn before and by
    how many workers, so that a run can go on from any step. Every image comes once an epoch, or, with `balance`, as
    often as its folder's weight says. Decoded images are kept in memory up to 1 GiB.

    Attributes:
        sources: the images.
        size: side of a crop in pixels.
        seed: of the order and the crops.
        alpha: (red, green, blue) under transparent pixels.
        smallest: share of an image's shorter side that the smallest crop spans; the largest spans all of it.
        balance: 0 draws every image alike; 1 every folder alike, whatever it holds; between them, n images share a
            weight of n^(1 - balance). A folder is the first part of an image's name.
        unreadable: name and reason of each image that could not be read; it yields no crop, and no other image
            takes its place.
    """

    sources: Sequence[Source]
    size: int
    seed: int
    alpha: tuple[int, int, int] = (255, 255, 255)
    smallest: float = 0.5
    balance: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    _cache: dict[int, Pixels] = field(default_factory=dict, init=False, repr=False)
    _cached_bytes: int = field(default=0, init=False)
    _taken: int = field(default=0, init=False)
    _order: tuple[int, NDArray[np.int64]] | None = field(default=None, init=False, repr=False)
    _folders: list[NDArray[np.int64]] = field(default_factory=list, init=False, repr=False)

    def crop(self, number: int) -> Pixels | None:
        """Return the (size, size, 3) crop of that number, or None when its image cannot be read."""
        pixels = self._pixels(self._index(number))
        if pixels is None:
            return None
        random = np.random.default_rng([self.seed, 1, number])
        short = min(pixels.shape[:2])
        side = max(1, round(short * random.uniform(self.smallest, 1)))
        top = int(random.integers(pixels.shape[0] - side + 1))
        left = int(random.integers(pixels.shape[1] - side + 1))
        cut = resize(pixels, self.size, self.size, (top, left, side, side))
        return cut[:, ::-1] if random.random() < 0.5 else cut

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Return the readable crops of these numbers as (B, size, size, 3) uint8."""
        crops = [crop for crop in map(self.crop, numbers) if crop is not None]
        return torch.from_numpy(np.stack(crops) if crops else np.zeros((0, self.size, self.size, 3), np.uint8))

    def take_unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return name and reason of the images that turned out unreadable since the last call."""
        found = tuple(self.unreadable.copy().items())  # threads add to it
        new, self._taken = found[self._taken :], len(found)
        return new

    def _index(self, number: int) -> int:
        epoch, place_in_epoch = divmod(number, len(self.sources))
        order = self._order
        if order is None or order[0] != epoch:
            order = epoch, self._permuted(epoch)
            self._order = order
        return int(order[1][place_in_epoch])

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

    def _pixels(self, index: int) -> Pixels | None:
        if index in self._cache:
            return self._cache[index]
        source = self.sources[index]
        try:
            pixels = read_image(source.file, self.alpha, shrink_to=round(self.size / self.smallest))
        except ImageError as error:
            self.unreadable[source.name] = str(error)
            return None
        if self._cached_bytes + pixels.nbytes <= _CACHE_BYTES:
            self._cached_bytes += pixels.nbytes
            self._cache[index] = pixels
        return pixels


def folders_of(sources: Sequence[Source]) -> list[NDArray[np.int64]]:
    """Return the places of the images of each folder, in the order in which the folders come."""
    rows: dict[str, list[int]] = {}
    for row, source in enumerate(sources):
        first, slash, _ = source.name.partition("/")
        rows.setdefault(first if slash else "", []).append(row)
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


def crop_batches(
    crops: Crops, batch_size: int, first: int, workers: int, share: tuple[int, int] = (0, 1)
) -> Generator[Tensor]:
    """Yield the (B, size, size, 3) uint8 batch of each step, without end; the first begins with crop `first`.

    `workers` threads prepare batches ahead; 0 prepares each when it is asked for. The batches are the same either
    way. Images that cannot be read are missing from their batch, which may be empty. With `share` (i, n), n batches
    go on at each step, and the i-th of them is yielded.

    Raises:
        TrainingError: a whole epoch held no readable image.
    """
    part, parts = share
    starts = itertools.count(first + part * batch_size, parts * batch_size)
    numbers = (range(start, start + batch_size) for start in starts)
    made = map(crops.batch, numbers) if workers == 0 else _ahead(crops, numbers, workers)
    empty = 0
    for batch in made:
        empty = 0 if len(batch) else empty + batch_size
        if empty > len(crops.sources):
            name, reason = next(iter(crops.unreadable.items()))
            raise TrainingError(f"none of {len(crops.sources)} images can be read, the first is {name}: {reason}")
        yield batch


def _ahead(crops: Crops, numbers: Iterator[range], workers: int) -> Iterator[Tensor]:
    with ThreadPoolExecutor(workers, thread_name_prefix="crops") as pool:
        waiting: deque[Future[Tensor]] = deque()
        try:
            while True:
                while len(waiting) < 2 * workers:
                    waiting.append(pool.submit(crops.batch, next(numbers)))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
