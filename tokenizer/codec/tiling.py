"""Images too large for the network at once, in tiles that overlap by as much as the network sees.

Why tiles give what the whole image gives. The network has no operation over all positions: its 3x3 kernels, padded
with zeros, each reach one position of their stage further, and its other kernels gather or spread positions without
overlap. So a latent depends on its own f x f pixels and `Encoder.receptive_field` pixels around them, and nothing
else. Where a tile ends inside the image, zeros stand in place of pixels that are there; what that changes lies within
the receptive field of the tile's edge. Each tile is therefore cut wider than the part that is kept of it, by the
receptive field rounded up to positions; where it ends with the image, the zeros are the image's own and nothing is
added. As corners lie on multiples of the downsampling, the same pixels gather in each position. The quantizer sees
positions one by one. The same holds backwards for the decoder. One position less would change latents
(`tests/codec/test_tiling.py`).

So the sums are the same; that they are rounded alike is up to the kernels. On a CPU they are, see `network`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tokenizer.models import Decoder, Encoder, Tokenizer

# A constant, so that all machines cut an image alike.
TILE_PIXELS = 2**22

Region = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """One tile: the `core` is kept of what the network makes of the `outer` region; slices of rows and columns."""

    outer: Region
    core: Region

    @property
    def positions(self) -> int:
        """Of the core."""
        rows, columns = self.core
        return (rows.stop - rows.start) * (columns.stop - columns.start)

    @property
    def kept(self) -> Region:
        """The core, counted from the corner of the outer region."""
        rows, columns = (
            slice(core.start - outer.start, core.stop - outer.start)
            for core, outer in zip(self.core, self.outer, strict=True)
        )
        return rows, columns


def scaled(region: Region, factor: int) -> Region:
    """Return a region of positions in pixels, `factor` to a position along each side."""
    rows, columns = (slice(side.start * factor, side.stop * factor) for side in region)
    return rows, columns


def tiles(grid: tuple[int, int], overlap: int, area: int) -> list[Tile]:
    """Return tiles whose cores cover a grid.

    Args:
        grid: (height, width) in positions.
        overlap: positions that a tile sees beyond its core, to each side.
        area: positions of a tile, at most, where that leaves a core at least as wide as the overlap.
    """
    height, width = grid
    side = int(area**0.5)
    tall = min(height, side)
    wide = min(width, area // tall)
    tall = min(height, area // wide)
    return [
        Tile((outer_rows, outer_columns), (rows, columns))
        for (outer_rows, rows), (outer_columns, columns) in itertools.product(
            _cuts(height, tall, overlap), _cuts(width, wide, overlap)
        )
    ]


def _cuts(length: int, longest: int, overlap: int) -> list[tuple[slice, slice]]:
    """Return the outer and core slices of one side."""
    if length <= longest:
        return [(slice(0, length), slice(0, length))]
    count = -(-length // max(1, overlap, longest - 2 * overlap))
    ends = [number * length // count for number in range(count + 1)]
    return [
        (slice(max(0, start - overlap), min(length, end + overlap)), slice(start, end))
        for start, end in itertools.pairwise(ends)
    ]


def image_tiles(model: Tokenizer, grid: tuple[int, int]) -> list[Tile]:
    """Return the tiles, in positions, that an image of a grid is encoded in; one where it need not be cut.

    An encoder from elsewhere has a receptive field that nobody knows, and its images are never cut.
    """
    receptive_field = model.encoder.receptive_field if type(model.encoder) is Encoder else None
    return _tiles(model, grid, None if receptive_field is None else -(-receptive_field // model.downsample))


def grid_tiles(model: Tokenizer, grid: tuple[int, int]) -> list[Tile]:
    """Return the tiles, in positions, that a grid is decoded in, as `image_tiles`."""
    receptive_field = model.decoder.receptive_field if type(model.decoder) is Decoder else None
    return _tiles(model, grid, None if receptive_field is None else -(-receptive_field // model.quantizer.block))


def _tiles(model: Tokenizer, grid: tuple[int, int], overlap: int | None) -> list[Tile]:
    area = TILE_PIXELS // model.downsample**2
    if overlap is None or grid[0] * grid[1] <= area:
        whole = slice(0, grid[0]), slice(0, grid[1])
        return [Tile(whole, whole)]
    return tiles(grid, overlap, max(1, area))
