"""Images to tokens."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from tokenizer.codec.batched import BatchedNetwork
from tokenizer.codec.encode_options import EncodeOptions
from tokenizer.codec.readers import Fitted, PixelBudget, read_ahead
from tokenizer.codec.results import Encoded, Unreadable
from tokenizer.codec.threads import Threads, Work, network_threads, until_error
from tokenizer.codec.tiling import image_tiles
from tokenizer.images import Pixels, Placement, Source
from tokenizer.models import Tokenizer
from tokenizer.tokens import ImageRecord

# Decoded ahead at once: 192 MiB of them.
PIXELS_AHEAD = 2**26


def encode_images(
    model: Tokenizer, sources: Iterable[Source], options: EncodeOptions
) -> Generator[Encoded | Unreadable]:
    """Yield each image's tokens, in the order of the sources, while threads read and encode those behind it.

    A source that cannot be read is yielded as such; no other image takes its place. Memory does not grow with the
    number of images. On a CPU in float32 an image's tokens are the same, bit for bit, whatever the batch size, the
    order, the company and the number of threads.

    Raises:
        DeviceError: out of memory, or nothing to compile with.
        NonFiniteError: a latent is not finite.
        Exception: whatever `sources` raises, once all that came before is yielded.
    """
    network = BatchedNetwork(model, options.precision, compiled=options.compile)
    budget, errors = PixelBudget(PIXELS_AHEAD), list[Exception]()
    readings = read_ahead(until_error(sources, errors), model.downsample, options, budget)
    with network_threads(network.device, compiled=options.compile) as threads, contextlib.closing(readings):
        line = _Line(network, threads, budget, options.batch_size)
        for reading in readings:
            line.add(reading)
            yield from line.finished()
        yield from line.rest()
    if errors:
        raise errors[0]


@dataclass
class _Batch:
    """Images of one canvas, which go through the network together."""

    canvases: list[Pixels] = field(default_factory=list)
    work: Work | None = None


@dataclass(frozen=True)
class _Waiting:
    """An image in line: its place in its batch."""

    source: Source
    placement: Placement
    batch: _Batch
    index: int
    has_more: bool

    @property
    def pixels(self) -> int:
        return self.placement.canvas[0] * self.placement.canvas[1]


class _Line:
    """Images between reading and the caller, in order; batches that are not full are sent when it grows too long."""

    def __init__(self, network: BatchedNetwork, threads: Threads, budget: PixelBudget, batch_size: int) -> None:
        self._network, self._threads, self._budget, self._batch_size = network, threads, budget, batch_size
        self._longest = max(64, 16 * batch_size)
        self._line: deque[_Waiting | Unreadable] = deque()
        self._open: dict[tuple[int, int], _Batch] = {}  # the oldest first
        self._sent: list[Work] = []
        self._pixels = 0

    def add(self, reading: Fitted | Unreadable) -> None:
        """Put an image at the end."""
        if isinstance(reading, Unreadable):
            self._line.append(reading)
            return
        canvas = reading.placement.canvas
        batch = self._open.setdefault(canvas, _Batch())
        self._line.append(_Waiting(reading.source, reading.placement, batch, len(batch.canvases), reading.has_more))
        self._pixels += reading.pixels
        batch.canvases.append(reading.canvas)
        if len(batch.canvases) == self._network.room(reading.pixels, self._batch_size):
            self._send(canvas)

    def finished(self) -> Iterator[Encoded | Unreadable]:
        """Take from the front what is ready, and what must go for the line to be short."""
        while self._line and self._is_ready(self._line[0]):
            yield self._first()
        # Half of the budget, so that reading goes on meanwhile.
        while len(self._line) >= self._longest or self._pixels > PIXELS_AHEAD // 2:
            self._keep_busy()
            yield self._first()

    def rest(self) -> Iterator[Encoded | Unreadable]:
        """Take everything."""
        while self._line:
            self._keep_busy()
            yield self._first()

    def _is_ready(self, place: _Waiting | Unreadable) -> bool:
        return isinstance(place, Unreadable) or (place.batch.work is not None and place.batch.work.done)

    def _first(self) -> Encoded | Unreadable:
        place = self._line.popleft()
        if isinstance(place, Unreadable):
            return place
        self._pixels -= place.pixels
        work = place.batch.work or self._send(place.placement.canvas)
        grid = work.result()[place.index]
        record = ImageRecord(place.source.name, grid.shape[:2], place.placement)
        return Encoded(place.source, record, grid, place.has_more)

    def _keep_busy(self) -> None:
        """Send what waits longest, until each thread has a batch and another to go on with."""
        while self._open and sum(not work.done for work in self._sent) < 2 * self._threads.count:
            self._send(next(iter(self._open)))

    def _send(self, canvas: tuple[int, int]) -> Work:
        batch, f = self._open.pop(canvas), self._network.model.downsample
        pixels = np.stack(batch.canvases)
        batch.canvases.clear()
        parts = []
        for tile in image_tiles(self._network.model, (canvas[0] // f, canvas[1] // f)):
            part = self._threads.submit(self._network.encode, pixels, tile)
            part.add_done_callback(partial(self._give, len(pixels) * tile.positions * f**2))
            parts.append((tile, part))
        batch.work = Work(parts)
        self._sent = [*(work for work in self._sent if not work.done), batch.work]
        return batch.work

    def _give(self, pixels: int, _: object) -> None:
        self._budget.give(pixels)
