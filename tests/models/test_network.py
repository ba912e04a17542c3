from __future__ import annotations

import pytest
import torch

from tokenizer.config import DOWNSAMPLES, PRESETS, NetworkConfig
from tokenizer.models import Decoder, Encoder


def preset(name: str, downsample: int) -> NetworkConfig:
    widths, depths = PRESETS[name][downsample]
    return NetworkConfig(downsample, widths, depths)


@pytest.mark.parametrize("downsample", DOWNSAMPLES)
@pytest.mark.parametrize(("name", "low", "high"), [("tiny", 2e6, 4e6), ("small", 8e6, 15e6), ("base", 35e6, 50e6)])
def test_preset_sizes(name: str, low: float, high: float, downsample: int) -> None:
    with torch.device("meta"):
        config = preset(name, downsample)
        parameters = [*Encoder(config).parameters(), *Decoder(config).parameters()]
    assert low <= sum(p.numel() for p in parameters) <= high


@pytest.mark.parametrize("downsample", DOWNSAMPLES)
def test_any_multiple_of_the_downsampling_goes_in_and_comes_out(downsample: int) -> None:
    stages = downsample.bit_length() - 2
    config = NetworkConfig(downsample, widths=(8,) * stages, depths=(1,) * stages, latent_dim=3)
    for height, width in [(downsample, downsample), (3 * downsample, 2 * downsample)]:
        latents = Encoder(config)(torch.zeros(2, 3, height, width))
        assert latents.shape == (2, 3, height // downsample, width // downsample)
        assert Decoder(config)(latents).shape == (2, 3, height, width)


def test_a_latent_depends_on_its_neighborhood_alone() -> None:
    """A finite receptive field: what tiling and batching of any sizes rest on."""
    torch.manual_seed(0)
    config = NetworkConfig(downsample=8, widths=(16, 16), depths=(1, 1), latent_dim=4)
    encoder = Encoder(config).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    images = torch.randn(1, 3, 256, 256, requires_grad=True)
    encoder(images)[0, :, 16, 16].sum().backward()
    touched = images.grad.abs().amax(dim=(0, 1)).nonzero()  # type: ignore[union-attr]
    reach = (touched.amax(dim=0) - touched.amin(dim=0) + 1).amax()
    # Stem 3x3 at 1/4 and two 3x3 there (28 px), a 2x2 fold, two 3x3 at 1/8 (40 px more at most).
    assert 8 < reach <= 72


def test_a_fresh_block_is_the_identity() -> None:
    from tokenizer.models.network import ResidualBlock

    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(ResidualBlock(8)(x), x)
