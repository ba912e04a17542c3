"""Validation images: which ones they are, and the batches that a model is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tokenizer.errors import ImageError, InputError
from tokenizer.images import Pixels, Placement, Source, placement_of, read_image, read_scaled, resize

_SIDE = 256
_TILES = 4
_DRAWS = 10


def split_validation(sources: Sequence[Source], validation: int, seed: int) -> tuple[list[Source], list[Source]]:
    """Return (training, validation) images: `validation` of them drawn by `seed`, both in the order given.

    Where none of those drawn can be read, as happens when it is one that is damaged, the next in the seed's order are
    taken, up to `_DRAWS` times.
    """
    order = np.random.default_rng([seed, len(sources)]).permutation(len(sources))
    last = min(len(sources) - validation, (_DRAWS - 1) * validation)
    draws = (order[start : start + validation].tolist() for start in range(0, last + 1, max(1, validation)))
    readable = (rows for rows in draws if any(_readable(sources[row]) for row in rows))
    drawn = set(next(readable, order[:validation].tolist()))
    train = [source for row, source in enumerate(sources) if row not in drawn]
    return train, [sources[row] for row in sorted(drawn)]


def _readable(source: Source) -> bool:
    try:
        read_image(source.file, (255, 255, 255), shrink_to=_SIDE)
    except ImageError:
        return False
    return True


def no_validation_images(sources: Sequence[Source]) -> InputError:
    """Return the error to raise where `validation_batches` found none of the images readable."""
    return InputError(f"none of the {len(sources)} images to evaluate on can be read, such as {sources[0].name}")


def validation_batches(
    sources: Sequence[Source],
    downsample: int,
    batch_size: int,
    alpha: tuple[int, int, int],
    unreadable: dict[str, str],
    encode_size: int | None = None,
) -> list[Tensor]:
    """Return the validation images as (P, T, S, S, 3) uint8 batches: P images by T tiles of S pixels, alike in a batch.

    Those that cannot be read, which can be all, are left out; their name and reason are added to `unreadable`.

    Images are as `vqtok encode` takes them: at their own size, or the center square at `encode_size`. Along a side of
    at most 256 pixels a tile is the center. Along a longer one as many as fit are spread evenly, four in all at most. S
    is the shorter side, or half of it where that is above 256, at most 256, rounded down to a multiple of `downsample`;
    only an image smaller than that is enlarged. Four tiles do not show all of an elongated or a very large image, so
    that its own figure can be a decibel off, while the mean over many images is near that of whole ones.

    Args:
        sources: the images.
        downsample: pixels per position along each side.
        batch_size: most tiles in a batch, or those of one image where that has more.
        alpha: (red, green, blue) under transparent pixels.
        unreadable: gets what cannot be read.
        encode_size: see `TrainConfig`.
    """
    groups: dict[tuple[int, ...], list[Pixels]] = {}
    for source in sources:
        try:
            pixels = _as_encoded(source, alpha, encode_size)
        except ImageError as error:
            unreadable[source.name] = str(error)
            continue
        tiles = _tiles(pixels, downsample)
        groups.setdefault(tiles.shape, []).append(tiles)
    batches: list[Tensor] = []
    for shape, group in groups.items():
        count = max(1, batch_size // shape[0])
        starts = range(0, len(group), count)
        batches += [torch.from_numpy(np.stack(group[start : start + count])) for start in starts]
    return batches


def _as_encoded(source: Source, alpha: tuple[int, int, int], encode_size: int | None) -> Pixels:
    def placed(size: tuple[int, int], scales: tuple[int, ...]) -> Placement:
        return placement_of(size, "crop", encode_size, 1, scales)

    if encode_size is None:
        return read_image(source.file, alpha)
    decoded = read_scaled(source.file, alpha, lambda opened: placed(opened.size, opened.scales).scale)
    return placed(decoded.original, (decoded.scale,)).apply(decoded.pixels)


def _tiles(pixels: Pixels, downsample: int) -> Pixels:
    """Return the (T, S, S, 3) tiles of an image. None overlap: what two of them show would count twice."""
    short = min(pixels.shape[:2])
    size = max(downsample, min(_SIDE, short if short <= _SIDE else short // 2) // downsample * downsample)
    side = min(short, size)
    rows, columns = (1 if length <= _SIDE else length // side for length in pixels.shape[:2])
    while rows * columns > _TILES:
        rows, columns = (rows - 1, columns) if rows > columns else (rows, columns - 1)
    tops, lefts = _spread(pixels.shape[0], side, rows), _spread(pixels.shape[1], side, columns)
    return np.stack([resize(pixels, size, size, (top, left, side, side)) for top in tops for left in lefts])


def _spread(length: int, side: int, count: int) -> list[int]:
    """Return where `count` tiles begin that lie evenly on a length, half a gap before the first and after the last."""
    if count == 1:
        return [(length - side) // 2]
    margin = (length - count * side) // (2 * count)
    return [margin + number * (length - side - 2 * margin) // (count - 1) for number in range(count)]
