"""An image in tiles has the tokens, and a grid in tiles the pixels, that it has as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.codec.conftest import drawn, encode, untrained
from tokenizer import codec, quantizers
from tokenizer.codec import tiling
from tokenizer.codec.tiling import grid_tiles, image_tiles, tiles
from tokenizer.config import PRESETS, NetworkConfig
from tokenizer.images import Source
from tokenizer.models import Decoder, Encoder, Tokenizer
from tokenizer.tokens import TokenSet

SMALL = NetworkConfig(8, (32, 32), (1, 1), 4)
SHAPES = [(name, downsample) for name in PRESETS for downsample in PRESETS[name]]


def narrow(name: str, downsample: int) -> NetworkConfig:
    """A preset with few channels, which reaches as far."""
    depths = PRESETS[name][downsample][1]
    return NetworkConfig(downsample, (4,) * len(depths), depths, 2)


class TestPlan:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9), st.integers(1, 400))
    def test_cores_cover_the_grid_once_and_see_enough(self, height: int, width: int, overlap: int, area: int) -> None:
        covered = np.zeros((height, width), int)
        for tile in tiles((height, width), overlap, area):
            covered[tile.core] += 1
            for core, outer, length in zip(tile.core, tile.outer, (height, width), strict=True):
                assert core.stop > core.start
                assert outer.start == max(0, core.start - overlap) or (outer.start, outer.stop) == (0, length)
                assert outer.stop == min(length, core.stop + overlap) or (outer.start, outer.stop) == (0, length)
        assert (covered == 1).all()

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 5))
    def test_no_tile_is_larger_than_said(self, height: int, width: int, overlap: int) -> None:
        for tile in tiles((height, width), overlap, 400):
            rows, columns = tile.outer
            assert (rows.stop - rows.start) * (columns.stop - columns.start) <= 400

    def test_a_ribbon_is_cut_across_only(self) -> None:
        cut = tiles((2, 1000), 3, 256)
        assert all(tile.outer[0] == slice(0, 2) for tile in cut)
        assert len(cut) == 9  # of 128 positions, 6 of which are overlap

    def test_photographs_of_a_camera_are_cut_and_smaller_ones_are_not(self) -> None:
        model = untrained(NetworkConfig(), "fsq")
        assert len(image_tiles(model, (3008 // 16, 4000 // 16))) == len(grid_tiles(model, (188, 250))) == 6
        assert len(image_tiles(model, (2048 // 16, 2048 // 16))) == 1

    def test_strangers_are_never_cut(self) -> None:
        class Mine(Encoder):
            """Whatever it computes."""

        network = NetworkConfig()
        decoder = nn.Sequential(nn.Identity())
        model = Tokenizer(network, {"name": "fsq"}, encoder=Mine(network), decoder=decoder)
        assert len(image_tiles(model, (500, 500))) == len(grid_tiles(model, (500, 500))) == 1


class TestReach:
    """Measured by the gradient of networks whose kernels hide nothing: positive everywhere."""

    @pytest.mark.parametrize(("name", "downsample"), SHAPES)
    def test_of_the_encoder(self, name: str, downsample: int) -> None:
        encoder = positive(Encoder(narrow(name, downsample)))
        before = -(-encoder.receptive_field // downsample)
        length = downsample * (2 * before + 1)
        for size in ((downsample, length), (length, downsample)):
            image = torch.rand(1, 3, *size, requires_grad=True)
            latents = encoder(image)
            latents[0, :, latents.shape[2] // 2, latents.shape[3] // 2].sum().backward()
            seen = image.grad[0].abs().sum(dim=(0, 1 if size[1] > size[0] else 2)).nonzero()  # type: ignore[index]
            assert before * downsample - seen.min() == encoder.receptive_field
            assert seen.max() - (before * downsample + downsample - 1) == encoder.receptive_field

    @pytest.mark.parametrize(("name", "downsample"), SHAPES)
    def test_of_the_decoder(self, name: str, downsample: int) -> None:
        decoder = positive(Decoder(narrow(name, downsample)))
        reach = decoder.receptive_field
        latents = torch.rand(1, 2, 1, 2 * reach + 3, requires_grad=True)
        start = (reach + 1) * downsample
        decoder(latents)[..., start : start + downsample].sum().backward()
        seen = latents.grad[0].abs().sum(dim=(0, 1)).nonzero()  # type: ignore[index]
        assert seen.min() == 1
        assert seen.max() == 2 * reach + 1


def positive(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
        parameter.data /= parameter[0].numel()
    return network


PICTURES = [(200, 264), (8, 400), (331, 90), (1, 1)]


def photograph() -> Source:
    return Source("photo", lambda: skimage.data.coffee()[:333, :417])


def cut_small(monkeypatch: pytest.MonkeyPatch, positions: int, downsample: int) -> None:
    monkeypatch.setattr(tiling, "TILE_PIXELS", positions * downsample**2)


@pytest.mark.slow
class TestTokens:
    @pytest.mark.parametrize("area", [1, 100, 400])
    def test_bits_of_the_latents_are_the_same(self, area: int, monkeypatch: pytest.MonkeyPatch) -> None:
        model = untrained(SMALL)
        sources = [*drawn(*PICTURES), photograph()]
        whole = encode(model, sources)
        cut_small(monkeypatch, area, 8)
        cut = encode(model, sources)
        assert len(image_tiles(model, whole.images[0].grid)) > 1
        assert cut.images == whole.images
        assert all(map(np.array_equal, cut.grids, whole.grids))

    @pytest.mark.parametrize("downsample", [4, 8, 16, 32])
    def test_of_each_preset(self, downsample: int, monkeypatch: pytest.MonkeyPatch) -> None:
        widths, depths = PRESETS["tiny"][downsample]
        model = untrained(NetworkConfig(downsample, widths, depths))
        grid = [(160, 160), (200, 360), (240, 600), (320, 800)][downsample.bit_length() - 3]
        (whole,) = encode(model, drawn(grid)).grids
        overlap = -(-model.encoder.receptive_field // downsample)
        cut_small(monkeypatch, whole.shape[0] * (2 * overlap + 2), downsample)
        assert len(image_tiles(model, whole.shape[:2])) > 1
        assert np.array_equal(encode(model, drawn(grid)).grids[0], whole)

    @pytest.mark.parametrize("quantizer", sorted(quantizers.METHODS))
    def test_of_each_quantizer(self, quantizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model = untrained(SMALL, quantizer)
        whole = encode(model, [photograph()])
        cut_small(monkeypatch, 400 // model.quantizer.block**2, model.downsample)
        assert len(image_tiles(model, whole.images[0].grid)) > 4
        assert np.array_equal(encode(model, [photograph()]).grids[0], whole.grids[0])
        assert len(np.unique(whole.grids[0])) > 8

    def test_one_position_less_is_too_little(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = untrained(NetworkConfig(4, (8,), (2,), 4))
        assert model.encoder.receptive_field == 20  # 5 positions to the pixel
        (whole,) = encode(model, [photograph()]).grids
        cut_small(monkeypatch, 1000, 4)
        monkeypatch.setattr(model.encoder, "receptive_field", 16)
        (cut,) = encode(model, [photograph()]).grids
        assert not np.array_equal(cut, whole)


def decode(model: Tokenizer, tokens: TokenSet) -> list[np.ndarray]:
    return [canvas for _, canvas in codec.decode_tokens(model, zip(tokens.images, tokens.grids, strict=True))]


@pytest.mark.slow
class TestPictures:
    @pytest.mark.parametrize("quantizer", ["diveq", "residual(2*diveq)", "multiscale(2*diveq, scales=1 2)"])
    @pytest.mark.parametrize("area", [1, 100, 400])
    def test_are_the_same(self, quantizer: str, area: int, monkeypatch: pytest.MonkeyPatch) -> None:
        model = untrained(SMALL, quantizer)
        tokens = encode(model, [*drawn(*PICTURES), photograph()])
        whole = decode(model, tokens)
        cut_small(monkeypatch, max(1, area // model.quantizer.block**2), model.downsample)
        assert len(grid_tiles(model, tokens.images[0].grid)) > 1
        assert all(map(np.array_equal, decode(model, tokens), whole))
