"""Work that threads do while others wait for it in line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tokenizer.codec.tiling import Tile

T = TypeVar("T")


class Threads:
    """Threads through which batches go.

    Args:
        device: of the network.
        compiled: the network is compiled, and its kernels share processors among themselves.

    Attributes:
        count: how many. On a CPU as many as torch would split an operation over, each of which keeps to one
            processor: batches side by side pay more, and tokens do not depend on how many there are. Elsewhere one.
    """

    def __init__(self, device: torch.device, *, compiled: bool = False) -> None:
        single = device.type == "cpu" and not compiled
        self.count = torch.get_num_threads() if single else 1
        one_processor = partial(torch.set_num_threads, 1) if single else None
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="network", initializer=one_processor)

    def submit(self, make: Callable[..., NDArray[Any]], *arguments: Any) -> Future[NDArray[Any]]:
        """Let one of them call `make`; calls begin in the order of these."""
        return self._pool.submit(make, *arguments)

    def stop(self) -> None:
        """Forget what has not begun, and wait for the rest."""
        self._pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def network_threads(device: torch.device, *, compiled: bool = False) -> Generator[Threads]:
    """Stop the threads in the end, and give torch back the number of its own."""
    before = torch.get_num_threads()
    threads = Threads(device, compiled=compiled)
    try:
        yield threads
    finally:
        threads.stop()
        torch.set_num_threads(before)


class Work:
    """A (B, ...) array that is being made: of a batch, or of the tiles of one image.

    Args:
        parts: each tile, and its array in the making: (B, rows, columns, channels).
        scale: rows and columns of the array for each position of a tile.
    """

    def __init__(self, parts: Sequence[tuple[Tile, Future[NDArray[Any]]]], scale: int = 1) -> None:
        self._parts, self._scale = parts, scale

    @property
    def done(self) -> bool:
        """Whether the array is there."""
        return all(part.done() for _, part in self._parts)

    def result(self) -> NDArray[Any]:
        """Wait for the array, and return it; raise what stood in its way."""
        made = [(tile.core, part.result()) for tile, part in self._parts]
        if len(made) == 1:
            return made[0][1]
        (rows, columns), last = made[-1]
        whole = np.empty((len(last), rows.stop * self._scale, columns.stop * self._scale, last.shape[-1]), last.dtype)
        for core, part in made:
            top, left = (side.start * self._scale for side in core)
            whole[:, top : top + part.shape[1], left : left + part.shape[2]] = part
        return whole


def until_error(items: Iterable[T], errors: list[Exception]) -> Iterator[T]:
    """Yield items up to the first error, and keep that for later: what came before it is finished first."""
    try:
        yield from items
    except Exception as error:  # noqa: BLE001  # whoever iterates raises it
        errors.append(error)
