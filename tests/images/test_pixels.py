"""Pixels: what is written of them comes back, and resizing sees what it should."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.conftest import draw
from tokenizer.errors import OutputError
from tokenizer.images import encode_image, read_image, resize


class TestWrite:
    @pytest.mark.parametrize("kind", ["png", "webp"])
    @pytest.mark.parametrize("size", [(1, 1), (13, 7), (64, 200)])
    def test_lossless_round_trip(self, kind: str, size: tuple[int, int]) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        np.testing.assert_array_equal(read_image(io.BytesIO(encode_image(noise, kind))), noise)

    def test_jpeg_is_close(self) -> None:
        data = encode_image(draw(64, 64), "jpg")
        assert data[:3] == b"\xff\xd8\xff"
        assert np.abs(read_image(io.BytesIO(data)).astype(int) - draw(64, 64)).mean() < 4

    def test_views_are_written_as_they_look(self) -> None:
        view = draw(20, 30)[::-1, 3:20:2]
        np.testing.assert_array_equal(read_image(io.BytesIO(encode_image(view, "png"))), view)

    @pytest.mark.parametrize(("kind", "width"), [("webp", 16384), ("jpg", 70000)])
    def test_too_large_for_the_format(self, kind: str, width: int) -> None:
        with pytest.raises(OutputError, match=f"{width}x1 pixels do not fit a {kind}: .* use png"):
            encode_image(np.zeros((1, width, 3), np.uint8), kind)


class TestResize:
    def test_a_box_of_the_same_size_is_a_cut(self) -> None:
        pixels = draw(20, 30)
        np.testing.assert_array_equal(resize(pixels, 5, 6, (2, 3, 5, 6)), pixels[2:7, 3:9])

    def test_a_box_sees_nothing_beyond_itself(self) -> None:
        pixels = np.full((40, 40, 3), 255, np.uint8)
        pixels[10:30, 5:35] = 77
        assert np.unique(resize(pixels, 7, 9, (10, 5, 20, 30))).tolist() == [77]

    def test_shrinking_averages(self) -> None:
        checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
        shrunk = resize(np.stack([checks] * 3, axis=-1), 8, 8)
        assert np.abs(shrunk.astype(float) - 127.5).max() < 2

    @pytest.mark.parametrize("size", [(1, 1), (3, 50), (97, 41)])
    def test_size(self, size: tuple[int, int]) -> None:
        assert resize(draw(20, 30), *size).shape == (*size, 3)
