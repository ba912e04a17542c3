"""Random crops of the training images, in an order that a seed fixes, and their reading ahead."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tokenizer.config import TrainConfig
from tokenizer.errors import ImageError, TrainingError
from tokenizer.images import Pixels, Source, parse_color, read_image, resize
from tokenizer.train.crop_order import CropOrder

CACHE_BYTES = 2**30
# Of these, where an image gives several crops each time it is read.
_WAITING_BYTES = 2**29
# Images that are under way at once: enough for varied batches, and few enough to be read soon when a run goes on.
_WINDOW = 256


class Crops:
    """Random square crops of a list of images.

    The n-th crop is fixed by (seed, n) alone: image, scale and place follow from them, whatever was drawn before and by
    how many workers, so that a run can go on from any step. See `TrainConfig` for what its settings mean, and
    `CropOrder` for the order.

    Decoded images are kept in memory up to 1 GiB. Where large ones give several crops each time they are read, half of
    that is for those of these crops that come later. Of several ranks, each reads an image for its own crops.

    Args:
        sources: the images.
        config: settings of the run, of which `image_size` and `crops_per_read` have a value.

    Attributes:
        sources: the images.
        size: side of a crop in pixels.
        order: which image each crop is of.
        unreadable: name and reason of each image that could not be read; it yields no crop, and no other image
            takes its place.
    """

    def __init__(self, sources: Sequence[Source], config: TrainConfig) -> None:
        self.sources, self.size = sources, config.image_size or 1
        self.unreadable: dict[str, str] = {}
        self._config, self._alpha = config, parse_color(config.alpha)
        per_read, each = config.crops_per_read or 1, 3 * self.size**2
        window = min(_WINDOW, max(1, _WAITING_BYTES // (per_read * each)))
        self.order = CropOrder(sources, config.seed, config.balance, per_read, window)
        self._cache: dict[int, Pixels] = {}
        self._free_bytes = CACHE_BYTES - (_WAITING_BYTES if per_read > 1 else 0)
        self._waiting: dict[int, Pixels] = {}  # crops by their numbers, in the order in which they were cut
        self._most_waiting = window * per_read
        self._taken = 0

    def crop(self, number: int) -> Pixels | None:
        """Return the (size, size, 3) crop of that number, or None when its image cannot be read."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            return waiting
        draw = self.order.draw(number)
        pixels = self._cache.get(draw.image)
        if pixels is not None:
            return self._cut(pixels, number)
        try:
            pixels = self.read(self.sources[draw.image])
        except ImageError as error:
            self.unreadable[self.sources[draw.image].name] = str(error)
            return None
        if pixels.nbytes <= self._free_bytes:
            self._free_bytes -= pixels.nbytes
            self._cache[draw.image] = pixels
        else:
            for later in draw.later:
                self._keep(later, self._cut(pixels, later))
        return self._cut(pixels, number)

    def read(self, source: Source) -> Pixels:
        """Return an image as crops are cut from it, (H, W, 3): at its own size, or at most at what crops can use.

        Raises:
            ImageError: it cannot be read.
        """
        config = self._config
        wanted = [config.encode_size] if config.encode_size else []
        if config.smallest_crop and not config.native_crops:
            wanted.append(round(self.size / config.smallest_crop))
        return read_image(source.file, self._alpha, shrink_to=min(wanted, default=None))

    def _keep(self, number: int, crop: Pixels) -> None:
        """Keep a crop for when its number comes, in place of the oldest one where there are too many."""
        while len(self._waiting) >= self._most_waiting:
            # Other threads take crops meanwhile.
            self._waiting.pop(next(iter(self._waiting.copy()), -1), None)
        self._waiting[number] = np.ascontiguousarray(crop)  # a view would hold the whole image

    def _cut(self, pixels: Pixels, number: int) -> Pixels:
        random = np.random.default_rng([self._config.seed, 1, number])
        side = max(1, round(self._span(min(pixels.shape[:2]), number, random)))
        top = int(random.integers(pixels.shape[0] - side + 1))
        left = int(random.integers(pixels.shape[1] - side + 1))
        cut = resize(pixels, self.size, self.size, (top, left, side, side), fast=True)
        return cut[:, ::-1] if random.random() < 0.5 else cut

    def _span(self, short: int, number: int, random: np.random.Generator) -> float:
        """Return the side of what a crop shows, in pixels of an image whose shorter side is `short`."""
        config = self._config
        # Where encoding enlarges the image, a crop at the scale of encoding spans less.
        scale = min(1.0, short / config.encode_size) if config.encode_size else 1.0
        own = min(short, self.size * scale)
        # A generator of its own, so that without native crops the numbers drawn are those of earlier versions.
        if np.random.default_rng([config.seed, 3, number]).random() < config.native_crops:
            return own
        if config.smallest_crop:
            return short * random.uniform(config.smallest_crop, 1)
        return float(short * (own / short) ** random.random())  # each halving of the scale as often as another

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Return the readable crops of these numbers as (B, size, size, 3) uint8."""
        crops = [crop for crop in map(self.crop, numbers) if crop is not None]
        return torch.from_numpy(np.stack(crops) if crops else np.zeros((0, self.size, self.size, 3), np.uint8))

    def take_unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return name and reason of the images that turned out unreadable since the last call."""
        found = tuple(self.unreadable.copy().items())  # threads add to it
        new, self._taken = found[self._taken :], len(found)
        return new


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
