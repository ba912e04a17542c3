"""How many tokens small changes of a picture change."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import TINY, draw, save
from tokenizer.codec import EncodeOptions
from tokenizer.errors import InputError
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.models import Tokenizer, load_checkpoint, to_pixels, to_unit_range
from tokenizer.report import Stability, TokenChange, measure_stability
from tokenizer.report.stability import _least, _size

NAMES = ["none", "noise", "jpeg_90", "shift_1", "shift_8", "resize_0.99"]


@pytest.fixture(scope="module")
def model(run: Path) -> Tokenizer:
    return load_checkpoint(run)


class Means(torch.nn.Module):
    """Each position sees its own 8 x 8 pixels and nothing else."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 8)


class Squares(torch.nn.Module):
    """Each position becomes 8 x 8 equal pixels."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.repeat_interleave(8, 2).repeat_interleave(8, 3)


def means(quantizer: dict[str, object]) -> Tokenizer:
    network = replace(TINY, latent_dim=3)
    return Tokenizer(network, quantizer, encoder=Means(), decoder=Squares()).eval()


def made_of(*pictures: np.ndarray) -> list[Source]:
    return [Source(f"{number}.png", picture.copy) for number, picture in enumerate(pictures)]


def of(stability: Stability) -> dict[str, TokenChange]:
    return {change.name: change for change in stability.changes}


def tokens_and_picture(model: Tokenizer, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the codec."""
    with torch.inference_mode():
        tokens = model.encode(to_unit_range(torch.from_numpy(pixels.copy())[None]))
        return tokens[0].numpy(), to_pixels(model.decode(tokens))[0].numpy()


def decibels(first: np.ndarray, second: np.ndarray) -> float:
    error = np.square(first.astype(float) - second).mean()
    return 10 * math.log10(65025 / error) if error else math.inf


def test_against_a_computation_by_hand(model: Tokenizer) -> None:
    """A picture of 50 x 70 leaves a corner of 40 x 56: the largest multiples of 8 up to 42 x 62."""
    picture = draw(50, 70, 3)
    found = of(measure_stability(model, made_of(picture), EncodeOptions()))
    before, decoded = tokens_and_picture(model, picture[:40, :56])

    buffer = io.BytesIO()
    Image.fromarray(picture[:40, :56]).save(buffer, "JPEG", quality=90)
    after, other = tokens_and_picture(model, np.asarray(Image.open(buffer)))
    assert found["jpeg_90"].changed == pytest.approx((before != after).mean(), abs=1e-12)
    assert found["jpeg_90"].psnr == pytest.approx(decibels(decoded, other), abs=1e-9)

    after, other = tokens_and_picture(model, picture[1:41, 1:57])
    assert found["shift_1"].changed == pytest.approx((before != after).mean(), abs=1e-12)
    assert found["shift_1"].psnr == pytest.approx(decibels(decoded[1:, 1:], other[:-1, :-1]), abs=1e-9)

    after, other = tokens_and_picture(model, picture[8:48, 8:64])
    assert found["shift_8"].changed == pytest.approx((before[1:, 1:] != after[:-1, :-1]).mean(), abs=1e-12)
    assert found["shift_8"].psnr == pytest.approx(decibels(decoded[8:, 8:], other[:-8, :-8]), abs=1e-9)

    box = (0, 0, 56 / 0.99, 40 / 0.99)
    smaller = Image.fromarray(picture).resize((56, 40), Image.Resampling.BICUBIC, box)
    after, other = tokens_and_picture(model, np.asarray(smaller))
    assert found["resize_0.99"].changed == pytest.approx((before != after).mean(), abs=1e-12)  # far below 50 positions
    back = Image.fromarray(other).resize((56, 40), Image.Resampling.BICUBIC, (0, 0, 56 * 0.99, 40 * 0.99))
    assert found["resize_0.99"].psnr == pytest.approx(decibels(decoded, np.asarray(back)), abs=1e-9)

    noise = np.random.default_rng((0, 0)).normal(0, 1, (40, 56, 3))
    noisy = np.clip(np.rint(picture[:40, :56] + noise), 0, 255).astype(np.uint8)
    after, other = tokens_and_picture(model, noisy)
    assert found["noise"].changed == pytest.approx((before != after).mean(), abs=1e-12)


def test_shares_and_decibels_over_images(model: Tokenizer) -> None:
    """Shares are over all tokens: 5 x 7 and 3 x 3 positions; decibels are a mean over images."""
    pictures = draw(50, 70, 1), draw(36, 33, 2)
    both = of(measure_stability(model, made_of(*pictures), EncodeOptions()))
    each = [of(measure_stability(model, made_of(picture), EncodeOptions())) for picture in pictures]
    for name in ("jpeg_90", "shift_1"):
        shares = [alone[name].changed for alone in each]
        assert both[name].changed == pytest.approx((35 * shares[0] + 9 * shares[1]) / 44, abs=1e-12)
        alone = [found[name].psnr for found in each if found[name].psnr is not None]
        assert both[name].psnr == (pytest.approx(np.mean(alone), abs=1e-9) if alone else None)
        assert both[name].exact == 2 - len(alone)


