from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import TINY
from tokenizer.errors import ConfigError
from tokenizer.models import Tokenizer, to_pixels, to_unit_range


@pytest.fixture
def model() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY, {"name": "diveq", "codebook_size": 16}).eval()


def test_tokens_and_images_have_their_shapes(model: Tokenizer) -> None:
    tokens = model.encode(torch.rand(2, 3, 24, 40) * 2 - 1)
    assert tokens.shape == (2, 3, 5, 1)
    assert tokens.dtype == torch.int64
    images = model.decode(tokens)
    assert images.shape == (2, 3, 24, 40)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1


def test_forward_in_evaluation_is_decode_of_encode(model: Tokenizer) -> None:
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        result = model(images)
    assert torch.equal(result.tokens, model.encode(images))
    assert torch.equal(result.images.clamp(-1, 1), model.decode(result.tokens))


def test_other_multiples_are_refused_with_both_numbers(model: Tokenizer) -> None:
    for size in [(12, 16), (16, 0)]:
        with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.*multiples of 8"):
            model.encode(torch.zeros(1, 3, *size))


def test_tokens_do_not_depend_on_the_batch(model: Tokenizer) -> None:
    images = torch.rand(7, 3, 32, 32) * 2 - 1
    alone = torch.cat([model.encode(image[None]) for image in images])
    assert torch.equal(model.encode(images), alone)


def test_a_quantizer_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="unknown quantizer"):
        Tokenizer(TINY, {"name": "nothing"})


def test_pixels_survive_the_round_trip_and_are_rounded() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    images = to_unit_range(pixels)
    assert images.shape == (1, 3, 16, 16)
    assert (images.amin(), images.amax()) == (-1, 1)
    assert torch.equal(to_pixels(images), pixels)
    between = torch.tensor([0.6, 0.4, 300.0, -9.0]) / 127.5 - 1
    assert to_pixels(between.reshape(1, 1, 2, 2)).flatten().tolist() == [1, 0, 255, 0]
    assert np.asarray(to_pixels(images)).dtype == np.uint8
