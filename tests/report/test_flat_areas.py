"""Figures of flat areas, on drawn pictures whose answers are worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.conftest import draw
from tokenizer.report import FlatAreas, block_deviations, flat_blocks, measure_flat_areas

GRAY = (128, 128, 128)


def plain(height: int, width: int, color: tuple[int, int, int] = GRAY) -> np.ndarray:
    return np.tile(np.array(color, np.uint8), (height, width, 1))


def checkered(amplitude: int, channels: slice = slice(None)) -> np.ndarray:
    """One 8x8 block, half of it `amplitude` above 128 and half below: its deviation is `amplitude`."""
    block = plain(8, 8).astype(int)
    block[:4, :, channels] += amplitude
    block[4:, :, channels] -= amplitude
    return block.astype(np.uint8)


class TestBlocks:
    def test_the_threshold_is_in(self) -> None:
        assert flat_blocks(checkered(4)).tolist() == [[True]]
        assert flat_blocks(checkered(5)).tolist() == [[False]]
        np.testing.assert_array_equal(block_deviations(checkered(5)), np.full((1, 1, 3), 5.0))

    def test_one_lively_channel_is_enough(self) -> None:
        assert flat_blocks(checkered(60, slice(2, 3))).tolist() == [[False]]

    def test_blocks_count_from_the_corner_and_rests_are_left_out(self) -> None:
        picture = plain(17, 31)
        picture[8, 8] = 255  # in the second block of the second row
        picture[16:], picture[:, 24:] = draw(1, 31), draw(17, 7)
        assert flat_blocks(picture).tolist() == [[True, True, True], [True, False, True]]

    def test_against_numpy(self) -> None:
        picture = draw(16, 24)
        expected = picture[8:, 16:].astype(float).std(axis=(0, 1))
        np.testing.assert_allclose(block_deviations(picture)[1, 2], expected, rtol=1e-12)


class TestPsnr:
    def test_over_flat_blocks_alone(self) -> None:
        original = np.hstack([plain(8, 8), checkered(90)])
        made = original.copy()
        made[:, :8] += 2
        made[:, 8:] -= 30
        areas = measure_flat_areas(original, made, 8)
        assert areas.psnr == pytest.approx(10 * math.log10(65025 / 4))  # two levels wherever it is flat
        assert areas.share == 0.5

    def test_of_a_set_counts_blocks_not_pictures(self) -> None:
        one = measure_flat_areas(plain(8, 8), plain(8, 8, (138, 138, 138)), 8)
        three = measure_flat_areas(plain(8, 24), plain(8, 24), 8)
        assert three.psnr is None
        assert (one + three).psnr == pytest.approx(10 * math.log10(65025 / 25))  # 100 in a quarter of the blocks
        assert (one + three).share == 1

    def test_block_means_have_at_least_36_decibels(self) -> None:
        decibels = measure_flat_areas(checkered(4), plain(8, 8), 8).psnr
        assert decibels == pytest.approx(20 * math.log10(255 / 4))
        assert decibels is not None
        assert decibels > 36

    def test_without_flat_blocks(self) -> None:
        busy = draw(16, 16)
        assert measure_flat_areas(busy, 255 - busy, 8).figures() == {
            "flat_psnr": None,
            "flat_share": 0.0,
            "blocking": None,
            "patchwork": None,
        }
        assert measure_flat_areas(busy[:7], busy[:7], 8) == FlatAreas()
        assert FlatAreas().figures() == dict.fromkeys(("flat_psnr", "flat_share", "blocking", "patchwork"))


class TestBlocking:
    def test_a_plain_picture_has_no_grid(self) -> None:
        assert measure_flat_areas(plain(32, 32), plain(32, 32, (9, 200, 30)), 8).blocking == 1

    def test_a_gradient_given_back_has_none(self) -> None:
        ramp = np.tile(np.arange(32, dtype=np.uint8)[:, None], (1, 32))
        original = np.stack([ramp, 100 + ramp, 200 - ramp], axis=-1)
        assert measure_flat_areas(original, original, 8).blocking == pytest.approx(1)

    def test_patches_over_a_plain_picture(self) -> None:
        """Columns of 8 pixels, 128 and 131 in turn: 3 lines of 16 steps of 3 levels, none elsewhere."""
        made = plain(16, 32)
        made[:, 8:16] += 3
        made[:, 24:] += 3
        # Pairs across lines: 3 * 16 to the side, 1 * 32 down the rows.
        lines = 9 * 48 / 80
        assert measure_flat_areas(plain(16, 32), made, 8).blocking == pytest.approx((lines + 1 / 6) / (1 / 6))

    def test_of_what_came_back_not_of_its_error(self) -> None:
        original = plain(16, 32)
        original[:, 8:16] += 3  # the grid of a JPEG file
        original[:, 24:] += 3
        assert measure_flat_areas(original, plain(16, 32), 8).blocking == 1

    def test_steps_inside(self) -> None:
        made = plain(16, 32)
        made[:, 4:] += 3  # one line of 16 steps between the grid lines
        inner = 9 * 16 / (16 * 31 + 15 * 32 - 80)
        assert measure_flat_areas(plain(16, 32), made, 8).blocking == pytest.approx((1 / 6) / (inner + 1 / 6))

    def test_the_grid_is_that_of_the_canvas(self) -> None:
        """A picture 3 pixels from the top and 5 from the left: lines below row 5 and column 3, then every 8."""
        made = plain(24, 24)
        made[5:13] += 4
        made[:, 3:11] += 4
        padded = measure_flat_areas(plain(24, 24), made, 8, (3, 5))
        lines = 16 * 4 * 24 / (6 * 24)  # two of the lines each way have steps, of three each way
        assert (padded.line_pairs, padded.inner_pairs) == (6 * 24, 2 * 23 * 24 - 6 * 24)
        assert padded.blocking == pytest.approx((lines + 1 / 6) / (1 / 6))
        aligned = measure_flat_areas(plain(24, 24), made, 8)
        assert aligned.blocking is not None
        assert aligned.blocking < 1

    def test_wide_positions(self) -> None:
        made = plain(32, 32)
        made[:, 8:] += 3
        areas = measure_flat_areas(plain(32, 32), made, 16)
        assert areas.line_pairs == 2 * 32
        assert areas.blocking is not None
        assert areas.blocking < 1  # the step lies in the middle of a position

    def test_pairs_of_two_flat_blocks_only(self) -> None:
        original = np.hstack([plain(8, 8), checkered(50)])
        made = original.copy()
        made[:, 8:] = 0
        assert measure_flat_areas(original, made, 8).line_pairs == 0
        assert measure_flat_areas(original, made, 8).blocking is None


class TestPatchwork:
    def test_one_shift_of_all_is_none(self) -> None:
        areas = measure_flat_areas(plain(16, 16), plain(16, 16, (130, 120, 128)), 8)
        assert areas.patchwork == 0
        assert areas.psnr == pytest.approx(10 * math.log10(65025 * 3 / (4 + 64)))

    def test_patches(self) -> None:
        """Errors of 0 and 6 of the red channel beside each other: 36 in one of three channels, in one of two pairs."""
        original = plain(8, 24)
        made = original.copy()
        made[:, 16:, 0] += 6
        assert measure_flat_areas(original, made, 8).patchwork == pytest.approx(math.sqrt(36 / (3 * 2)))

    def test_a_gradient_does_not_count(self) -> None:
        ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
        assert measure_flat_areas(ramp, ramp + 7, 8).patchwork == 0

    def test_over_a_set(self) -> None:
        made = plain(8, 16)
        made[:, 8:] += 4
        patched = measure_flat_areas(plain(8, 16), made, 8)
        whole = measure_flat_areas(plain(8, 32), plain(8, 32), 8)
        assert (patched + whole).patchwork == pytest.approx(math.sqrt(16 / 4))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 40), (33, 17)])
def test_any_size(size: tuple[int, int]) -> None:
    areas = measure_flat_areas(draw(*size), draw(*size, seed=3), 4)
    assert areas.blocks == (size[0] // 8) * (size[1] // 8)
