"""The report: codebook use over several token sets, and the pictures against their originals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import skimage.metrics
import torch

from tests.conftest import draw, save
from tokenizer import checkpoint, codec
from tokenizer.errors import InputError, TokenFileError
from tokenizer.evaluate import ImageQuality, Report, measure_quality, usage_report
from tokenizer.images import Source, find
from tokenizer.metrics import DEFINITIONS
from tokenizer.model import Tokenizer
from tokenizer.placement import place
from tokenizer.token_files import Failure, Header, ImageRecord, TokenSet, bare


def placed(grid: np.ndarray, original: tuple[int, int], mode: str = "none", size: int | None = None) -> TokenSet:
    """One (h, w, C) grid of a tokenizer that divides by 8."""
    record = ImageRecord("a.png", (grid.shape[0], grid.shape[1]), place(original, mode, size, 8))
    return TokenSet(Header((record,), (Failure("b.png", "empty"),), downsample=8), (grid,))


class TestUsage:
    def test_over_several_sets(self) -> None:
        first = bare(np.array([[0, 0], [1, 2]]))
        second = bare(np.array([[[1, 1, 1, 1]], [[1, 2, 0, 5]]], np.uint8))
        report = usage_report([first, second], (8,), top=2)
        share = np.array([3, 6, 2, 1]) / 12
        entropy = -(share * np.log2(share)).sum()
        assert (report.images, report.tokens, report.codes_per_position, report.failed) == (3, 12, 1, 0)
        assert (report.used, report.dead) == (0.5, 4)
        assert report.entropy_bits == pytest.approx(entropy, rel=1e-14)
        assert report.perplexity == pytest.approx(2**entropy, rel=1e-14)
        (slot,) = report.slots
        assert slot.codebook_size == 8
        assert slot.top == ((1, 6, 0.5), (0, 3, 0.25))

    def test_several_codes_per_position(self) -> None:
        grid = np.array([[[0, 3], [0, 1], [0, 2], [0, 0]]])
        report = usage_report([placed(grid, (8, 32))], (2, 4), top=1)
        assert (report.tokens, report.codes_per_position) == (8, 2)
        assert (report.used, report.dead) == (1 - 1 / 6, 1)
        assert [slot.entropy_bits for slot in report.slots] == [0, 2]
        assert [slot.perplexity for slot in report.slots] == [1, 4]
        assert [slot.dead for slot in report.slots] == [1, 0]
        assert (report.entropy_bits, report.perplexity) == (1, 2)
        assert report.bits_per_pixel == (4 * 1 + 4 * 2) / (8 * 32)

    def test_bits_per_pixel_leave_padding_out(self) -> None:
        grid = np.zeros((2, 3, 1), int)
        assert usage_report([placed(grid, (9, 17))], (16,), 0).bits_per_pixel == 6 * 4 / (9 * 17)
        assert usage_report([placed(np.zeros((4, 4, 1), int), (50, 100), "pad", 32)], (16,), 0).bits_per_pixel == (
            16 * 4 / (16 * 32)
        )
        sets = [placed(grid, (9, 17)), placed(grid, (16, 24))]
        assert usage_report(sets, (5,), 0).bits_per_pixel == pytest.approx(12 * math.log2(5) / (9 * 17 + 16 * 24))

    def test_bare_arrays_have_no_rate(self) -> None:
        array = np.zeros((2, 3), int)
        assert usage_report([bare(array)], (16,), 0).bits_per_pixel is None
        assert usage_report([placed(array[..., None], (16, 24)), bare(array)], (16,), 0).bits_per_pixel is None

    def test_failures_are_counted(self) -> None:
        grid = np.zeros((1, 1, 1), int)
        assert usage_report([placed(grid, (8, 8))] * 3, (2,), 0).failed == 3

    def test_no_tokens(self) -> None:
        report = usage_report([], (4, 4), 1)
        assert (report.images, report.tokens, report.used, report.dead, report.entropy_bits) == (0, 0, 0, 8, 0)
        assert (report.perplexity, report.bits_per_pixel) == (1, None)

    def test_tokens_outside_the_alphabet(self) -> None:
        with pytest.raises(TokenFileError, match=r"token 4 at row 0 \(0, 1\) is outside 0\.\.3"):
            usage_report([bare(np.array([[0, 4]]))], (4,), 0)
        with pytest.raises(TokenFileError, match="1 codes per position, the model 2"):
            usage_report([bare(np.array([[0, 4]]))], (4, 4), 0)

    def test_alphabets_that_do_not_fit_into_memory(self) -> None:
        with pytest.raises(InputError, match="there are 1099511627776 codes to count, at most 134217728 fit"):
            usage_report([bare(np.array([[0]]))], (2**40,), 0)

    def test_as_plain_values(self) -> None:
        report = usage_report([placed(np.array([[[1]]]), (8, 8))], (2,), 1)
        values = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert values["definitions"] == DEFINITIONS
        assert values["version"] == 1
        assert values["perplexity"] == 1
        assert values["slots"][0]["top"] == [[1, 1, 1.0]]
        assert values["quality"] is None
        assert "psnr" not in values
        assert {key for key in DEFINITIONS if key not in ("psnr", "ssim")} <= set(values)


@pytest.fixture(scope="module")
def model(run: Path) -> Tokenizer:
    return checkpoint.load(run)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("originals")
    for number, (height, width) in enumerate([(24, 33), (30, 17), (9, 40), (16, 16)]):
        save(folder / f"{number}.png", draw(height, width, number))
    return {source.name: source for source in find([folder])}


def encoded(model: Tokenizer, pictures: dict[str, Source], mode: str = "none", size: int | None = None) -> TokenSet:
    options = codec.EncodeOptions(size, mode, workers=1)
    results = codec.encode(model, pictures.values(), options)
    return codec.collect(results, codec.header(model, "f", options))


def decoded(model: Tokenizer, grid: np.ndarray) -> np.ndarray:
    """The canvas as rounded 8-bit pixels, without the codec."""
    image = model.decode(torch.from_numpy(grid)[None])[0].permute(1, 2, 0).double().numpy()
    return np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)


class TestQuality:
    def test_against_an_independent_computation(self, model: Tokenizer, pictures: dict[str, Source]) -> None:
        tokens = encoded(model, pictures)
        quality = measure_quality(model, [tokens], pictures)
        decibels, similarities = [], []
        for number, (height, width) in enumerate([(24, 33), (30, 17), (9, 40), (16, 16)]):
            original = draw(height, width, number)
            back = decoded(model, tokens.grids[number])[:height, :width]
            decibels.append(skimage.metrics.peak_signal_noise_ratio(original, back, data_range=255))
            similar = (
                skimage.metrics.structural_similarity(
                    original,
                    back,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    channel_axis=-1,
                    data_range=255,
                )
                if min(height, width) >= 11
                else None
            )
            similarities.append(similar)
            assert quality.images[number].name == f"{number}.png"
            assert quality.images[number].psnr == pytest.approx(decibels[-1], abs=1e-9)
            assert quality.images[number].ssim == pytest.approx(similar, abs=1e-7)
        assert similarities[2] is None
        assert quality.psnr == pytest.approx(np.mean(decibels), abs=1e-9)
        assert quality.ssim == pytest.approx(np.mean([s for s in similarities if s is not None]), abs=1e-7)
        assert (quality.exact, quality.missing) == (0, ())

    @pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
    def test_compares_what_the_network_saw(self, model: Tokenizer, pictures: dict[str, Source], mode: str) -> None:
        tokens = encoded(model, pictures, mode, 32)
        quality = measure_quality(model, [tokens], pictures)
        for number, (record, grid) in enumerate(zip(tokens.header.images, tokens.grids, strict=True)):
            placement = record.placement
            assert placement is not None
            (top, left), (height, width) = placement.offset, placement.content
            wanted = placement.apply(draw(*placement.original, number))[top : top + height, left : left + width]
            back = decoded(model, grid)[top : top + height, left : left + width]
            error = np.square(wanted.astype(float) - back).mean()
            assert quality.images[number].psnr == pytest.approx(10 * math.log10(65025 / error), abs=1e-9)

    def test_over_several_sets(self, model: Tokenizer, pictures: dict[str, Source]) -> None:
        whole = measure_quality(model, [encoded(model, pictures)], pictures)
        parts = [encoded(model, {name: source}) for name, source in pictures.items()]
        split = measure_quality(model, parts, pictures)
        assert [image.name for image in split.images] == [image.name for image in whole.images]
        assert split.psnr == pytest.approx(whole.psnr, abs=1e-3)

    def test_names_without_an_original(self, model: Tokenizer, pictures: dict[str, Source]) -> None:
        tokens = encoded(model, pictures)
        some = {"1.png": pictures["1.png"], "other.png": pictures["2.png"]}
        quality = measure_quality(model, [tokens], some)
        assert quality.missing == ("0.png", "2.png", "3.png")
        assert [image.name for image in quality.images] == ["1.png"]
        assert quality.images == (measure_quality(model, [tokens], pictures).images[1],)
        with pytest.raises(InputError, match=r"none of the 4 names in the token file, such as 0\.png, is among"):
            measure_quality(model, [tokens], {})

    def test_an_original_of_another_size(self, model: Tokenizer, pictures: dict[str, Source]) -> None:
        tokens = encoded(model, pictures)
        with pytest.raises(InputError, match=r"^0\.png is 17x30 pixels, it was not when encoded$"):
            measure_quality(model, [tokens], {**pictures, "0.png": pictures["1.png"]})

    def test_an_original_that_cannot_be_read(
        self, model: Tokenizer, pictures: dict[str, Source], tmp_path: Path
    ) -> None:
        broken = Source("0.png", tmp_path / "gone.png")
        with pytest.raises(InputError, match=r"^cannot read 0\.png: it does not exist"):
            measure_quality(model, [encoded(model, pictures)], {"0.png": broken})

    def test_tokens_that_do_not_say_how_the_image_was_fitted(
        self, model: Tokenizer, pictures: dict[str, Source]
    ) -> None:
        tokens = bare(encoded(model, pictures).grids[0][..., 0])
        with pytest.raises(InputError, match="do not say how the image was fitted"):
            measure_quality(model, [tokens], {"000000": pictures["0.png"]})

    def test_pictures_without_error_are_counted_apart(self, model: Tokenizer, tmp_path: Path) -> None:
        grid = np.zeros((2, 2, 1), int)
        save(tmp_path / "a.png", decoded(model, grid))
        save(tmp_path / "b.png", 255 - decoded(model, grid))
        records = tuple(ImageRecord(name, (2, 2), place((16, 16), "none", None, 8)) for name in ("a.png", "b.png"))
        originals = {source.name: source for source in find([tmp_path])}
        quality = measure_quality(model, [TokenSet(Header(records), (grid, grid))], originals)
        assert quality.exact == 1
        assert quality.images[0] == ImageQuality("a.png", None, pytest.approx(1, abs=1e-12))
        assert quality.psnr == quality.images[1].psnr
        only = measure_quality(model, [TokenSet(Header(records[:1]), (grid,))], originals)
        assert (only.psnr, only.exact) == (None, 1)

    def test_in_the_report(self, model: Tokenizer, pictures: dict[str, Source]) -> None:
        tokens = encoded(model, pictures)
        quality = measure_quality(model, [tokens], pictures)
        report = usage_report([tokens], model.codebook_sizes, 0, quality)
        assert isinstance(report, Report)
        values = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert (values["psnr"], values["ssim"]) == (quality.psnr, quality.ssim)
        assert [image["name"] for image in values["quality"]["images"]] == list(pictures)
        assert set(DEFINITIONS) <= set(values)
