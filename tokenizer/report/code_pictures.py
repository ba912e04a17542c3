"""Pictures of codes: what each decodes to, and which patches of the originals chose it."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.errors import InputError, UsageError
from tokenizer.images import Pixels, Source
from tokenizer.metrics import add_counts
from tokenizer.report.atlas import draw_atlas
from tokenizer.report.originals import original_canvas
from tokenizer.report.similarity import similar_order
from tokenizer.tokens import ImageRecord

if TYPE_CHECKING:
    from tokenizer.models import Tokenizer

Row = tuple[ImageRecord, NDArray[Any]]

EXAMPLES = 3
# Positions along each side of the grid around a code that is decoded alone.
_AROUND = 9
# Bytes that patches may take.
_MEMORY = 2**28
_PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True)
class CodePictures:
    """Codes of one slot, ordered so that neighbors in the grid of `layout.grid_shape` are alike; f pixels a position.

    Attributes:
        codes: (n,) the codes.
        counts: (n,) how often each was chosen.
        alone: (n, f, f, 3) each decoded amid itself, with the most used code in every other slot.
        means: (n, f, f, 3) mean of the patches of originals that chose it; 0 where none was seen.
        originals: (n, 3, f, f, 3) a random sample of these patches.
        decoded: (n, 3, f, f, 3) what the tokens of the picture decode to at the same places.
        examples: (n,) how many of the 3 there are.
    """

    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    alone: Pixels
    means: Pixels
    originals: Pixels
    decoded: Pixels
    examples: NDArray[np.int64]

    def picture(self) -> Pixels:
        """Return one (H, W, 3) picture: alone, in context, and the originals; codes never chosen are crossed out."""
        without = self.examples == 0
        dead = self.counts == 0
        return draw_atlas(
            (
                ("decoded alone", self.alone, np.zeros_like(dead)),
                ("mean of the patches that chose it", self.means, without),
                ("decoded in a picture", self.decoded[:, 0], without),
                ("the original there", self.originals[:, 0], without),
            ),
            dead,
        )

    def to_png(self) -> bytes:
        """Return `picture` as PNG."""
        stream = io.BytesIO()
        Image.fromarray(self.picture()).save(stream, "PNG", optimize=True)
        return stream.getvalue()


def codebook_picture(
    model: Tokenizer,
    rows: Iterable[Row],
    originals: Mapping[str, Source],
    *,
    slot: int = 0,
    most: int = 1024,
    alpha: tuple[int, int, int] = (255, 255, 255),
    seed: int = 0,
) -> CodePictures:
    """Return what the codes of one slot decode to, and what of the originals chose them.

    Memory does not grow with the number of images: patches are kept of as many different codes as fit into 256 MiB,
    those that are met first.

    Args:
        model: the tokenizer.
        rows: record and (h, w, C) tokens of each image, all in range.
        originals: the images by name; tokens of others are counted alone.
        slot: which of the C codes of a position.
        most: how many codes; where there are more, the most used.
        alpha: (red, green, blue) under transparent pixels of originals.
        seed: of the sample of patches, and of the order.

    Raises:
        UsageError: there is no such slot.
        InputError: an original cannot be read, has another size, or its tokens do not say how it was fitted.
    """
    sizes = model.codebook_sizes
    if not 0 <= slot < len(sizes):
        raise UsageError(f"there is no code slot {slot}: pass 0 to {len(sizes) - 1}")
    counts = [np.zeros(size, np.int64) for size in sizes]
    patches = _Patches(model.downsample, sizes[slot], seed)
    for record, grid, canvas in _decoded(model, _counted(rows, counts), originals):
        if record.placement is None:
            raise InputError(f"the tokens of {record.name} do not say how the image was fitted: encode it with vqtok")
        original = original_canvas(record.name, originals[record.name].file, record.placement, alpha)
        patches.add(grid[..., slot], original, canvas)
    chosen = np.argsort(-counts[slot], kind="stable")[:most]
    alone = _alone(model, chosen, slot, [int(count.argmax()) for count in counts])
    order = similar_order(_features(alone), seed=seed)
    chosen = chosen[order]
    return CodePictures(chosen, counts[slot][chosen], alone[order], *patches.of(chosen))


def _counted(rows: Iterable[Row], counts: list[NDArray[np.int64]]) -> Generator[Row]:
    for record, grid in rows:
        add_counts(counts, grid)
        yield record, grid


def _decoded(
    model: Tokenizer, rows: Iterable[Row], originals: Mapping[str, Source]
) -> Generator[tuple[ImageRecord, NDArray[Any], Pixels]]:
    """Yield record, tokens and decoded canvas of each image that has an original."""
    from tokenizer import codec

    ahead: deque[NDArray[Any]] = deque()

    def kept() -> Generator[Row]:
        for record, grid in rows:
            if record.name in originals:
                ahead.append(grid)
                yield record, grid

    for record, canvas in codec.decode_tokens(model, kept()):
        yield record, ahead.popleft(), canvas


def _alone(model: Tokenizer, codes: NDArray[np.int64], slot: int, others: list[int]) -> Pixels:
    """Return the (n, f, f, 3) centers of grids filled with one code each."""
    from tokenizer import codec

    def rows() -> Generator[Row]:
        for code in codes:
            grid = np.tile(np.array(others), (_AROUND, _AROUND, 1))
            grid[..., slot] = code
            yield ImageRecord(str(code), (_AROUND, _AROUND)), grid

    f = model.downsample
    center = slice(_AROUND // 2 * f, (_AROUND // 2 + 1) * f)
    return np.stack([canvas[center, center] for _, canvas in codec.decode_tokens(model, rows())])


def _features(patches: Pixels) -> NDArray[np.float64]:
    """Return (n, D) vectors whose distances are about how different (n, f, f, 3) patches look: CIELAB."""
    from skimage.color import rgb2lab

    colors: NDArray[np.float64] = rgb2lab(patches)
    return colors.reshape(len(patches), -1)


class _Patches:
    """Patches of the codes met so far: their sum, and a uniform sample without replacement.

    Each patch draws a number, and the patches with the largest make the sample.
    """

    def __init__(self, side: int, codes: int, seed: int) -> None:
        room = min(codes, max(1, _MEMORY // (side * side * 3 * (8 + 2 * EXAMPLES))))
        self._random = np.random.default_rng(seed)
        self._side, self._room, self._held = side, room, 0
        self._place = np.full(codes, -1)
        self._seen = np.zeros(room, np.int64)
        self._sums = np.zeros((room, side, side, 3))
        self._drawn = np.full((room, EXAMPLES), -1.0)
        self._pairs = np.zeros((2, room, EXAMPLES, side, side, 3), np.uint8)

    def add(self, codes: NDArray[Any], original: Pixels, decoded: Pixels) -> None:
        """Take the patches of one image: (h, w) codes, and two (h f, w f, 3) canvases."""
        pairs = np.stack([_cut(original, self._side), _cut(decoded, self._side)])
        places = self._places(codes.ravel().astype(np.int64))
        step = max(1, _PIXELS_AT_ONCE // self._side**2)
        for start in range(0, len(places), step):
            block = places[start : start + step]
            known = np.flatnonzero(block >= 0)
            self._add(block[known], pairs[:, start + known])

    def _places(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the patches of each code are kept; -1 is nowhere."""
        met = np.unique(codes)
        new = met[self._place[met] < 0][: self._room - self._held]
        self._place[new] = self._held + np.arange(len(new))
        self._held += len(new)
        return self._place[codes]

    def _add(self, places: NDArray[np.int64], pairs: Pixels) -> None:
        if not len(places):
            return
        order = np.argsort(places, kind="stable")
        found, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
        self._seen[found] += counts
        self._sums[found] += np.add.reduceat(pairs[0][order], starts, dtype=np.float64)
        drawn = self._random.random(len(places))
        for index in np.flatnonzero(drawn > self._drawn[places].min(axis=1)):
            place = places[index]
            last = self._drawn[place].argmin()
            if drawn[index] > self._drawn[place, last]:
                self._drawn[place, last] = drawn[index]
                self._pairs[:, place, last] = pairs[:, index]

    def of(self, codes: NDArray[np.int64]) -> tuple[Pixels, Pixels, Pixels, NDArray[np.int64]]:
        """Return means, originals, decoded and the number of examples of (n,) codes, see `CodePictures`."""
        places = self._place[codes]
        known = places >= 0
        seen_here = np.where(known, self._seen[places], 0)
        means = self._sums[places] / np.maximum(1, seen_here)[:, None, None, None]
        order = np.argsort(-self._drawn[places], axis=1)
        first, second = (kept[places[:, None], order] * known[:, None, None, None, None] for kept in self._pairs)
        rounded = (np.rint(means) * known[:, None, None, None]).astype(np.uint8)
        return rounded, first, second, np.minimum(seen_here, EXAMPLES)


def _cut(canvas: Pixels, side: int) -> Pixels:
    """Return the (n, side, side, 3) patches of a canvas, row by row."""
    height, width = canvas.shape[0] // side, canvas.shape[1] // side
    return canvas.reshape(height, side, width, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
