"""The scales at which crops are drawn, and what the images' sizes say of them."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizer.config import TrainConfig
from tokenizer.errors import ImageError
from tokenizer.images import Source, probe_image
from tokenizer.train.crops import CACHE_BYTES

_PROBED = 200
_UNKNOWN = 128
_PIXELS_PER_CROP = 2**18
_MOST_PER_READ = 16
_ALMOST_ALL = 0.9


@dataclass(frozen=True)
class DataSides:
    """Sizes of a sample of images, as their headers name them.

    Attributes:
        shorter: the shorter sides in pixels, from short to long; empty where none can be read.
        pixels: mean number of pixels.
    """

    shorter: tuple[int, ...]
    pixels: float

    @property
    def median(self) -> int:
        """The median of the shorter sides."""
        return statistics.median_low(self.shorter) if self.shorter else _UNKNOWN

    def share_below(self, side: int) -> float:
        """Return the share of images whose shorter side is below `side`."""
        return sum(shorter < side for shorter in self.shorter) / max(1, len(self.shorter))


def probe_sides(sources: Sequence[Source]) -> DataSides:
    """Return the sizes of a sample of images; those that cannot be read are reported when they are."""
    sizes = []
    for source in sources[:: max(1, len(sources) // _PROBED)]:
        with contextlib.suppress(ImageError):
            sizes.append(probe_image(source.file))
    pixels = statistics.fmean(height * width for height, width in sizes) if sizes else _UNKNOWN**2
    return DataSides(tuple(sorted(map(min, sizes))), pixels)


def crops_per_read(config: TrainConfig, sides: DataSides, images: int) -> int:
    """Return how many crops an image gives each time it is read: one for each 2^18 pixels to decode, 16 at most.

    One where all images fit into memory, or where all crops are much smaller than their images.
    """
    if config.smallest_crop and not config.native_crops:
        return 1
    shrunk = min(1.0, (config.encode_size or sides.median) / sides.median)
    if 3 * sides.pixels * shrunk**2 * images <= CACHE_BYTES:
        return 1
    decoded = sides.pixels * max(1 / 4, shrunk)  # JPEG is decoded at a fraction of its size, which spares most of it
    return min(_MOST_PER_READ, max(1, round(decoded / _PIXELS_PER_CROP)))


def describe_scales(config: TrainConfig, sides: DataSides) -> str:
    """Return one line that says at which scales the crops of a planned run are drawn."""
    size = config.image_size or 1
    side = config.encode_size or sides.median
    own = "the images' own scale" if config.encode_size is None else f"the scale of encode --image-size {side}"
    largest = max(1.0, side / size)
    drawn = ((config.native_crops, f"at {own}"), (1 - config.native_crops, f"shrunk by up to {largest:.1f}"))
    shares = ", ".join(f"{100 * share:.0f} % {what}" for share, what in drawn if share)
    more = f"; {config.crops_per_read} each time an image is read" if (config.crops_per_read or 1) > 1 else ""
    return f"crops of {size} px: {shares}{more}"


def scale_notes(config: TrainConfig, sides: DataSides) -> list[str]:
    """Return a line where almost all images are smaller than a crop, and crops at their own scale do not exist."""
    size = config.image_size or 1
    share = sides.share_below(size)
    if config.encode_size is not None or not config.native_crops or share < _ALMOST_ALL:
        return []
    why = "none of their crops are at the scale at which they will be encoded, all are enlarged"
    small = f"{100 * share:.0f} % of the images have a shorter side below {size} pixels: {why}"
    return [f"{small}; pass --image-size {sides.median} or less"]
