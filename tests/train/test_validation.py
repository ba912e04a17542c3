"""Which images are kept for validation, and the batches that they make."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image

from tests.conftest import draw, save
from tokenizer import jobs, report
from tokenizer.codec import EncodeOptions
from tokenizer.images import Source, placement_of, read_image
from tokenizer.inputs import find_images
from tokenizer.models import load_checkpoint, locate_checkpoint
from tokenizer.train import validation_batches
from tokenizer.train.evaluation import evaluate
from tokenizer.train.validation import split_validation


def test_split_is_fixed_by_the_seed_and_loses_nothing(photos: Path) -> None:
    sources = find_images([photos])
    train, validation = split_validation(sources, 5, seed=3)
    assert len(validation) == 5
    assert {s.name for s in train} | {s.name for s in validation} == {s.name for s in sources}
    assert len(train) + 5 == len(sources)
    assert split_validation(sources, 5, seed=3) == (train, validation)
    assert split_validation(sources, 5, seed=4)[1] != validation


def test_validation_images_are_cut_not_resized(tmp_path: Path) -> None:
    pixels = draw(45, 61)
    sources = [Source("a", save(tmp_path / "a.png", pixels)), Source("bad", tmp_path / "missing.png")]
    sources.append(Source("large", save(tmp_path / "b.png", draw(600, 700))))
    unreadable: dict[str, str] = {}
    small, large = validation_batches(sources, 16, 4, (255, 255, 255), unreadable)
    assert torch.equal(small[0, 0], torch.from_numpy(pixels[6:38, 14:46].copy()))
    assert large.shape == (1, 4, 256, 256, 3)
    assert unreadable == {"bad": "it does not exist, or is a link to nothing"}


@pytest.mark.parametrize(
    ("size", "side", "places"),
    [
        ((160, 213), 160, [(0, 26)]),
        ((256, 256), 256, [(0, 0)]),
        ((512, 512), 256, [(0, 0), (0, 256), (256, 0), (256, 256)]),
        ((512, 768), 256, [(0, 64), (0, 448), (256, 64), (256, 448)]),
        ((300, 400), 144, [(3, 28), (3, 228), (153, 28), (153, 228)]),
        ((300, 700), 144, [(3, 103), (3, 453), (153, 103), (153, 453)]),
        ((100, 1200), 96, [(2, 102), (2, 402), (2, 702), (2, 1002)]),
        ((1500, 1000), 256, [(247, 122), (247, 622), (997, 122), (997, 622)]),
    ],
)
def test_tiles_are_spread_evenly_over_a_large_image(
    tmp_path: Path, size: tuple[int, int], side: int, places: list[tuple[int, int]]
) -> None:
    pixels = draw(*size)
    (batch,) = validation_batches([Source("a", save(tmp_path / "a.png", pixels))], 16, 1, (255, 255, 255), {})
    assert batch.shape == (1, len(places), side, side, 3)
    for tile, (top, left) in zip(batch[0].numpy(), places, strict=True):
        assert (tile == pixels[top : top + side, left : left + side]).all()


def test_batches_hold_whole_images_of_as_many_tiles(tmp_path: Path) -> None:
    sizes = [(512, 512), (64, 64), (512, 512), (64, 64), (512, 512)]
    sources = [Source(str(n), save(tmp_path / f"{n}.png", draw(*size, n))) for n, size in enumerate(sizes)]
    shapes = [tuple(batch.shape[:3]) for batch in validation_batches(sources, 16, 8, (255, 255, 255), {})]
    assert shapes == [(2, 4, 256), (1, 4, 256), (2, 1, 64)]


def test_validation_images_are_of_the_size_at_which_they_will_be_encoded(tmp_path: Path) -> None:
    large = Source("large", save(tmp_path / "large.png", draw(700, 1000)))
    small = Source("small", save(tmp_path / "small.png", draw(100, 90)))
    (batch,) = validation_batches([large, small], 16, 2, (255, 255, 255), {}, encode_size=128)
    assert batch.shape == (2, 1, 128, 128, 3)
    for tile, source in zip(batch[:, 0].numpy(), (large, small), strict=True):
        decoded = read_image(Path(str(source.file)))
        placement = placement_of((decoded.shape[0], decoded.shape[1]), "crop", 128, 16)
        assert (tile == placement.apply(decoded)).all()
    (batch,) = validation_batches([large], 16, 2, (255, 255, 255), {}, encode_size=600)
    assert batch.shape == (1, 4, 256, 256, 3)


@pytest.mark.slow
@pytest.mark.parametrize("encode_size", [None, 320])
def test_the_figure_of_training_is_near_that_of_what_is_encoded(tmp_path: Path, encode_size: int | None) -> None:
    """Of squares, which the tiles cover; of elongated images they show a part, which says less of a single one."""
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        pixels = getattr(skimage.data, name)()
        side, left = pixels.shape[0], (pixels.shape[1] - pixels.shape[0]) // 2
        save(tmp_path / f"photos/{name}.png", pixels[:, left : left + side])
    options = EncodeOptions(image_size=encode_size)
    for _ in jobs.encode(tmp_path / "photos", tmp_path / "tokens.safetensors", "photo-f8", options):
        pass
    plan = report.plan_reports(tmp_path / "tokens.safetensors", tmp_path / "photos", "photo-f8")
    (section,) = report.build_reports(plan)
    assert section.report.quality is not None
    wanted = section.report.quality.psnr
    model = load_checkpoint(locate_checkpoint("photo-f8"))
    sources = find_images([tmp_path / "photos"])
    batches = validation_batches(sources, model.downsample, 8, (255, 255, 255), {}, encode_size)
    assert evaluate(model, batches).psnr == pytest.approx(wanted, abs=0.2)


def test_no_readable_validation_image(tmp_path: Path) -> None:
    assert validation_batches([Source("gone", tmp_path / "gone.png")], 16, 4, (255, 255, 255), {}) == []


@pytest.mark.parametrize("validation", [1, 3])
def test_validation_images_that_are_all_damaged_are_drawn_anew(photos: Path, tmp_path: Path, validation: int) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    sources = find_images([tmp_path])
    _, first = split_validation(sources, validation, seed=0)
    for source in first:
        Path(str(source.file)).write_bytes(b"no image")
    train, second = split_validation(sources, validation, seed=0)
    assert len(second) == validation
    assert {source.name for source in first} <= {source.name for source in train}
    Path(str(first[0].file)).write_bytes(Path(str(second[0].file)).read_bytes())
    assert split_validation(sources, validation, seed=0)[1] == first


def test_no_or_only_damaged_images_are_split(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    sources = find_images([tmp_path])
    assert split_validation(sources, 0, seed=0) == (list(sources), [])
    train, validation = split_validation(sources, 4, seed=0)
    assert (len(train), len(validation)) == (11, 4)


def test_an_image_smaller_than_one_position_is_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (3, 5), "red").save(tmp_path / "a.png")
    (batch,) = validation_batches([Source("a", tmp_path / "a.png")], 16, 4, (255, 255, 255), {})
    assert batch.shape == (1, 1, 16, 16, 3)
    assert batch[0, 0, 8, 8].tolist() == [255, 0, 0]
