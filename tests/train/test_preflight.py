"""What is told of a run before it starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.conftest import draw, save
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.train import preflight


def test_sizes_of_the_images(quick: TrainConfig, photos: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, val_images=0), [photos])
    look = preflight.look_at_images(plan, thoroughly=False)
    assert look == preflight.ImageSample(24, ((48, 72), (64, 64), (80, 56)), ())
    assert look == preflight.look_at_images(plan, thoroughly=True)


def test_only_a_sample_is_looked_at(quick: TrainConfig, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_LOOKED_AT", 5)
    plan = train.plan_run(dataclasses.replace(quick, val_images=0), [photos])
    assert preflight.look_at_images(plan, thoroughly=True).looked_at == 6


def test_unreadable_images_are_found(quick: TrainConfig, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", draw(40, 50, number))
    (tmp_path / "text.png").write_text("no image")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    plan = train.plan_run(dataclasses.replace(quick, val_images=0), [tmp_path])
    headers = preflight.look_at_images(plan, thoroughly=False)
    assert headers.unreadable == (("text.png", "not an image, or of an unknown format"),)
    assert headers.sizes == ((40, 50),) * 3
    pixels = preflight.look_at_images(plan, thoroughly=True)
    assert [name for name, _ in pixels.unreadable] == ["cut.png", "text.png"]


def test_no_image_can_be_read(quick: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    plan = train.plan_run(quick_on_training_images(quick), [tmp_path])
    assert preflight.look_at_images(plan, thoroughly=True).sizes == ()
    assert preflight.estimate_cost(plan) is None


def quick_on_training_images(quick: TrainConfig) -> TrainConfig:
    return dataclasses.replace(quick, val_images=0)


def test_what_a_budget_of_steps_takes(quick: TrainConfig, photos: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=100), [photos])
    estimate = preflight.estimate_cost(plan)
    assert estimate is not None
    assert estimate.steps == 100
    assert estimate.epochs == 100 * 8 / 20
    assert 0 < estimate.seconds_per_step < 60
    assert estimate.seconds == 100 * estimate.seconds_per_step
    assert estimate.peak_memory_mb is None or estimate.peak_memory_mb > 10


def test_what_fits_into_a_budget_of_minutes(quick: TrainConfig, photos: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=None, minutes=2.0, workers=2, grad_accum=2), [photos])
    estimate = preflight.estimate_cost(plan)
    assert estimate is not None
    assert estimate.steps == int(120 / estimate.seconds_per_step)
    assert estimate.epochs == estimate.steps * 16 / 20
    assert 0 < estimate.seconds <= 120


def test_the_time_runs_out_on_a_slow_machine(quick: TrainConfig, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_TRAINING_SECONDS", 0.0)
    taken = []
    plain = preflight.Learner.step
    monkeypatch.setattr(
        preflight.Learner, "step", lambda learner, *rest: taken.append(learner) or plain(learner, *rest)
    )
    assert preflight.estimate_cost(train.plan_run(quick, [photos])) is not None
    assert len(taken) == 1


def test_random_numbers_and_files_stay(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(quick, [photos])
    before = torch.get_rng_state()
    names = sorted(photos.rglob("*"))
    preflight.estimate_cost(plan)
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(photos.rglob("*")) == names


@pytest.mark.parametrize(("side", "codes"), [(64, 64), (16, 16)])
def test_codes_that_the_images_can_fill(quick: TrainConfig, tmp_path: Path, side: int, codes: int) -> None:
    for number in range(8):
        save(tmp_path / f"{number}.png", draw(side, side, number))
    plan = train.plan_run(dataclasses.replace(quick, val_images=0, image_size=16), [tmp_path])
    assert plan.tokens == 8 * (side // 8) ** 2
    assert plan.codes == codes
