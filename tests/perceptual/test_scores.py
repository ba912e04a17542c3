"""What EfficientNet-Lite0 says of pictures, computed again from the network."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from tokenizer.perceptual import DiagonalFrechet, Lite0Scores, lite0_distance, load_lite0

CPU = torch.device("cpu")


def as_image(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def blurred(pixels: np.ndarray, factor: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((width // factor, height // factor), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def test_the_figures() -> None:
    originals = [skimage.data.cat()[:200], skimage.data.rocket()[40:300, 100:420], skimage.data.coffee()[::2, ::2]]
    centers = [np.s_[:, 125:325], np.s_[18:242, 48:272], np.s_[:, 50:250]]
    made = [blurred(pixels, factor) for pixels, factor in zip(originals, (2, 40, 2), strict=True)]
    scores = Lite0Scores(CPU)
    found = [scores.add(*pair) for pair in zip(originals, made, strict=True)]
    network, distance, frechet = load_lite0(), lite0_distance(), DiagonalFrechet()
    alike = []
    for original, picture, center, score in zip(originals, made, centers, found, strict=True):
        assert score is not None
        with torch.no_grad():
            wanted = distance(as_image(picture), as_image(original))
            squares = [as_image(pixels[center]) for pixels in (original, picture)]
            (first, one), (second, other) = (network(square) for square in squares)
        assert score.distance == pytest.approx(float(wanted), rel=1e-4)
        frechet.add(first[0].numpy(), second[0].numpy())
        alike.append(bool(one.argmax() == other.argmax()))
    assert [score.alike for score in found if score] == alike
    assert scores.recognized_alike == pytest.approx(sum(alike) / 3)
    assert 0 < sum(alike) < 3
    assert scores.frechet == pytest.approx(frechet.distance(), rel=1e-3)


def test_equal_pictures_are_seen_alike() -> None:
    scores = Lite0Scores(CPU)
    for shift in (0, 20):
        pixels = skimage.data.astronaut()[shift : shift + 90, 150:300]
        score = scores.add(pixels, pixels)
        assert score is not None
        assert (score.distance, score.alike) == (0, True)
    assert scores.recognized_alike == 1
    assert scores.frechet == pytest.approx(0, abs=1e-9)


def test_small_pictures_have_none() -> None:
    scores = Lite0Scores(CPU)
    pixels = skimage.data.astronaut()
    assert scores.add(pixels[:31, :100], pixels[:31, :100]) is None
    assert (scores.recognized_alike, scores.frechet) == (None, None)
    assert scores.add(pixels[:32, :32], pixels[:32, :32]) is not None
    assert (scores.recognized_alike, scores.frechet) == (1, None)
