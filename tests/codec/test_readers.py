"""Images come in order, fitted; JPEG files that become much smaller are decoded small."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from tests.codec.conftest import as_file, drawn
from tests.conftest import draw
from tokenizer.codec import EncodeOptions, PixelBudget, Unreadable, read_ahead, readers
from tokenizer.codec.readers import Fitted
from tokenizer.images import ImageFile, Source, placement_of, read_image
from tokenizer.metrics import psnr

WHITE = (255, 255, 255)
PLENTY = 2**40


def fitted(file: ImageFile, **options: Any) -> Fitted:
    (result,) = read_ahead([Source("x", file)], 8, EncodeOptions(**options), PixelBudget(PLENTY))
    assert isinstance(result, Fitted)
    return result


def in_full(file: ImageFile, **options: Any) -> np.ndarray:
    """The canvas without reduced decoding."""
    pixels = read_image(file)
    return placement_of(pixels.shape[:2], options["resize_mode"], options["image_size"], 8).apply(pixels)


class TestOrder:
    def test_the_last_to_be_ready_is_the_first_to_come(self) -> None:
        others = threading.Barrier(4, timeout=10)

        def slow() -> np.ndarray:
            others.wait()
            return draw(8, 8)

        def quick() -> np.ndarray:
            others.wait()
            return draw(16, 16)

        sources = [Source("0", slow), *(Source(str(number), quick) for number in range(1, 4))]
        results = read_ahead(sources, 8, EncodeOptions(workers=4), PixelBudget(PLENTY))
        assert [result.source.name for result in results] == ["0", "1", "2", "3"]

    def test_few_are_asked_for_ahead(self) -> None:
        asked = []

        def sources() -> Any:
            for source in drawn(*[(8, 8)] * 50):
                asked.append(source)
                yield source

        results = read_ahead(sources(), 8, EncodeOptions(workers=3), PixelBudget(PLENTY))
        for number, _ in enumerate(results):
            assert len(asked) <= number + 6

    def test_what_cannot_be_read_is_in_its_place(self, tmp_path: Path) -> None:
        good, other = drawn((8, 8), (9, 9))
        sources = [good, Source("bad", io.BytesIO(b"no")), other, Source("gone", tmp_path / "gone.png")]
        budget = PixelBudget(PLENTY)
        first, bad, second, gone = read_ahead(sources, 8, EncodeOptions(), budget)
        assert isinstance(first, Fitted)
        assert isinstance(second, Fitted)
        assert isinstance(bad, Unreadable)
        assert isinstance(gone, Unreadable)
        assert bad.source is sources[1]
        assert bad.failure.name == "bad"
        assert bad.failure.reason == "not an image, or of an unknown format"
        assert gone.failure.reason == "it does not exist, or is a link to nothing"
        assert budget.held == 64 + 256  # their canvases

    def test_no_memory_for_a_canvas_is_no_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def greedy(size: tuple[int, int], *others: Any) -> Any:
            if size == (9, 9):
                raise MemoryError
            return placement_of(size, *others)

        monkeypatch.setattr(readers, "placement_of", greedy)
        budget = PixelBudget(PLENTY)
        first, bad, last = read_ahead(drawn((8, 8), (9, 9), (8, 8)), 8, EncodeOptions(), budget)
        assert isinstance(first, Fitted)
        assert isinstance(last, Fitted)
        assert isinstance(bad, Unreadable)
        assert bad.failure.reason == "it needs more memory than there is"
        assert budget.held == 128


class TestFrames:
    @pytest.mark.parametrize(
        ("kind", "frames", "has_more"),
        [(kind, 2, True) for kind in ("AVIF", "GIF", "PNG", "TIFF", "WEBP")]
        + [(kind, 1, False) for kind in ("AVIF", "GIF", "PNG", "TIFF", "WEBP", "JPEG")]
        + [("MPO", 2, False)],
    )
    def test_who_has_more(self, kind: str, frames: int, has_more: bool) -> None:
        made = [Image.fromarray(draw(24, 24, seed)) for seed in range(frames)]
        buffer = io.BytesIO()
        made[0].save(buffer, kind, **({"save_all": True, "append_images": made[1:]} if frames > 1 else {}))
        assert fitted(buffer).has_more == has_more

    def test_a_damaged_second_frame_is_no_loss(self) -> None:
        made = [Image.fromarray(draw(24, 24, seed)).quantize() for seed in range(2)]
        buffer = io.BytesIO()
        made[0].save(buffer, "GIF", save_all=True, append_images=made[1:])
        whole = fitted(io.BytesIO(buffer.getvalue())).canvas
        for cut in range(1, 400, 7):
            np.testing.assert_array_equal(fitted(io.BytesIO(buffer.getvalue()[:-cut])).canvas, whole)


class TestBudget:
    def test_is_held_for_the_canvas_alone_once_that_is_there(self) -> None:
        budget = PixelBudget(PLENTY)
        options = EncodeOptions(image_size=16, resize_mode="pad")
        truncated = as_file(draw(100, 100)).getvalue()[:-2000]
        sources = [*drawn((100, 100)), Source("cut", io.BytesIO(truncated))]
        assert [type(result) for result in read_ahead(sources, 8, options, budget)] == [Fitted, Unreadable]
        assert budget.held == 256

    def test_large_images_go_one_by_one(self) -> None:
        budget, most = PixelBudget(1000), 0
        sources = drawn(*[(40, 40)] * 12)
        for result in read_ahead(sources, 8, EncodeOptions(workers=4), budget):
            assert isinstance(result, Fitted)
            most = max(most, budget.held)
            budget.give(result.pixels)
        assert most == 1600
        assert budget.held == 0

    @pytest.mark.parametrize(("options", "wanted"), [({}, 640 * 480 // 64), ({"progressive": True}, 640 * 480)])
    def test_a_progressive_file_is_decoded_whole(self, options: dict[str, bool], wanted: int) -> None:
        taken = []

        class Noted(PixelBudget):
            def take(self, number: int, pixels: int) -> None:
                taken.append(pixels)

        source = Source("x", as_file(draw(480, 640), "jpeg", **options))
        (result,) = read_ahead([source], 8, EncodeOptions(image_size=24, resize_mode="squash"), Noted(1))
        assert isinstance(result, Fitted)
        assert result.placement.scale == 8
        assert taken == [wanted]

    def test_who_waits_for_room_stops_with_the_reader(self) -> None:
        before = threading.active_count()
        results = read_ahead(drawn(*[(64, 64)] * 20), 8, EncodeOptions(workers=4), PixelBudget(1))
        next(results)
        results.close()
        assert threading.active_count() == before


class TestScale:
    @pytest.mark.parametrize(
        ("mode", "size", "height", "width", "scale"),
        [
            ("crop", 64, 1024, 1030, 8),
            ("crop", 64, 1023, 1030, 4),
            ("crop", 64, 255, 1030, 1),
            ("pad", 64, 304, 1024, 8),
            ("pad", 64, 304, 1023, 4),
            ("squash", 64, 256, 9000, 2),
            ("squash", 64, 127, 9000, 1),
            ("pad", 64, 1, 9000, 1),
        ],
    )
    def test_leaves_twice_what_is_needed(self, mode: str, size: int, height: int, width: int, scale: int) -> None:
        assert placement_of((height, width), mode, size, 16, (1, 2, 4, 8)).scale == scale

    @pytest.mark.parametrize(
        ("mode", "size", "scale"),
        [
            ("crop", (512, 512), 8),
            ("crop", (501, 515), 4),
            ("crop", (260, 511), 4),
            ("pad", (501, 515), 8),
            ("pad", (260, 511), 4),
            ("squash", (512, 513), 8),
            ("squash", (501, 515), 4),
        ],
    )
    def test_is_what_pillow_makes_of_it(self, mode: str, size: tuple[int, int], scale: int) -> None:
        file = as_file(skimage.data.astronaut()[: size[0], :].repeat(2, axis=1)[:, : size[1]], "jpeg", quality=95)
        result = fitted(file, image_size=32, resize_mode=mode)
        assert result.placement.scale == scale
        image = Image.open(file)
        image.draft("RGB", (size[1] // scale, size[0] // scale))
        top, left, height, width = (side / scale for side in result.placement.box)
        wanted = image.resize(
            result.placement.content[::-1], Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
        )
        made = result.placement.content_of(result.canvas).astype(int)
        # A cut at whole pixels hides what lies beyond the box; Pillow's box lets the filter see it.
        assert np.abs(made - np.asarray(wanted))[2:-2, 2:-2].max() <= (1 if mode == "crop" else 0)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [(512, 768), (509, 763)])
    def test_turned_images_lie_where_they_lay(self, orientation: int, size: tuple[int, int]) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = as_file(draw(*size), "jpeg", quality=98, exif=exif)
        options: dict[str, Any] = {"image_size": 24, "resize_mode": "squash"}
        result = fitted(file, **options)
        assert result.placement.original == (size if orientation < 5 else size[::-1])
        assert result.placement.scale == (8 if size == (512, 768) or orientation == 1 else 1)
        assert psnr(result.canvas, in_full(file, **options)) > 45

    @pytest.mark.parametrize("kind", ["L", "CMYK", "RGB", "progressive", "MPO"])
    def test_any_jpeg(self, kind: str) -> None:
        image = Image.fromarray(skimage.data.astronaut())
        buffer = io.BytesIO()
        if kind == "MPO":
            image.save(buffer, "mpo", save_all=True, append_images=[image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)])
        else:
            converted = image if kind == "progressive" else image.convert(kind)
            converted.save(buffer, "jpeg", quality=95, progressive=kind == "progressive")
        options: dict[str, Any] = {"image_size": 32, "resize_mode": "crop"}
        result = fitted(buffer, **options)
        assert result.placement.scale == 8
        assert psnr(result.canvas, in_full(buffer, **options)) > 38

    def test_never_at_native_resolution_nor_for_other_files(self) -> None:
        pixels = draw(256, 256)
        assert fitted(as_file(pixels, "jpeg")).placement.scale == 1
        np.testing.assert_array_equal(fitted(as_file(pixels, "jpeg")).canvas, read_image(as_file(pixels, "jpeg")))
        options: dict[str, Any] = {"image_size": 16, "resize_mode": "crop"}
        for file in (as_file(pixels), lambda: pixels, lambda: Image.open(as_file(pixels, "jpeg"))):
            result = fitted(file, **options)
            assert result.placement.scale == 1
            np.testing.assert_array_equal(result.canvas, in_full(file, **options))
