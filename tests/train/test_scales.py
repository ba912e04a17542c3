"""At which scales crops are drawn, as a plan says it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tests.conftest import TINY, draw, save
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import ConfigError
from tokenizer.images import Source
from tokenizer.train.scales import DataSides, crops_per_read, describe_scales, probe_sides, scale_notes

PLANNED = TrainConfig(image_size=128, crops_per_read=1)


def sides(*shorter: int, pixels: float = 512 * 768) -> DataSides:
    return DataSides(shorter, pixels)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "crops of 128 px: 75 % at the images' own scale, 25 % shrunk by up to 4.0"),
        ({"native_crops": 1.0}, "crops of 128 px: 100 % at the images' own scale"),
        ({"native_crops": 0.0}, "crops of 128 px: 100 % shrunk by up to 4.0"),
        (
            {"encode_size": 256, "native_crops": 0.5},
            "crops of 128 px: 50 % at the scale of encode --image-size 256, 50 % shrunk by up to 2.0",
        ),
        (
            {"image_size": 512, "crops_per_read": 4},
            "crops of 512 px: 75 % at the images' own scale, 25 % shrunk by up to 1.0; 4 each time an image is read",
        ),
    ],
)
def test_scales_are_said_in_one_line(settings: dict[str, float], said: str) -> None:
    assert describe_scales(dataclasses.replace(PLANNED, **settings), sides(160, 512, 700)) == said


def test_images_too_small_for_crops_at_their_own_scale_are_remarked() -> None:
    assert scale_notes(PLANNED, sides(*[100] * 8, 200, 300)) == []
    (note,) = scale_notes(PLANNED, sides(*[100] * 9, 300))
    assert note.startswith(
        "90 % of the images have a shorter side below 128 pixels: none of their crops are at the scale"
    )
    assert note.endswith("pass --image-size 100 or less")
    for silent in ({"encode_size": 128}, {"native_crops": 0.0}):
        assert scale_notes(dataclasses.replace(PLANNED, **silent), sides(100)) == []


@pytest.mark.parametrize(
    ("settings", "pixels", "images", "each"),
    [
        ({}, 160 * 213, 10**6, 1),
        ({}, 512 * 768, 900, 1),  # all of them in memory
        ({}, 512 * 768, 10**4, 2),
        ({}, 12e6, 1000, 16),
        ({}, 12e6, 20, 1),
        ({"encode_size": 512}, 12e6, 1000, 1),
        ({"encode_size": 512}, 12e6, 10**5, 11),
        ({"native_crops": 0.0, "smallest_crop": 0.5}, 12e6, 10**5, 1),
    ],
)
def test_large_images_give_several_crops_each_time_they_are_read(
    settings: dict[str, float], pixels: float, images: int, each: int
) -> None:
    config = dataclasses.replace(TrainConfig(), **settings)
    assert crops_per_read(config, sides(round((pixels * 3 / 4) ** 0.5), pixels=pixels), images) == each


def test_sides_of_a_sample(tmp_path: Path) -> None:
    for number, size in enumerate([(40, 60), (50, 50), (30, 90)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    sources = [Source(f"{n}.png", tmp_path / f"{n}.png") for n in range(4)]  # the last one is missing
    found = probe_sides(sources)
    assert found.shorter == (30, 40, 50)
    assert found.median == 40
    assert found.pixels == pytest.approx((2400 + 2500 + 2700) / 3)
    assert found.share_below(40) == pytest.approx(1 / 3)
    unknown = probe_sides(sources[3:])
    assert (unknown.median, unknown.share_below(128)) == (128, 0)


def test_a_plan_for_a_size_of_encoding(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", draw(400, 300, number))
    config = TrainConfig(network=TINY, encode_size=64)
    plan = train.plan_run(config, [tmp_path])
    assert plan.config.image_size == 64
    assert plan.tokens == 3 * (64 // 8) ** 2
    assert plan.scales.startswith("crops of 64 px: 75 % at the scale of encode --image-size 64")
    assert train.plan_run(plan.config, [tmp_path]) == plan
    with pytest.raises(ConfigError, match="image_size is 128, expected at most encode_size"):
        train.plan_run(dataclasses.replace(config, image_size=128), [tmp_path])


def test_several_folders_of_images(tmp_path: Path, quick: TrainConfig) -> None:
    for name in ("a/sky/1", "a/sky/2", "b/sea/1", "b/2"):
        save(tmp_path / f"{name}.png", draw(48, 48))
    plan = train.plan_run(dataclasses.replace(quick, val_images=0), [tmp_path / "a", tmp_path / "b"])
    assert [source.name for source in plan.train] == ["a/sky/1.png", "a/sky/2.png", "b/2.png", "b/sea/1.png"]


def test_a_run_of_before_goes_on_with_its_own_crops(run: Path, tmp_path: Path) -> None:
    (newest, *_) = sorted((run / "states").glob("*.safetensors"), reverse=True)
    with safe_open(newest, "pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["vqtok"])  # noqa: SIM118
    header["config"]["smallest_crop"] = 0.5
    for unknown in ("native_crops", "crops_per_read", "encode_size"):
        header["config"].pop(unknown, None)
    (tmp_path / "states").mkdir()
    save_file(tensors, tmp_path / "states" / newest.name, {"vqtok": json.dumps(header)})
    config = train.read_newest_state(tmp_path)[0].config
    assert (config.native_crops, config.smallest_crop, config.crops_per_read, config.encode_size) == (0, 0.5, 1, None)
