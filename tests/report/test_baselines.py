"""JPEG and WebP at the bits of the tokens, against every quality setting tried in turn."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image

from tests.conftest import draw
from tokenizer.report import FlatAreas, measure_flat_areas
from tokenizer.report.baselines import BASELINE_FORMATS, BaselineScores, ImageFormat, encode_within_bits, mean_or_none

JPEG, WEBP = BASELINE_FORMATS


def photograph() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[20:116, 150:290])


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def pixels_of(file: bytes) -> np.ndarray:
    return np.asarray(opened(file).convert("RGB"))


class TestWithin:
    @pytest.mark.parametrize("kind", BASELINE_FORMATS, ids=["jpeg", "webp"])
    @pytest.mark.parametrize("bits_per_pixel", [0.8, 2.0])
    def test_against_every_setting(self, kind: ImageFormat, bits_per_pixel: float) -> None:
        pixels = photograph()
        bits = bits_per_pixel * 96 * 140
        sizes = {quality: 8 * len(kind.write(pixels, quality)) for quality in kind.qualities}
        best = max(quality for quality, size in sizes.items() if size <= bits)
        assert encode_within_bits(pixels, bits, kind) == kind.write(pixels, best)

    @pytest.mark.parametrize("kind", BASELINE_FORMATS, ids=["jpeg", "webp"])
    def test_the_ends(self, kind: ImageFormat) -> None:
        pixels = photograph()
        assert encode_within_bits(pixels, 0, kind) == kind.write(pixels, kind.qualities[0])
        assert encode_within_bits(pixels, 1e9, kind) == kind.write(pixels, kind.qualities[-1])

    def test_a_file_of_just_the_bits(self) -> None:
        pixels = photograph()
        file = JPEG.write(pixels, 40)
        assert len(encode_within_bits(pixels, 8 * len(file), JPEG)) == len(file)
        assert len(encode_within_bits(pixels, 8 * len(file) - 1, JPEG)) < len(file)

    def test_files_hold_no_metadata(self) -> None:
        jpeg, webp = (opened(encode_within_bits(photograph(), 20000, kind)) for kind in BASELINE_FORMATS)
        assert (jpeg.format, webp.format) == ("JPEG", "WEBP")
        assert set(jpeg.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert set(webp.info) <= {"loop", "background", "timestamp", "duration"}
        assert [layer[1:3] for layer in jpeg.layer] == [(2, 2), (1, 1), (1, 1)]


class TestContest:
    def test_by_hand(self) -> None:
        pictures = [photograph(), draw(40, 64), draw(9, 30)]
        for kind in BASELINE_FORMATS:
            scores = BaselineScores(kind)
            for pixels in pictures:
                scores.add(pixels, 12000)
            files = [encode_within_bits(pixels, 12000, kind) for pixels in pictures]
            baseline = scores.result()
            assert baseline is not None
            assert baseline.bits_per_pixel == 8 * sum(map(len, files)) / (96 * 140 + 40 * 64 + 9 * 30)
            decibels = [
                skimage.metrics.peak_signal_noise_ratio(pixels, pixels_of(file), data_range=255)
                for pixels, file in zip(pictures, files, strict=True)
            ]
            assert baseline.psnr == pytest.approx(np.mean(decibels), abs=1e-9)
            made = (pixels_of(file) for file in files)
            flat = sum((measure_flat_areas(*pair, 8) for pair in zip(pictures, made, strict=True)), FlatAreas())
            assert baseline.flat_psnr == flat.psnr
            assert baseline.ssim is not None
            assert (baseline.name, baseline.reached, baseline.larger, baseline.images) == (kind.name, True, 0, 3)

    def test_pictures_that_no_setting_makes_small_enough(self) -> None:
        scores = BaselineScores(JPEG)
        scores.add(photograph(), 100)
        scores.add(photograph(), 30000)
        baseline = scores.result()
        assert baseline is not None
        assert (baseline.reached, baseline.larger, baseline.images) == (False, 1, 2)

    def test_pictures_that_come_back_exactly(self) -> None:
        scores = BaselineScores(JPEG)
        scores.add(np.full((8, 8, 3), 128, np.uint8), 1e6)
        baseline = scores.result()
        assert baseline is not None
        assert (baseline.psnr, baseline.ssim) == (None, None)

    def test_pictures_that_are_too_long(self) -> None:
        scores = BaselineScores(WEBP)
        scores.add(np.zeros((1, 16384, 3), np.uint8), 1e6)
        assert scores.result() is None
        scores.add(np.zeros((1, 16383, 3), np.uint8), 1e6)
        baseline = scores.result()
        assert baseline is not None
        assert baseline.images == 1


def test_the_longest_sides_are_those_of_the_formats() -> None:
    for kind in BASELINE_FORMATS:
        assert kind.write(np.zeros((1, kind.longest, 3), np.uint8), 1)
        with pytest.raises((OSError, ValueError)):
            kind.write(np.zeros((1, kind.longest + 1, 3), np.uint8), 1)


def test_means() -> None:
    assert mean_or_none([1, None, 3]) == 2
    assert mean_or_none([None]) is mean_or_none([]) is None
