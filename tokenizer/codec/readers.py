"""Images read ahead by threads within a limit of pixels, and fitted to the grid."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tokenizer.codec.encode_options import EncodeOptions
from tokenizer.codec.results import Unreadable
from tokenizer.errors import ImageError
from tokenizer.images import ImageInfo, Pixels, Placement, Source, placement_of, read_scaled
from tokenizer.tokens import FailedInput


class PixelBudget:
    """A number of pixels that images take from before they are decoded, and give back later; who finds too few waits.

    Args:
        limit: the number. The image whose turn it is never waits, as all others would wait for it: for one image, more
            than the limit may be held.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._turn, self._stopped = limit, 0, 0, False
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Pixels that were taken and not given back."""
        return self._held

    def take(self, number: int, pixels: int) -> None:
        """Wait until the image of that number may hold so many pixels."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or number <= self._turn or self._held + pixels <= self._limit)
            self._held += pixels

    def give(self, pixels: int) -> None:
        """Give pixels back; less than 0 takes more without waiting."""
        with self._changed:
            self._held -= pixels
            self._changed.notify_all()

    def turn_of(self, number: int) -> None:
        """Say that everything waits for the image of that number."""
        with self._changed:
            self._turn = number
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Fitted:
    """An image on its canvas, (H, W, 3) uint8; of a file that `has_more` frames or pages, the first."""

    source: Source
    placement: Placement
    canvas: Pixels
    has_more: bool

    @property
    def pixels(self) -> int:
        """Of the canvas, which stay taken from the budget."""
        return self.canvas.shape[0] * self.canvas.shape[1]


def read_ahead(
    sources: Iterable[Source], multiple: int, options: EncodeOptions, budget: PixelBudget
) -> Generator[Fitted | Unreadable]:
    """Yield each source fitted, in order, while threads read those behind it.

    Args:
        sources: the images; they are asked for in the caller's thread.
        multiple: pixels per position: sides of a canvas are multiples of it.
        options: size, mode, color and workers.
        budget: of pixels; whoever is done with a canvas gives them back.
    """
    count = options.readers
    with ThreadPoolExecutor(count, thread_name_prefix="images") as pool:
        numbered = enumerate(sources)
        ahead: deque[tuple[int, Future[Fitted | Unreadable]]] = deque()
        try:
            while True:
                for number, source in itertools.islice(numbered, 2 * count - len(ahead)):
                    ahead.append((number, pool.submit(_fit, number, source, multiple, options, budget)))
                if not ahead:
                    return
                number, reading = ahead.popleft()
                budget.turn_of(number)
                yield reading.result()
        finally:
            budget.stop()
            pool.shutdown(wait=False, cancel_futures=True)


def _fit(
    number: int, source: Source, multiple: int, options: EncodeOptions, budget: PixelBudget
) -> Fitted | Unreadable:
    taken = 0

    def placed(size: tuple[int, int], scales: tuple[int, ...]) -> Placement:
        return placement_of(size, options.mode, options.image_size, multiple, scales)

    def choose(opened: ImageInfo) -> int:
        nonlocal taken
        scale = placed(opened.size, opened.scales).scale
        taken = opened.size[0] * opened.size[1] // (1 if opened.progressive else scale**2)
        budget.take(number, taken)
        return scale

    try:
        decoded = read_scaled(source.file, options.alpha, choose)
        placement = placed(decoded.original, (decoded.scale,))
        fitted = Fitted(source, placement, placement.apply(decoded.pixels), decoded.has_more)
    except (ImageError, MemoryError) as error:
        budget.give(taken)
        return Unreadable(source, FailedInput(source.name, str(error) or "it needs more memory than there is"))
    budget.give(taken - fitted.pixels)
    return fitted
