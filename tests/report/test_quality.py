"""The pictures against their originals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import skimage.metrics
import torch
from torchvision.models import alexnet

from tests.conftest import draw, save
from tokenizer import codec
from tokenizer.errors import InputError
from tokenizer.images import Source, placement_of
from tokenizer.inputs import find_images
from tokenizer.metrics import DEFINITIONS, ms_ssim
from tokenizer.models import Tokenizer, load_checkpoint
from tokenizer.perceptual import Lite0Scores
from tokenizer.report import (
    FlatAreas,
    ImageQuality,
    Report,
    figure_lines,
    measure_flat_areas,
    measure_quality,
    usage_report,
)
from tokenizer.report.baselines import BASELINE_FORMATS, BaselineScores
from tokenizer.report.pretrained import Lpips
from tokenizer.tokens import Header, ImageRecord, TokenSet, headerless_tokens


@pytest.fixture(scope="module")
def model(run: Path) -> Tokenizer:
    return load_checkpoint(run)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("originals")
    for number, (height, width) in enumerate([(24, 33), (30, 17), (9, 40), (16, 16)]):
        save(folder / f"{number}.png", draw(height, width, number))
    return {source.name: source for source in find_images([folder])}


def encoded(model: Tokenizer, pictures: dict[str, Source], mode: str = "none", size: int | None = None) -> TokenSet:
    options = codec.EncodeOptions(size, mode, workers=1)
    results = codec.encode_images(model, pictures.values(), options)
    return codec.collect_tokens(results, codec.token_header(model, "f", options))


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
        for number, (record, grid) in enumerate(zip(tokens.images, tokens.grids, strict=True)):
            placement = record.placement
            assert placement is not None
            (top, left), (height, width) = placement.offset, placement.content
            wanted = placement.apply(draw(*placement.original, number))[top : top + height, left : left + width]
            back = decoded(model, grid)[top : top + height, left : left + width]
            error = np.square(wanted.astype(float) - back).mean()
            assert quality.images[number].psnr == pytest.approx(10 * math.log10(65025 / error), abs=1e-9)

    @pytest.mark.parametrize(("mode", "size"), [("none", None), ("pad", 44)])
    def test_flat_areas_on_the_grid_of_the_canvas(
        self, model: Tokenizer, tmp_path: Path, mode: str, size: int | None
    ) -> None:
        """Gray pictures are flat everywhere; one of 32x44 in a square of 44 lies 6 pixels below the canvas's edge."""
        for name, level in (("a.png", 90), ("b.png", 140)):
            save(tmp_path / name, np.full((32, 44, 3), level, np.uint8))
        sources = {source.name: source for source in find_images([tmp_path])}
        tokens = encoded(model, sources, mode, size)
        kept: list[FlatAreas] = []
        for record, grid in zip(tokens.images, tokens.grids, strict=True):
            assert record.placement is not None
            assert record.placement.offset == ((6, 0) if mode == "pad" else (0, 0))
            made = record.placement.content_of(decoded(model, grid))
            original = np.full((32, 44, 3), 90 if record.name == "a.png" else 140, np.uint8)
            kept.append(measure_flat_areas(original, made, 8, record.placement.offset))
        quality = measure_quality(model, [tokens], sources)
        for image, areas in zip(quality.images, kept, strict=True):
            assert (image.flat_share, image.flat_psnr) == (1, pytest.approx(areas.psnr, abs=1e-2))
            assert (image.blocking, image.patchwork) == pytest.approx((areas.blocking, areas.patchwork), rel=1e-2)
        together = kept[0] + kept[1]
        assert (quality.flat_share, quality.flat_psnr) == (1, pytest.approx(together.psnr, abs=1e-2))
        assert (quality.blocking, quality.patchwork) == pytest.approx((together.blocking, together.patchwork), rel=1e-2)

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
        tokens = headerless_tokens(encoded(model, pictures).grids[0][..., 0])
        with pytest.raises(InputError, match="do not say how the image was fitted"):
            measure_quality(model, [tokens], {"000000": pictures["0.png"]})

    def test_pictures_without_error_are_counted_apart(self, model: Tokenizer, tmp_path: Path) -> None:
        grid = np.zeros((2, 2, 1), int)
        save(tmp_path / "a.png", decoded(model, grid))
        save(tmp_path / "b.png", 255 - decoded(model, grid))
        records = tuple(
            ImageRecord(name, (2, 2), placement_of((16, 16), "none", None, 8)) for name in ("a.png", "b.png")
        )
        originals = {source.name: source for source in find_images([tmp_path])}
        quality = measure_quality(model, [TokenSet(Header(), records, (grid, grid))], originals)
        assert quality.exact == 1
        flat = {key: getattr(quality.images[0], key) for key in ("flat_share", "blocking", "patchwork")}
        assert quality.images[0] == ImageQuality("a.png", None, pytest.approx(1, abs=1e-12), **flat)
        assert quality.psnr == quality.images[1].psnr
        only = measure_quality(model, [TokenSet(Header(), records[:1], (grid,))], originals)
        assert (only.psnr, only.exact) == (None, 1)

    def test_in_the_report(self, model: Tokenizer, pictures: dict[str, Source]) -> None:
        tokens = encoded(model, pictures)
        quality = measure_quality(model, [tokens], pictures)
        report = usage_report([tokens], model.codebook_sizes, 0, quality)
        assert isinstance(report, Report)
        values = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert (values["psnr"], values["ssim"]) == (quality.psnr, quality.ssim)
        assert [image["name"] for image in values["quality"]["images"]] == list(pictures)
        assert {name: DEFINITIONS[name] for name in ("psnr", "ssim")}.items() <= values["definitions"].items()


