"""One image has one grid of tokens, whatever shares the work. Bits of latents are compared, not only tokens."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage

from tests.codec.conftest import as_file, drawn, encode, torch_threads, untrained
from tests.conftest import draw
from tokenizer.config import PRESETS, NetworkConfig
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.models import Tokenizer
from tokenizer.tokens import TokenSet

# Canvases around the sizes at which kernels change, see `codec.network`; most of them come more than once.
SIZES = [
    (16, 16),
    (64, 64),
    (40, 72),
    (64, 64),
    (96, 88),
    (16, 16),
    (64, 64),
    (130, 120),
    (64, 64),
    (100, 40),
    (40, 72),
]
WAYS: list[dict[str, int]] = [
    {"batch_size": 1},
    {"batch_size": 3},
    {"batch_size": 16},
    {"workers": 0},
    {"workers": 4, "batch_size": 2},
]


def network(downsample: int) -> NetworkConfig:
    widths, depths = PRESETS["tiny"][downsample]
    return NetworkConfig(downsample, widths, depths)


@pytest.fixture(scope="module", params=[8, 16])
def bits(request: pytest.FixtureRequest) -> Tokenizer:
    return untrained(network(request.param))


@pytest.fixture(scope="module")
def alone(bits: Tokenizer) -> list[np.ndarray]:
    return [encode(bits, [source]).grids[0] for source in drawn(*SIZES)]


def check_equal(tokens: TokenSet, grids: list[np.ndarray]) -> None:
    assert [record.name for record in tokens.images] == [str(number) for number in range(len(grids))]
    for grid, wanted in zip(tokens.grids, grids, strict=True):
        assert np.array_equal(grid, wanted)


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_alone_as_in_company(bits: Tokenizer, alone: list[np.ndarray], options: dict[str, int]) -> None:
    check_equal(encode(bits, drawn(*SIZES), **options), alone)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_any_number_of_threads(bits: Tokenizer, alone: list[np.ndarray], threads: int) -> None:
    with torch_threads(threads):
        check_equal(encode(bits, drawn(*SIZES), batch_size=3), alone)


def test_any_order(bits: Tokenizer, alone: list[np.ndarray]) -> None:
    backwards = encode(bits, drawn(*SIZES)[::-1])
    for grid, wanted in zip(backwards.grids[::-1], alone, strict=True):
        assert np.array_equal(grid, wanted)


def test_a_full_batch_of_small_images(bits: Tokenizer) -> None:
    (wanted,) = encode(bits, drawn((32, 32))).grids
    pixels = draw(32, 32)
    many = encode(bits, [Source(str(number), lambda: pixels) for number in range(40)], batch_size=64)
    assert all(np.array_equal(grid, wanted) for grid in many.grids)


@pytest.mark.parametrize("quantizer", ["diveq", "residual(2*diveq)", "fsq", "multiscale(2*diveq, scales=1 2)"])
def test_each_family(quantizer: str) -> None:
    model = untrained(NetworkConfig(8, (32, 32), (1, 1)), quantizer)
    wanted = [encode(model, [source]).grids[0] for source in drawn(*SIZES)]
    assert len(np.unique(np.concatenate([grid.ravel() for grid in wanted]))) > 8
    for options in WAYS:
        check_equal(encode(model, drawn(*SIZES), **options), wanted)


def test_a_photograph_from_a_file_an_open_file_or_a_call(model: Tokenizer, tmp_path: Path) -> None:
    data = as_file(skimage.data.astronaut(), "jpeg", quality=90).getvalue()
    (tmp_path / "x.jpg").write_bytes(data)
    for options in ({}, {"image_size": 48, "resize_mode": "crop"}):
        (wanted,) = encode(model, list(find_images([tmp_path])), **options).grids
        for file in (io.BytesIO(data), lambda: data):
            assert np.array_equal(encode(model, [Source("x", file)], **options).grids[0], wanted)
