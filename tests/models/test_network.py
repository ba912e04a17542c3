from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tokenizer.config import DOWNSAMPLES, PRESETS, NetworkConfig
from tokenizer.models import Decoder, Encoder
from tokenizer.models.network import ResidualBlock, block_transform


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
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(ResidualBlock(8)(x), x)


def linear(downsample: int, latent_dim: int) -> NetworkConfig:
    stages = downsample.bit_length() - 2
    return NetworkConfig(downsample, (8,) * stages, (1,) * stages, latent_dim, linear=True)


@pytest.mark.parametrize("downsample", [4, 8, 16])
def test_a_fresh_linear_path_is_an_orthonormal_block_transform(downsample: int) -> None:
    """With as many latents as a block has numbers, pixels come back; with fewer, flat color still does."""
    images = torch.randn(1, 3, 2 * downsample, 3 * downsample)
    config = linear(downsample, 3 * downsample**2)
    latents = Encoder(config)(images)
    assert float(latents.detach().square().sum()) == pytest.approx(float(images.square().sum()), rel=1e-4)
    torch.testing.assert_close(Decoder(config)(latents), images, atol=1e-4, rtol=0)
    config = linear(downsample, 2 * downsample)
    flat = torch.tensor([0.9, -0.3, 0.1])[None, :, None, None].expand(images.shape)
    torch.testing.assert_close(Decoder(config)(Encoder(config)(flat)), flat, atol=1e-5, rtol=0)


def test_the_first_basis_functions_are_brightness_slopes_and_color() -> None:
    """Of 8x8 blocks: even, falling to the right and downwards, each in brightness; then color, even."""
    rows = block_transform(8, 8)[0].reshape(8, 3, 8, 8)
    assert torch.allclose(rows[0], torch.full((3, 8, 8), 192**-0.5))
    assert (rows[:3].diff(dim=1).abs() < 1e-6).all()  # gray
    steps = {0 if (rows[n].diff(dim=1) < 0).all() else 1 for n in (1, 2)}
    assert steps == {0, 1}
    even = [n for n in range(8) if rows[n].std(dim=(1, 2)).max() < 1e-6]
    assert even == [0, 3, 6]
    colors = rows[even].mean(dim=(2, 3))
    assert colors[1:].sum(dim=1).abs().max() < 1e-6


def test_latents_beyond_a_block_s_numbers_are_0() -> None:
    rows, mean = block_transform(4, 50)
    torch.testing.assert_close(rows @ rows.T, torch.eye(48))
    assert not mean.any()
    assert not Encoder(linear(4, 50))(torch.randn(1, 3, 8, 8))[:, 48:].any()


def test_coordinates_of_a_basis_and_a_mean() -> None:
    """A block at the mean has coordinates 0, and one along the second row a second coordinate alone."""
    config = linear(4, 3)
    basis, mean = torch.linalg.qr(torch.randn(48, 2)).Q.T, torch.randn(48)
    encoder, decoder = Encoder(config), Decoder(config)
    for part in (encoder, decoder):
        part.use_basis(basis, mean)
    blocks = torch.stack([mean, mean + 3 * basis[1]]).T.reshape(1, 48, 1, 2)
    images = torch.nn.functional.pixel_shuffle(blocks, 4)
    latents = encoder(images)
    torch.testing.assert_close(latents[0, :, 0], torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 0.0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(decoder(latents), images, atol=1e-5, rtol=0)


def test_a_decoder_of_its_own_shape() -> None:
    config = NetworkConfig(8, (16, 24), (1, 2), 4, decoder_widths=(8, 40), decoder_depths=(1, 3))
    decoder = Decoder(config)
    assert Encoder(config)(torch.zeros(1, 3, 16, 16)).shape == (1, 4, 2, 2)
    assert decoder(torch.zeros(1, 4, 2, 2)).shape == (1, 3, 16, 16)
    widths = [module.first.out_channels for module in decoder.layers if isinstance(module, ResidualBlock)]
    assert widths == [40, 40, 40, 8]
    # A block at a quarter: 2 + 2 positions there, 2 at an eighth; three blocks there add 6.
    assert decoder.receptive_field == 8


@pytest.mark.parametrize("deeper", [{}, {"depths": (2, 3)}, {"decoder_depths": (3, 1)}, {"linear": True}])
@pytest.mark.parametrize("was_linear", [False, True])
def test_a_deeper_network_begins_as_the_one_it_starts_from(deeper: dict[str, Any], was_linear: bool) -> None:
    config = NetworkConfig(8, (8, 12), (1, 1), 4, linear=was_linear)
    images, vectors = torch.randn(1, 3, 32, 32), torch.randn(1, 4, 4, 4)
    for part, given in ((Encoder, images), (Decoder, vectors)):
        source, target = part(config), part(dataclasses.replace(config, **deeper))
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        target.start_from(source)
        torch.testing.assert_close(target(given), source(given))