def test_the_control_changes_nothing(model: Tokenizer, photos: Path) -> None:
    stability = measure_stability(model, find_images([photos]), EncodeOptions(batch_size=3))
    assert [change.name for change in stability.changes] == NAMES
    control = stability.changes[0]
    assert (stability.images, stability.skipped) == (24, 0)
    assert (control.changed, control.psnr, control.exact, control.slots) == (0, None, 24, (0,))
    assert all(0 <= change.changed <= 1 for change in stability.changes)
    assert of(stability)["shift_1"].changed > 0


def test_positions_that_see_nothing_around_them_move_with_the_picture() -> None:
    model = means({"name": "fsq", "levels": (16, 16, 16)})
    found = of(measure_stability(model, made_of(draw(90, 64, 5)), EncodeOptions()))
    assert (found["shift_8"].changed, found["shift_8"].psnr, found["shift_8"].exact) == (0, None, 1)
    assert found["shift_1"].changed > 0
    assert "shows the same pixels" in found["shift_8"].definition
    assert "same positions" in found["shift_1"].definition


def test_after_resizing_a_position_is_sought_where_its_centre_lies() -> None:
    """At 0.99, the center of position 49 and the 50 after it lie one position further to the left."""
    model = means({"name": "fsq", "levels": (16, 16, 16)})
    ramp = np.repeat(np.arange(1600)[None], 24, 0) / 1600 * 255
    picture = np.stack([ramp] * 3, -1).astype(np.uint8)
    found = of(measure_stability(model, made_of(picture), EncodeOptions()))
    before, _ = tokens_and_picture(model, picture[:16, :1584])
    smaller = Image.fromarray(picture).resize((1584, 16), Image.Resampling.BICUBIC, (0, 0, 1600, 16 / 0.99))
    after, _ = tokens_and_picture(model, np.asarray(smaller))
    places = [column if column < 50 else column - 1 if column < 150 else column - 2 for column in range(198)]
    assert [math.floor((column + 0.5) * 0.99) for column in range(198)] == places
    wanted = (before != after[:, places]).mean()
    assert found["resize_0.99"].changed == pytest.approx(wanted, abs=1e-12)
    assert wanted < (before != after).mean()


def test_every_code_of_a_position_counts() -> None:
    torch.manual_seed(0)
    spec = {"name": "residual", "stages": [{"name": "diveq", "codebook_size": 64}] * 3}
    stability = measure_stability(means(spec), made_of(draw(60, 60, 1), draw(60, 50, 2)), EncodeOptions())
    for change in stability.changes:
        assert len(change.slots) == 3
        assert change.changed == pytest.approx(np.mean(change.slots), abs=1e-12)
    first, *_, last = of(stability)["shift_1"].slots
    assert 0 < first < last


def test_equal_seeds_give_equal_results(model: Tokenizer) -> None:
    sources = made_of(draw(80, 80, 1), draw(80, 80, 1))
    first, again, other = (measure_stability(model, sources, EncodeOptions(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert of(first)["noise"].psnr != of(other)["noise"].psnr
    assert [change for change in first.changes if change.name != "noise"] == [
        change for change in other.changes if change.name != "noise"
    ]


def test_pictures_are_what_the_network_sees(model: Tokenizer) -> None:
    """Cropped and resized, without padding; the precision of the options is not."""
    picture = draw(100, 160, 4)
    fitted = np.asarray(Image.fromarray(picture[:, 30:130]).resize((64, 64), Image.Resampling.BICUBIC))
    cropped = measure_stability(model, made_of(picture), EncodeOptions(64, "crop", precision="bfloat16"))
    assert cropped == measure_stability(model, made_of(fitted), EncodeOptions())
    padded = measure_stability(model, made_of(draw(60, 30, 4)), EncodeOptions(60, "pad"))
    assert padded == measure_stability(model, made_of(draw(60, 30, 4)), EncodeOptions())


def test_images_that_cannot_be_compared_are_counted(model: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    sources = [*made_of(draw(64, 23), draw(24, 24)), Source("bad.png", tmp_path / "bad.png")]
    stability = measure_stability(model, sources, EncodeOptions())
    assert (stability.images, stability.skipped) == (1, 2)
    with pytest.raises(InputError, match="none of 1 images can be compared with itself: pass some of 24x24 or more"):
        measure_stability(model, sources[:1], EncodeOptions())
    with pytest.raises(InputError, match="none of 0 images"):
        measure_stability(model, [], EncodeOptions())


@pytest.mark.parametrize("downsample", [1, 2, 4, 8, 16, 32, 2048])
def test_the_least_picture(downsample: int) -> None:
    least = _least(downsample)
    assert _size(np.zeros((least, least, 3), np.uint8), downsample) is not None
    assert _size(np.zeros((least, least - 1, 3), np.uint8), downsample) is None


def test_an_error_of_the_sources_comes_through(model: Tokenizer, tmp_path: Path) -> None:
    def sources() -> Iterator[Source]:
        yield Source("a.png", save(tmp_path / "a.png", draw(64, 64)))
        raise InputError("gone")

    with pytest.raises(InputError, match=r"^gone$"):
        measure_stability(model, sources(), EncodeOptions())
