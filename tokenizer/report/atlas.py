"""The picture of a codebook: panels of small pictures, one for each code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tokenizer.images import Pixels
from tokenizer.report.similarity import grid_shape

# Of a panel, about; panels of many cells are larger.
_SIDE = 560
_LARGEST_SCALE = 16
_TITLE = 26
_MARGIN = 10
_TEXT_SIZE = 14
_GROUND = (38, 38, 38)
_EMPTY = (64, 64, 64)
_TEXT = (230, 230, 230)
_CROSS = (255, 0, 200)

Panel = tuple[str, Pixels, NDArray[np.bool_]]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # the second where Pillow has no FreeType


def draw_atlas(panels: Sequence[Panel], crossed: NDArray[np.bool_]) -> Pixels:
    """Return an (H, W, 3) picture of panels, two side by side, each a grid of the same cells.

    Args:
        panels: title, (n, f, f, 3) cells, and (n,) which of them are left empty.
        crossed: (n,) which cells are crossed out in every panel.
    """
    font = ImageFont.load_default(_TEXT_SIZE)
    least = max(int(font.getlength(title)) for title, _, _ in panels)
    drawn = [_titled(title, _panel(cells, empty, crossed), font, least) for title, cells, empty in panels]
    rows = [np.concatenate(drawn[start : start + 2], axis=1) for start in range(0, len(drawn), 2)]
    return np.concatenate(rows)


def _panel(cells: Pixels, empty: NDArray[np.bool_], crossed: NDArray[np.bool_]) -> Pixels:
    """Return the cells in a grid, a dark line around each, enlarged by a whole number where they are few."""
    rows, columns = grid_shape(len(cells))
    scale = max(1, min(_LARGEST_SCALE, _SIDE // (columns * cells.shape[1])))
    large = cells.repeat(scale, axis=1).repeat(scale, axis=2)
    side = large.shape[1]
    large[empty] = _EMPTY
    rows_crossed, columns_crossed = np.nonzero(_cross(side))
    large[np.flatnonzero(crossed)[:, None], rows_crossed, columns_crossed] = _CROSS
    whole = np.full((rows * columns, side + 1, side + 1, 3), _GROUND, np.uint8)
    whole[: len(cells), :side, :side] = large
    return whole.reshape(rows, columns, side + 1, side + 1, 3).swapaxes(1, 2).reshape(rows * (side + 1), -1, 3)


def _cross(side: int) -> NDArray[np.bool_]:
    row, column = np.indices((side, side))
    thick = side // 24
    return (abs(row - column) <= thick) | (abs(row + column - side + 1) <= thick)


def _titled(title: str, panel: Pixels, font: Font, least: int) -> Pixels:
    """Return a panel with its title above it and a margin around, `least` pixels wide between the margins or more."""
    width = max(panel.shape[1], least) + 2 * _MARGIN
    image = Image.new("RGB", (width, panel.shape[0] + _TITLE + _MARGIN), _GROUND)
    image.paste(Image.fromarray(panel), (_MARGIN, _TITLE))
    ImageDraw.Draw(image).text((_MARGIN, 5), title, _TEXT, font)
    return np.asarray(image)
