"""Small pictures on one large one."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.report.atlas import draw_atlas

GROUND, EMPTY, CROSS = (38, 38, 38), (64, 64, 64), (255, 0, 200)


def cells_of(colors: list[int], side: int) -> np.ndarray:
    return np.array(colors, np.uint8)[:, None, None, None].repeat(side, 1).repeat(side, 2).repeat(3, 3)


def test_four_cells_in_each_panel() -> None:
    """Cells of 8 pixels are enlarged 16 times and lie below the title, 10 pixels from the side."""
    cells = cells_of([10, 110, 160, 210], 8)
    none = np.zeros(4, bool)
    empty, crossed = none.copy(), none.copy()
    empty[1], crossed[2] = True, True
    picture = draw_atlas((("first", cells, none), ("second", cells, empty)), crossed)
    assert picture.shape == (26 + 2 * 129 + 10, 2 * (10 + 2 * 129 + 10), 3)
    left, right = picture[26:-10, 10:268], picture[26:-10, 288:546]
    assert (left[:128, :128] == 10).all()
    assert (left[:128, 129:257] == 110).all()
    assert (left[129:257, 129:257] == 210).all()
    assert (left[128] == GROUND).all()
    assert (right[:128, 129:257] == EMPTY).all()
    for panel in (left, right):
        cell = panel[129:257, :128]
        assert (cell[np.arange(128), np.arange(128)] == CROSS).all()
        assert (cell[np.arange(128), np.arange(127, -1, -1)] == CROSS).all()
        assert (cell[64, 20] == 160).all()
    assert (picture[:26, :100] > GROUND).any()


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_cells_of_every_number_fit(count: int) -> None:
    cells, none = cells_of([255] * count, 4), np.zeros(count, bool)
    picture = draw_atlas([("a title that is longer than one small cell is wide", cells, none)] * 4, none)
    shown = (picture == 255).all(-1).sum() / 4
    scale = round((shown / count) ** 0.5 / 4)
    assert shown == count * (4 * scale) ** 2
    assert scale == {1: 16, 2: 16, 3: 16, 1000: 4}[count]


def test_many_cells_are_not_enlarged() -> None:
    none = np.zeros(4900, bool)
    assert draw_atlas([("", cells_of([0] * 4900, 16), none)], none).shape == (26 + 70 * 17 + 10, 20 + 70 * 17, 3)
