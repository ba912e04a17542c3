"""Validation images: which ones they are, and the batches that a model is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tokenizer.errors import ImageError, InputError
from tokenizer.images import Pixels, Source, read_image, resize

_SIDE = 256
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
) -> list[Tensor]:
    """Return the validation images as (B, S, S, 3) uint8 batches of one size each.

    Those that cannot be read, which can be all, are left out; their name and reason are added to `unreadable`.

    Each is shrunk to a shorter side of 256 pixels where it is larger, and cut to the center square whose side is a
    multiple of `downsample`; only an image smaller than `downsample` is enlarged.
    """
    groups: dict[int, list[Pixels]] = {}
    for source in sources:
        try:
            pixels = read_image(source.file, alpha, shrink_to=_SIDE)
        except ImageError as error:
            unreadable[source.name] = str(error)
            continue
        height, width = pixels.shape[:2]
        size = max(downsample, min(height, width) // downsample * downsample)
        side = min(height, width, size)
        box = ((height - side) // 2, (width - side) // 2, side, side)
        groups.setdefault(size, []).append(resize(pixels, size, size, box))
    return [
        torch.from_numpy(np.stack(group[start : start + batch_size]))
        for group in groups.values()
        for start in range(0, len(group), batch_size)
    ]
