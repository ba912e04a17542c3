"""Images out of Python: any dataset as sources, which training and encoding take as they take files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tokenizer.errors import ImageError, InputError
from tokenizer.images import Pixels, Source

if TYPE_CHECKING:
    from torch import Tensor

_SLACK = 0.5 / 255  # how far outside of [0, 1] a float still rounds to 0 or 255


def dataset_sources(dataset: Iterable[Any]) -> list[Source]:
    """Return the images of a dataset, named by their zero-padded positions.

    An item is an image, or a tuple or list that begins with one. An image is one of Pillow's, a (3, H, W) or
    (1, H, W) tensor, float in [0, 1] or uint8, or an (H, W, 3) or (H, W) uint8 array.

    A dataset with a length and indices, such as torchvision's, is read item by item whenever an image is wanted, by
    several threads where `workers` is more than 1. An item must be the same each time: transforms that draw random
    numbers have no place here. Any other iterable is read to its end now, and its images are kept in memory.

    Raises:
        InputError: there are no items; or the first one, or one that is read now, holds no image.
    """
    from torch.utils.data import IterableDataset

    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset):
        items: Any = dataset
        _check_first(items)
    else:
        items = [_kept(item, number) for number, item in enumerate(dataset)]
    count = len(items)
    if not count:
        raise InputError("the dataset has no items")
    digits = len(str(count - 1))
    return [Source(f"{number:0{digits}d}", partial(_read, items, number)) for number in range(count)]


def dataset_image(item: Any) -> Pixels | Image.Image:
    """Return the image of a dataset's item, see `dataset_sources`: itself where it need not be converted.

    Raises:
        ImageError: it holds none; the message is the reason alone.
    """
    from torch import Tensor

    image = item[0] if isinstance(item, (tuple, list)) and item else item
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        return _pixels(image.detach().cpu())
    if not isinstance(image, np.ndarray):
        raise ImageError(f"a {type(image).__name__}, expected one of Pillow's images, a tensor or an array")
    if image.dtype != np.uint8 or not image.size or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise ImageError(f"an array {image.shape} of {image.dtype}, expected (H, W, 3) or (H, W) of uint8")
    return image


def _pixels(image: Tensor) -> Pixels:
    """Return a (3, H, W) or (1, H, W) tensor, float in [0, 1] or uint8, as (H, W, 3) pixels.

    Raises:
        ImageError: it is none of these.
    """
    import torch

    shape = tuple(image.shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or not image.numel():
        advice = ": pass the dataset, not a loader of its batches" if len(shape) == 4 else ""
        raise ImageError(f"a tensor {shape}, expected (3, H, W) or (1, H, W){advice}")
    if image.is_floating_point():
        image = image.float()
        low, high = image.min().item(), image.max().item()
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise ImageError(f"a tensor of {low:.4g} to {high:.4g}, expected 0 to 1: leave normalization out")
        image = image.mul(255).round().clamp(0, 255).to(torch.uint8)
    elif image.dtype != torch.uint8:
        raise ImageError(f"a tensor of {image.dtype}, expected uint8, or float in [0, 1]")
    pixels: Pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return pixels


def _read(items: Any, number: int) -> Pixels | Image.Image:
    return dataset_image(items[number])


def _kept(item: Any, number: int) -> Pixels | Image.Image:
    """Return a copy of an item's image, read to its end."""
    try:
        return dataset_image(item).copy()
    except Exception as error:
        raise InputError(f"item {number} of the dataset: {error}") from error


def _check_first(items: Any) -> None:
    """Raise InputError where the first item is none; one that cannot be read is told when it is wanted."""
    found = []
    with contextlib.suppress(Exception):
        found.append(items[0])
    try:
        for item in found:
            dataset_image(item)
    except ImageError as error:
        raise InputError(f"item 0 of the dataset: {error}") from error
