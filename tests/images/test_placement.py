"""How images are fitted to the grid, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import draw
from tokenizer.images import Placement, placement_of
from tokenizer.images.placement import RESIZE_MODES

sides = st.integers(1, 70)
multiples = st.sampled_from([4, 8, 16, 32])


def numbered(height: int, width: int) -> np.ndarray:
    """A picture whose pixels all differ."""
    number = np.arange(height * width).reshape(height, width)
    return np.stack([number % 256, number // 256, number % 7], axis=-1).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.sampled_from(RESIZE_MODES), st.integers(1, 70), multiples)
def test_every_placement(height: int, width: int, mode: str, size: int, multiple: int) -> None:
    placement = placement_of((height, width), mode, size, multiple)
    canvas = placement.apply(numbered(height, width))
    assert canvas.shape == (*placement.canvas, 3)
    assert canvas.dtype == np.uint8
    for axis in (0, 1):
        assert placement.canvas[axis] % multiple == 0
        assert placement.offset[axis] >= 0
        assert placement.content[axis] >= 1
        assert placement.offset[axis] + placement.content[axis] <= placement.canvas[axis]
        assert placement.box[axis] >= 0
        assert placement.box[axis] + placement.box[axis + 2] <= placement.original[axis]
        wanted = placement.original[axis] if mode == "none" else size
        assert placement.canvas[axis] - wanted in range(multiple)
    restored = placement.restore(canvas)
    assert restored.shape == (((size, size) if mode == "crop" else (height, width)) + (3,))


@settings(max_examples=60, deadline=None)
@given(sides, sides, multiples)
def test_none_gives_back_the_very_pixels(height: int, width: int, multiple: int) -> None:
    pixels = numbered(height, width)
    placement = placement_of((height, width), "none", None, multiple)
    canvas = placement.apply(pixels)
    np.testing.assert_array_equal(placement.restore(canvas), pixels)
    np.testing.assert_array_equal(placement.content_of(canvas), pixels)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.sampled_from(["pad", "squash"]), st.integers(1, 70), multiples)
def test_one_color_stays_one_color(height: int, width: int, mode: str, size: int, multiple: int) -> None:
    placement = placement_of((height, width), mode, size, multiple)
    canvas = placement.apply(np.full((height, width, 3), 91, np.uint8))
    assert (canvas == 91).all()
    assert (placement.restore(canvas) == 91).all()


def test_none_repeats_the_last_row_and_column() -> None:
    pixels = numbered(5, 3)
    placement = placement_of((5, 3), "none", None, 4)
    assert placement == Placement("none", (5, 3), (0, 0, 5, 3), (5, 3), (0, 0), (8, 4))
    canvas = placement.apply(pixels)
    rows, columns = [0, 1, 2, 3, 4, 4, 4, 4], [0, 1, 2, 2]
    np.testing.assert_array_equal(canvas, pixels[rows][:, columns])


def test_crop_takes_the_center_square() -> None:
    pixels = numbered(40, 61)
    placement = placement_of((40, 61), "crop", 40, 8)
    assert placement == Placement("crop", (40, 61), (0, 10, 40, 40), (40, 40), (0, 0), (40, 40))
    np.testing.assert_array_equal(placement.apply(pixels), pixels[:, 10:50])
    np.testing.assert_array_equal(placement.restore(placement.apply(pixels)), pixels[:, 10:50])


def test_crop_of_a_tall_image_is_resized() -> None:
    pixels = draw(90, 60)
    placement = placement_of((90, 60), "crop", 16, 8)
    assert placement.box == (15, 0, 60, 60)
    cut = Image.fromarray(pixels[15:75])
    np.testing.assert_array_equal(placement.apply(pixels), np.asarray(cut.resize((16, 16), Image.Resampling.BICUBIC)))


def test_pad_centers_the_whole_image() -> None:
    pixels = draw(20, 40)
    placement = placement_of((20, 40), "pad", 32, 16)
    assert placement == Placement("pad", (20, 40), (0, 0, 20, 40), (16, 32), (8, 0), (32, 32))
    shrunk = np.asarray(Image.fromarray(pixels).resize((32, 16), Image.Resampling.BICUBIC))
    rows = [0] * 8 + list(range(16)) + [15] * 8
    np.testing.assert_array_equal(placement.apply(pixels), shrunk[rows])
    np.testing.assert_array_equal(placement.content_of(placement.apply(pixels)), shrunk)
    assert placement.restore(placement.apply(pixels)).shape == (20, 40, 3)


def test_pad_with_an_odd_margin_and_a_rounded_canvas() -> None:
    placement = placement_of((30, 10), "pad", 30, 16)
    assert (placement.content, placement.offset, placement.canvas) == ((30, 10), (0, 10), (32, 32))
    placement = placement_of((10, 30), "pad", 15, 4)
    assert (placement.content, placement.offset, placement.canvas) == ((5, 15), (5, 0), (16, 16))


def test_pad_keeps_a_line_visible() -> None:
    assert placement_of((1, 5000), "pad", 64, 16).content == (1, 64)


def test_squash_stretches_both_sides() -> None:
    pixels = draw(20, 50)
    placement = placement_of((20, 50), "squash", 32, 16)
    assert placement == Placement("squash", (20, 50), (0, 0, 20, 50), (32, 32), (0, 0), (32, 32))
    stretched = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(placement.apply(pixels), np.asarray(stretched))
    assert placement.restore(placement.apply(pixels)).shape == (20, 50, 3)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_an_image_of_one_pixel(mode: str) -> None:
    pixel = np.array([[[1, 2, 3]]], np.uint8)
    placement = placement_of((1, 1), mode, 16, 16)
    canvas = placement.apply(pixel)
    assert canvas.shape == (16, 16, 3)
    assert np.unique(canvas.reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]
    assert np.unique(placement.restore(canvas).reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_a_size_that_is_no_multiple_is_rounded_up(mode: str) -> None:
    placement = placement_of((100, 100), mode, 50, 16)
    assert (placement.content, placement.offset, placement.canvas) == ((50, 50), (0, 0), (64, 64))