class TestMore:
    """MS-SSIM, LPIPS, rFID and other formats, on pictures large enough for one of them or for all."""

    SIZES = ((40, 33), (176, 180), (16, 48))

    @pytest.fixture(scope="class")
    @staticmethod
    def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
        folder = tmp_path_factory.mktemp("large")
        for number, (height, width) in enumerate(TestMore.SIZES):
            save(folder / f"{number}.png", draw(height, width, number))
        return {source.name: source for source in find_images([folder])}

    def test_ms_ssim(self, model: Tokenizer, large: dict[str, Source]) -> None:
        tokens = encoded(model, large)
        made: list[np.ndarray] = []
        quality = measure_quality(model, [tokens], large, keep=lambda _name, _original, pixels: made.append(pixels))
        # Roundings of float32, which differ between layouts in memory, move a pixel by one at most.
        expected = decoded(model, tokens.grids[1])[:176, :180]
        assert np.abs(made[1].astype(int) - expected).max() <= 1
        assert [image.ms_ssim for image in quality.images] == [None, ms_ssim(draw(176, 180, 1), made[1]), None]
        assert quality.ms_ssim == quality.images[1].ms_ssim
        assert (quality.lpips, quality.lpips_network, quality.rfid, quality.baselines) == (None, None, None, ())

    @pytest.mark.slow
    def test_lpips(self, model: Tokenizer, large: dict[str, Source], tmp_path: Path) -> None:
        state = alexnet(weights=None).features.state_dict()
        torch.save({f"features.{name}": tensor for name, tensor in state.items()}, tmp_path / "a.pth")
        tokens = encoded(model, large)
        quality = measure_quality(model, [tokens], large, lpips_weights=tmp_path / "a.pth")
        lpips = Lpips(tmp_path / "a.pth", torch.device("cpu"))
        distances = [
            lpips(draw(*size, number), decoded(model, tokens.grids[number])[: size[0], : size[1]])
            for number, size in enumerate(self.SIZES)
        ]
        assert distances[2] is None
        assert [image.lpips for image in quality.images[:2]] == pytest.approx(distances[:2], rel=1e-3)
        assert quality.lpips == pytest.approx(np.mean(distances[:2]), rel=1e-3)
        assert quality.lpips_network == "alexnet"

    def test_rfid(
        self, model: Tokenizer, large: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Counted:
            def __init__(self, path: Path, device: torch.device) -> None:
                assert (path, device) == (tmp_path / "a.pth", torch.device("cpu"))
                self.errors: list[float] = []

            def add(self, original: np.ndarray, made: np.ndarray) -> None:
                self.errors.append(float(np.square(original.astype(float) - made).mean()))

            def distance(self) -> float:
                return sum(self.errors)

        monkeypatch.setattr("tokenizer.report.pretrained.Frechet", Counted)
        quality = measure_quality(model, [encoded(model, large)], large, inception_weights=tmp_path / "a.pth")
        errors = [65025 / 10 ** (image.psnr / 10) for image in quality.images if image.psnr]
        assert quality.rfid == pytest.approx(sum(errors), rel=1e-9)

    def test_what_a_classifier_sees(self, model: Tokenizer, large: dict[str, Source]) -> None:
        tokens = encoded(model, large)
        made: list[np.ndarray] = []
        quality = measure_quality(
            model, [tokens], large, perceptual=True, keep=lambda _name, _original, pixels: made.append(pixels)
        )
        scores = Lite0Scores(torch.device("cpu"))
        seen = [scores.add(draw(*size, number), made[number]) for number, size in enumerate(self.SIZES)]
        assert seen[0] is not None
        assert seen[1] is not None
        assert seen[2] is None, "a side of 16 pixels is too short"
        found = [(image.lite0_distance, image.recognized_alike) for image in quality.images]
        assert found == [(seen[0].distance, seen[0].alike), (seen[1].distance, seen[1].alike), (None, None)]
        assert quality.lite0_distance == pytest.approx((seen[0].distance + seen[1].distance) / 2)
        assert (quality.lite0_frechet, quality.recognized_alike) == (scores.frechet, scores.recognized_alike)
        values = usage_report([tokens], model.codebook_sizes, 0, quality).to_json()
        for key in ("lite0_distance", "lite0_frechet", "recognized_alike"):
            assert values[key] == values["quality"][key] == getattr(quality, key)
            assert values["definitions"][key] == DEFINITIONS[key]
        titles = [line.title for line in figure_lines([("a", usage_report([tokens], (32,), 0, quality))])]
        assert {"Lite0 distance", "Lite0 Frechet", "recognized alike"} <= set(titles)

    def test_baselines(self, model: Tokenizer, large: dict[str, Source]) -> None:
        tokens = encoded(model, large)
        quality = measure_quality(model, [tokens], large, baselines=True)
        for kind, baseline in zip(BASELINE_FORMATS, quality.baselines, strict=True):
            scores = BaselineScores(kind)
            for number, (height, width) in enumerate(self.SIZES):
                scores.add(draw(height, width, number), 5 * math.ceil(height / 8) * math.ceil(width / 8))
            assert baseline == scores.result()
            assert not baseline.reached

    def test_pictures_are_handed_on(self, model: Tokenizer, large: dict[str, Source]) -> None:
        tokens = encoded(model, large, "pad", 32)
        kept: list[tuple[str, np.ndarray, np.ndarray]] = []
        quality = measure_quality(model, [tokens], large, keep=lambda *pictures: kept.append(pictures))
        assert [name for name, _, _ in kept] == list(large)
        for record, grid, (_, original, made), image in zip(
            tokens.images, tokens.grids, kept, quality.images, strict=True
        ):
            assert record.placement is not None
            assert original.shape == made.shape == (*record.placement.content, 3)
            np.testing.assert_array_equal(made, record.placement.content_of(decoded(model, grid)))
            assert image.psnr == pytest.approx(
                skimage.metrics.peak_signal_noise_ratio(original, made, data_range=255), abs=1e-9
            )

    def test_in_the_report(self, model: Tokenizer, large: dict[str, Source]) -> None:
        tokens = encoded(model, large)
        quality = measure_quality(model, [tokens], large, baselines=True)
        values = usage_report([tokens], model.codebook_sizes, 0, quality).to_json()
        values = json.loads(json.dumps(values, allow_nan=False))
        assert values["ms_ssim"] == quality.ms_ssim
        assert [baseline["name"] for baseline in values["quality"]["baselines"]] == ["JPEG", "WebP"]
        assert {"ms_ssim", "lpips", "rfid", "baselines"} <= set(values["definitions"])

    @pytest.mark.parametrize("argument", ["lpips_weights", "inception_weights"])
    def test_weights_are_looked_at_first(
        self, model: Tokenizer, tmp_path: Path, argument: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        with pytest.raises(
            InputError, match=r"^cannot read the weights of .*gone\.pth: No such file or directory: get "
        ):
            measure_quality(model, [], {}, **{argument: tmp_path / "gone.pth"})
