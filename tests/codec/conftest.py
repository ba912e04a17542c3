"""Tokenizers, pictures as open files, and a quantizer that lets every bit of a latent be seen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import Tensor, nn

from tests.conftest import draw
from tokenizer import codec, quantizers
from tokenizer.codec import EncodeOptions
from tokenizer.config import NetworkConfig
from tokenizer.images import Source
from tokenizer.models import Tokenizer, load_checkpoint, to_unit_range
from tokenizer.tokens import TokenSet


@pytest.fixture(scope="session")
def model(run: Path) -> Tokenizer:
    return load_checkpoint(run)


def as_file(pixels: np.ndarray, kind: str = "png", **options: Any) -> io.BytesIO:
    """Return an open image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def drawn(*sizes: tuple[int, int]) -> list[Source]:
    """Return drawn pictures of these (height, width), which can be read again."""
    pictures = [draw(height, width, seed) for seed, (height, width) in enumerate(sizes)]
    return [Source(f"{number}", lambda pixels=pixels: pixels) for number, pixels in enumerate(pictures)]


def encode(model: Tokenizer, sources: list[Source], **options: Any) -> TokenSet:
    settings = EncodeOptions(**options)
    return codec.collect_tokens(
        codec.encode_images(model, sources, settings), codec.token_header(model, "print", settings)
    )


class Bits(nn.Module):
    """In place of a quantizer: tokens are the bits of the latents."""

    block, sizes = 1, (2**32,)

    def encode(self, z: Tensor) -> Tensor:
        return z.view(torch.int32).long()


def untrained(network: NetworkConfig, quantizer: str = "") -> Tokenizer:
    """Return a tokenizer with random weights and codes among its latents; without a quantizer, with `Bits`."""
    torch.manual_seed(0)
    spec = quantizers.read_spec(quantizer or "fsq")
    width = quantizers.fitting_width(spec, network.latent_dim)
    config = NetworkConfig(network.downsample, network.widths, network.depths, width)
    model = Tokenizer(config, spec).eval().channels_last()
    for part in (model.encoder, model.decoder):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    if not quantizer:
        model.quantizer = Bits()  # type: ignore[assignment]
        return model
    with torch.no_grad():
        latents = model.latents(to_unit_range(torch.from_numpy(skimage.data.coffee()[None, :320, :320])))
        model.quantizer.initialize(latents.flatten(0, 2))
    return model


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
