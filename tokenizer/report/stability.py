"""Stability: how many tokens change when a picture changes in a way that nobody sees."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.errors import InputError
from tokenizer.images import Pixels, Source, read_image, resize
from tokenizer.metrics import psnr

if TYPE_CHECKING:
    from tokenizer.codec import EncodeOptions
    from tokenizer.models import Tokenizer

_SCALE, _QUALITY, _FURTHEST = 0.99, 90, 8


@dataclass(frozen=True)
class TokenChange:
    """What one change of the picture does to its tokens.

    Attributes:
        name: short and stable, such as `shift_1`.
        definition: the change, and which tokens are compared.
        changed: share of tokens that differ, 0 to 1, over all images.
        psnr: dB between the two decoded pictures, mean over images where they differ; None where none do.
        exact: images whose two decoded pictures are equal.
        slots: share of tokens that differ in each of the C code slots.
    """

    name: str
    definition: str
    changed: float
    psnr: float | None
    exact: int = 0
    slots: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stability:
    """Of a tokenizer on some images.

    Attributes:
        images: how many were compared.
        changes: what was done to them, the control first.
        skipped: how many were not, as they are too small or cannot be read.
    """

    images: int
    changes: tuple[TokenChange, ...]
    skipped: int = 0


@dataclass(frozen=True)
class _Kind:
    """A change: what to do with the `size` (height, width) corner of a picture, and how it moves what is seen there.

    What is at the pixel y of the corner comes to `scale` * y - `shift`.
    """

    name: str
    says: str
    make: Callable[[Pixels, tuple[int, int], np.random.Generator], Pixels]
    shift: int = 0
    scale: float = 1.0

    def definition(self, downsample: int) -> str:
        """Return it in words, for a network of so many pixels per position."""
        if self.scale != 1:
            return f"{self.says}; each token against the one of the position that its center comes to lie in"
        if self.shift and self.shift % downsample == 0:
            return f"{self.says}; each token against the one of the position that shows the same pixels"
        return f"{self.says}; tokens of the same positions"


def _corner(picture: Pixels, size: tuple[int, int], start: int = 0) -> Pixels:
    return picture[start : start + size[0], start : start + size[1]]


def _noisy(picture: Pixels, size: tuple[int, int], random: np.random.Generator) -> Pixels:
    noise = random.normal(0, 1, (*size, 3))
    return np.clip(np.rint(_corner(picture, size) + noise), 0, 255).astype(np.uint8)


def _as_jpeg(picture: Pixels, size: tuple[int, int], _: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(_corner(picture, size)).save(buffer, "JPEG", quality=_QUALITY)
    return read_image(buffer)


def _smaller(picture: Pixels, size: tuple[int, int], _: np.random.Generator) -> Pixels:
    return resize(picture, *size, box=(0, 0, size[0] / _SCALE, size[1] / _SCALE))


def _moved(by: int) -> _Kind:
    says = f"everything moved up and left by {by} pixel{'s' if by > 1 else ''}"
    return _Kind(f"shift_{by}", says, lambda picture, size, _: _corner(picture, size, by), shift=by)


_KINDS = (
    _Kind("none", "the same pixels encoded again, a control", lambda picture, size, _: _corner(picture, size)),
    _Kind("noise", "Gaussian noise, standard deviation one 8-bit step, rounded", _noisy),
    _Kind(f"jpeg_{_QUALITY}", f"saved as a JPEG of quality {_QUALITY}, 4:2:0", _as_jpeg),
    _moved(1),
    _moved(_FURTHEST),
    _Kind(f"resize_{_SCALE}", f"resized to {_SCALE} of its sides, bicubic", _smaller, scale=_SCALE),
)


def measure_stability(
    model: Tokenizer, sources: Iterable[Source], options: EncodeOptions, *, seed: int = 0
) -> Stability:
    """Return how many tokens small changes of the pictures change, and how far the decoded pictures move apart.

    A picture is what the network sees of an image, without padding. What is compared is its upper left corner: the
    largest whose sides are multiples of the downsampling and that leaves room for the shifts and for the resizing,
    so that new pixels come from the image. What lies around a position at the edge of the corner changes with a shift
    all the same. Memory does not grow with the number of images; equal seeds give equal results.

    Args:
        model: the tokenizer.
        sources: the images.
        options: how they are fitted; the tokens are made in float32.
        seed: of the noise.

    Raises:
        InputError: no image can be read and is large enough.
        DeviceError: out of memory.
    """
    tallies = [_Tally(np.zeros(len(model.codebook_sizes), np.int64)) for _ in _KINDS]
    images = skipped = 0
    with contextlib.closing(_pictures(model.downsample, sources, options)) as pictures:
        for number, picture in enumerate(pictures):
            size = None if picture is None else _size(picture, model.downsample)
            if picture is None or size is None:
                skipped += 1
                continue
            random = np.random.default_rng((seed, number))
            _compare(model, [kind.make(picture, size, random) for kind in (_KINDS[0], *_KINDS)], options, tallies)
            images += 1
    if not images:
        least = _least(model.downsample)
        raise InputError(f"none of {skipped} images can be compared with itself: pass some of {least}x{least} or more")
    changes = (tally.change(kind, model.downsample) for tally, kind in zip(tallies, _KINDS, strict=True))
    return Stability(images, tuple(changes), skipped)


@dataclass
class _Tally:
    """What one change did so far; `different` is (C,)."""

    different: NDArray[np.int64]
    positions: int = 0
    exact: int = 0
    decibels: float = 0.0
    images: int = 0

    def add(self, first: NDArray[Any], second: NDArray[Any], decibels: float) -> None:
        """Count an image: its (h, w, C) tokens before and after, the PSNR of what they decode to."""
        self.different += (first != second).sum((0, 1))
        self.positions += first.shape[0] * first.shape[1]
        self.images += 1
        if math.isinf(decibels):
            self.exact += 1
        else:
            self.decibels += decibels

    def change(self, kind: _Kind, downsample: int) -> TokenChange:
        """Return the figures."""
        shares, differ = self.different / self.positions, self.images - self.exact
        return TokenChange(
            kind.name,
            kind.definition(downsample),
            changed=float(shares.mean()),
            psnr=self.decibels / differ if differ else None,
            exact=self.exact,
            slots=tuple(shares.tolist()),
        )


def _pictures(multiple: int, sources: Iterable[Source], options: EncodeOptions) -> Generator[Pixels | None]:
    """Yield what the network sees of each image, or None where it cannot be read."""
    from tokenizer.codec import PIXELS_AHEAD, PixelBudget, Unreadable, read_ahead

    budget = PixelBudget(PIXELS_AHEAD)
    with contextlib.closing(read_ahead(sources, multiple, options, budget)) as readings:
        for fitted in readings:
            if isinstance(fitted, Unreadable):
                yield None
            else:
                yield fitted.placement.content_of(fitted.canvas)
                budget.give(fitted.pixels)


def _size(picture: Pixels, downsample: int) -> tuple[int, int] | None:
    """Return (height, width) of the corner to compare, or None where a shift would move all of it out of sight."""
    height, width = (int(min(side - _FURTHEST, _SCALE * side)) // downsample * downsample for side in picture.shape[:2])
    return (height, width) if min(height, width) > _FURTHEST else None


def _least(downsample: int) -> int:
    """Return the least side of a picture that has a corner to compare."""
    corner = (_FURTHEST // downsample + 1) * downsample
    return max(corner + _FURTHEST, math.ceil(corner / _SCALE))


def _compare(model: Tokenizer, pictures: Sequence[Pixels], options: EncodeOptions, tallies: Sequence[_Tally]) -> None:
    """Compare the first of (H, W, 3) pictures with each of the others, one for each kind."""
    from tokenizer import codec

    exactly = replace(options, image_size=None, resize_mode="none", workers=1, precision="float32", compile=False)
    sources = [Source(str(number), picture.copy) for number, picture in enumerate(pictures)]
    results = codec.encode_images(model, sources, exactly)
    rows = [(result.record, result.grid) for result in results if isinstance(result, codec.Encoded)]
    decoded = [canvas for _, canvas in codec.decode_tokens(model, rows)]
    for kind, tally, (_, grid), canvas in zip(_KINDS, tallies, rows[1:], decoded[1:], strict=True):
        before, after = _same_places(kind, rows[0][1], grid, model.downsample)
        tally.add(before, after, psnr(*_same_content(kind, decoded[0], canvas)))


def _same_places(
    kind: _Kind, first: NDArray[Any], second: NDArray[Any], downsample: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the tokens that belong together, of two (h, w, C) grids."""
    height, width = first.shape[:2]
    rows, columns = (((np.arange(side) + 0.5) * kind.scale).astype(int) for side in (height, width))
    steps = kind.shift // downsample if kind.shift % downsample == 0 else 0
    return first[steps:, steps:], second[np.ix_(rows, columns)][: height - steps, : width - steps]


def _same_content(kind: _Kind, first: Pixels, second: Pixels) -> tuple[Pixels, Pixels]:
    """Return the parts of two pictures that show the same, the change of the second undone."""
    height, width = first.shape[:2]
    undone = resize(second, height, width, box=(0, 0, height * kind.scale, width * kind.scale))
    return first[kind.shift :, kind.shift :], undone[: height - kind.shift, : width - kind.shift]
