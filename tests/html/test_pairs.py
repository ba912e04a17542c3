"""Two pictures under a slider."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests.conftest import draw
from tokenizer.html import make_pair
from tokenizer.html.pairs import MOST_SHOWN, center_crop, encode_webp


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert("RGB"))


def test_small_pictures_keep_every_pixel() -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    views = make_pair("a-1", "a.png", "12.00 dB", left, right)
    assert np.array_equal(opened(views.left), left)
    assert np.array_equal(opened(views.right), right)
    assert (views.width, views.height, views.small) == (40, 24, True)


def test_large_pictures_are_cut_and_small_in_bytes() -> None:
    picture = draw(1000, 1500)
    views = make_pair("a-1", "a.png", "", picture, picture)
    assert (views.width, views.height, views.small) == (MOST_SHOWN, MOST_SHOWN, False)
    assert np.array_equal(center_crop(picture), picture[116 : 116 + MOST_SHOWN, 366 : 366 + MOST_SHOWN])
    error = np.abs(opened(views.left).astype(int) - center_crop(picture)).mean()
    assert error < 2
    assert len(views.left) < MOST_SHOWN * MOST_SHOWN * 3 / 20


def test_a_side_that_is_short_stays() -> None:
    assert center_crop(draw(10, 1000)).shape == (10, MOST_SHOWN, 3)
    assert opened(encode_webp(draw(1, 1))).shape == (1, 1, 3)
