"""Tokens to images: in order, streaming, the same in any company."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.codec.conftest import drawn, encode, torch_threads, untrained
from tests.conftest import draw
from tokenizer import codec
from tokenizer.codec import TokenRow
from tokenizer.config import NetworkConfig
from tokenizer.errors import DeviceError, TokenFileError
from tokenizer.images import Pixels
from tokenizer.inputs import find_images
from tokenizer.models import Tokenizer, to_pixels, to_unit_range
from tokenizer.tokens import ImageRecord, TokenSet, headerless_tokens


def decode(model: Tokenizer, tokens: TokenSet, **options: Any) -> list[tuple[ImageRecord, Pixels]]:
    return list(codec.decode_tokens(model, zip(tokens.images, tokens.grids, strict=True), **options))


def test_decoded_tokens_are_the_reconstruction_in_memory(model: Tokenizer, photos: Path) -> None:
    sources = find_images([photos / "a"])
    tokens = encode(model, list(sources))
    for source, (record, canvas) in zip(sources, decode(model, tokens), strict=True):
        pixels = torch.from_numpy(draw(64, 64, int(Path(source.name).stem)))
        with torch.inference_mode():
            # Twice, as the codec takes a small image: alone, torch may round it differently.
            wanted = to_pixels(model(to_unit_range(torch.stack([pixels, pixels]))).images)[0].numpy()
        assert record.name == source.name
        assert np.array_equal(canvas, wanted)


def test_any_size_comes_back_at_its_size(model: Tokenizer) -> None:
    shapes = [(1, 1), (7, 9), (8, 8), (33, 5), (50, 121)]
    tokens = encode(model, drawn(*shapes))
    assert [record.grid for record in tokens.images] == [(-(-h // 8), -(-w // 8)) for h, w in shapes]
    for (height, width), (record, canvas) in zip(shapes, decode(model, tokens), strict=True):
        assert record.placement is not None
        assert record.placement.restore(canvas).shape == (height, width, 3)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_company_does_not_matter(batch_size: int, threads: int) -> None:
    model = untrained(NetworkConfig(8, (48, 64), (1, 1), 4), "diveq")
    tokens = encode(model, drawn(*[(32, 32)] * 17, (64, 40), (32, 32)))
    alone = [decode(model, TokenSet(tokens.header, [record], [grid]))[0][1] for record, grid in rows(tokens)]
    with torch_threads(threads):
        made = decode(model, tokens, batch_size=batch_size)
    assert [record for record, _ in made] == list(tokens.images)
    for (_, canvas), wanted in zip(made, alone, strict=True):
        assert np.array_equal(canvas, wanted)


def rows(tokens: TokenSet) -> Iterator[TokenRow]:
    return zip(tokens.images, tokens.grids, strict=True)


def test_the_first_codes_alone(model: Tokenizer) -> None:
    coarse = untrained(NetworkConfig(8, (32, 32), (1, 1), 4), "residual(2*diveq)")
    tokens = encode(coarse, drawn((32, 40)))
    with torch.inference_mode():
        wanted = to_pixels(coarse.decode(torch.from_numpy(tokens.grids[0][None, ..., :1])))[0].numpy()
    ((_, canvas),) = decode(coarse, tokens, codes=1)
    assert np.array_equal(canvas, wanted)
    assert not np.array_equal(canvas, decode(coarse, tokens)[0][1])
    with pytest.raises(ValueError, match="tokens hold 0 codes per position"):
        decode(model, tokens, codes=0)


def test_few_are_in_memory(model: Tokenizer) -> None:
    asked = 0

    def many() -> Iterator[TokenRow]:
        nonlocal asked
        for asked in range(500):
            yield ImageRecord(str(asked), (2, 3)), np.full((2, 3, 1), asked % 32, np.uint16)

    for number, (record, _) in enumerate(codec.decode_tokens(model, many(), batch_size=5)):
        assert record.name == str(number)
        assert asked - number < 5 * (2 * torch.get_num_threads() + 2)


def test_what_came_before_damage_is_not_lost(model: Tokenizer) -> None:
    def damaged() -> Iterator[TokenRow]:
        for number in range(7):
            yield ImageRecord(str(number), (1, 1)), np.zeros((1, 1, 1), np.int64)
        raise TokenFileError("its manifest is damaged")

    pictures = codec.decode_tokens(model, damaged(), batch_size=2)
    assert [next(pictures)[0].name for _ in range(7)] == list("0123456")
    with pytest.raises(TokenFileError, match="damaged"):
        next(pictures)


def test_stopping_leaves_no_thread(model: Tokenizer) -> None:
    with torch_threads(2):
        pictures = codec.decode_tokens(model, zip(*rows_of(40), strict=True), batch_size=1)
        next(pictures)
        pictures.close()
        assert not any(thread.name.startswith("network") for thread in threading.enumerate())
        assert torch.get_num_threads() == 2


def rows_of(count: int) -> tuple[list[ImageRecord], np.ndarray]:
    return [ImageRecord("x", (4, 4))] * count, np.zeros((count, 4, 4, 1), np.int64)


def test_out_of_memory_says_what_to_pass(model: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "decode", fail)
    with pytest.raises(DeviceError, match=r"^out of memory: pass a smaller --batch-size$"):
        decode(model, headerless_tokens(np.zeros((3, 4), np.int16)))


def test_an_array_without_a_header(model: Tokenizer) -> None:
    ((record, canvas),) = decode(model, headerless_tokens(np.zeros((3, 4), np.int16)))
    assert (record.name, canvas.shape) == ("000000", (24, 32, 3))
