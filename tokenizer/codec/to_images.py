"""Tokens to images."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.codec.batched import BatchedNetwork
from tokenizer.codec.threads import Threads, Work, network_threads, until_error
from tokenizer.codec.tiling import grid_tiles
from tokenizer.images import Pixels
from tokenizer.models import Tokenizer
from tokenizer.tokens import ImageRecord

TokenRow = tuple[ImageRecord, NDArray[Any]]

# Of pictures that are being made or wait for their turn.
_PIXELS_AHEAD = 2**25


def decode_tokens(
    model: Tokenizer, rows: Iterable[TokenRow], batch_size: int = 16, codes: int | None = None
) -> Generator[tuple[ImageRecord, Pixels]]:
    """Yield each record with its decoded (H, W, 3) uint8 canvas, padding and all, in order, while threads go ahead.

    `record.placement` undoes the padding and restores the size. Images of one grid that follow each other go
    through the network together. Memory does not grow with the number of images.

    Args:
        model: the tokenizer.
        rows: the record and (h, w, C) tokens of each image.
        batch_size: images that go through the network together, at most.
        codes: use only so many first codes of each position: a coarser picture.

    Raises:
        DeviceError: out of memory.
        ValueError: the quantizer cannot decode that many codes alone.
        Exception: whatever `rows` raises, once all that came before is yielded.
    """
    network, errors = BatchedNetwork(model), list[Exception]()
    with network_threads(network.device) as threads:
        line: deque[tuple[list[ImageRecord], Work]] = deque()
        pixels = 0
        for batch in _batches(until_error(rows, errors), network, batch_size):
            grids = np.stack([grid[..., :codes] for _, grid in batch])
            line.append(([record for record, _ in batch], _send(network, threads, grids)))
            pixels += _pixels(network, line[-1][0])
            while len(line) > 2 * threads.count or (len(line) > 1 and pixels > _PIXELS_AHEAD):
                pixels -= _pixels(network, line[0][0])
                yield from _finish(*line.popleft())
        while line:
            yield from _finish(*line.popleft())
    if errors:
        raise errors[0]


def _batches(rows: Iterable[TokenRow], network: BatchedNetwork, batch_size: int) -> Iterator[list[TokenRow]]:
    for (height, width), group in itertools.groupby(rows, key=lambda row: row[0].grid):
        room = network.room(height * width * network.model.downsample**2, batch_size)
        while batch := list(itertools.islice(group, room)):
            yield batch


def _send(network: BatchedNetwork, threads: Threads, grids: NDArray[Any]) -> Work:
    cut = grid_tiles(network.model, (grids.shape[1], grids.shape[2]))
    return Work([(tile, threads.submit(network.decode, grids, tile)) for tile in cut], network.model.downsample)


def _pixels(network: BatchedNetwork, records: Sequence[ImageRecord]) -> int:
    height, width = records[0].grid
    return len(records) * height * width * network.model.downsample**2


def _finish(records: Sequence[ImageRecord], work: Work) -> Iterator[tuple[ImageRecord, Pixels]]:
    return zip(records, work.result(), strict=True)
