"""The loop, on drawn pictures: it learns, it can be stopped anywhere, and it goes on exactly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError, TrainingError
from tokenizer.models import fingerprint_of, load_checkpoint
from tokenizer.train import Step, TrainingState, objective


@pytest.fixture(autouse=True)
def one_thread_and_same_results() -> Iterator[None]:
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


def everything(state: TrainingState) -> dict[str, torch.Tensor]:
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"ema/{name}": value for name, value in state.ema.state_dict().items()}
    tensors |= {f"buffer/{name}": value for name, value in state.model.named_buffers()}
    for number, optimizer in enumerate(state.optimizers):
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}/{index}/{name}": torch.as_tensor(value) for name, value in slots.items()}
    return tensors


def whole_run(config: TrainConfig, photos: Path, folder: Path) -> tuple[TrainingState, list[Step]]:
    plan = train.plan_run(config, [photos])
    state = train.begin_run(plan)
    return state, list(train.train(plan, state, folder))


def test_it_yields_every_step_and_learns(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(quick, steps=150, log_every=10)
    _, steps = whole_run(config, photos, tmp_path)
    assert [step.step for step in steps] == [*range(1, 151), 150]
    assert [s.step for s in steps if s.figures] == list(range(10, 151, 10))
    losses = [s.figures["loss"] for s in steps if s.figures]
    assert losses[-1] < losses[0] / 3
    final = steps[-1].evaluation
    assert final is not None
    assert final.psnr > 17
    assert final.used > 0.5
    assert 1 < final.perplexity <= 32


@pytest.mark.parametrize("stop_at", [1, 2, 7, 11])
def test_resumed_equals_uninterrupted_bit_for_bit(
    quick: TrainConfig, photos: Path, tmp_path: Path, stop_at: int
) -> None:
    """Stopped before and after the codebook is placed (step 3), with dead-code replacement at work."""
    config = dataclasses.replace(quick, quantizer={"name": "diveq", "codebook_size": 32, "dead_code_patience": 2})
    whole, _ = whole_run(config, photos, tmp_path / "whole")

    plan = train.plan_run(config, [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path / "parts")
    assert list(islice(steps, stop_at))[-1].step == stop_at
    steps.close()
    torch.manual_seed(12345)  # another process draws other numbers before it resumes
    saved, _ = train.read_newest_state(tmp_path / "parts")
    assert saved.config == plan.config
    resumed = train.resume_run(plan, saved)
    assert resumed.step == stop_at
    rest = list(train.train(plan, resumed, tmp_path / "parts"))
    assert [step.step for step in rest] == [*range(stop_at + 1, 13), 12]

    first, second = everything(whole), everything(resumed)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert fingerprint_of(tmp_path / "whole") == fingerprint_of(tmp_path / "parts")


def test_workers_change_no_result(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    whole_run(quick, photos, tmp_path / "none")
    whole_run(dataclasses.replace(quick, workers=3), photos, tmp_path / "three")
    assert fingerprint_of(tmp_path / "none") == fingerprint_of(tmp_path / "three")


def test_what_a_run_leaves(run: Path) -> None:
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert names == {
        "config.json",
        "model.safetensors",
        "states/step_0000012.safetensors",
        "best/config.json",
        "best/model.safetensors",
        "metrics.jsonl",
        "validation.txt",
        "pictures/step_0000012.png",
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 12]
    assert {"loss", "psnr", "used", "perplexity", "images_per_second", "waiting", "lr", "seconds"} <= lines[0].keys()
    assert lines[-1]["validation"]["tokens"] > 0
    assert len((run / "validation.txt").read_text().splitlines()) == 4
    with Image.open(run / "pictures" / "step_0000012.png") as picture:
        assert picture.height > 2 * 48


def test_stopping_before_there_are_codes_leaves_no_checkpoint(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(quick, [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path)
    next(steps)
    steps.close()
    assert not (tmp_path / "model.safetensors").exists()
    assert train.read_newest_state(tmp_path)[0].plain["quantizing"] is False


def test_lines_of_a_killed_run_are_dropped_on_resume(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(quick, [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path)
    list(islice(steps, 5))
    steps.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 99}\n{"step": 9, "lo')
    state = train.resume_run(plan, train.read_newest_state(tmp_path)[0])
    list(train.train(plan, state, tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 12]
    assert lines[1]["loss"] != 99


def test_one_step_is_enough_for_a_checkpoint(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    whole_run(dataclasses.replace(quick, steps=1), photos, tmp_path)
    assert load_checkpoint(tmp_path).codebook_sizes == (32,)


def test_a_minute_budget_ends_by_the_clock(
    quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("tokenizer.train.run_budget.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    state, steps = whole_run(dataclasses.replace(quick, steps=None, minutes=0.5), photos, tmp_path)
    assert steps[-1].progress == 1
    assert 10 < state.step <= 30
    assert state.seconds >= 30


def test_other_images_cannot_be_resumed(quick: TrainConfig, photos: Path, run: Path) -> None:
    plan = train.plan_run(quick, [photos / "a"])
    with pytest.raises(CheckpointError, match="training images are not those"):
        train.resume_run(plan, train.read_newest_state(run)[0])


def test_no_training_state(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no training to resume in"):
        train.read_newest_state(tmp_path)
    (tmp_path / "states").mkdir()
    (tmp_path / "states/step_0000005.safetensors").write_bytes(b"12345")
    with pytest.raises(CheckpointError, match="cannot read the training state"):
        train.read_newest_state(tmp_path)


def test_a_gradient_that_is_not_finite_is_skipped_and_then_stops_the_run(
    quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=40), [photos])
    state = train.begin_run(plan)
    steps = train.train(plan, state, tmp_path)
    list(islice(steps, 15))
    before = everything(state)
    plain = objective.reconstruction_loss
    monkeypatch.setattr(objective, "reconstruction_loss", lambda *args: plain(*args) * torch.nan)
    next(steps)
    after = everything(state)
    unchanged = [name for name in before if not name.startswith("buffer/")]
    assert all(torch.equal(before[name], after[name]) for name in unchanged)
    assert state.skipped == 1
    monkeypatch.setattr(objective, "reconstruction_loss", plain)
    next(steps)
    assert state.skipped_in_a_row == 0
    monkeypatch.setattr(objective, "reconstruction_loss", lambda *args: plain(*args) * torch.nan)
    with pytest.raises(TrainingError, match="not finite in 10 steps in a row, at step 27"):
        list(steps)


def test_latents_that_are_not_finite_are_skipped_and_then_stop_the_run(
    quick: TrainConfig, photos: Path, tmp_path: Path
) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=60), [photos])
    state = train.begin_run(plan)
    steps = train.train(plan, state, tmp_path)
    next(step for step in steps if state.quantizing)
    with torch.no_grad():
        next(state.model.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match="latents or gradients were not finite in 10 steps in a row"):
        list(steps)


@pytest.mark.slow
def test_bfloat16_trains_too(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    _, steps = whole_run(dataclasses.replace(quick, steps=150, precision="bfloat16"), photos, tmp_path)
    losses = [step.figures["loss"] for step in steps if step.figures]
    assert losses[-1] < losses[0] / 3


def test_evaluations_come_when_asked_and_otherwise_eight_times(
    quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, steps = whole_run(dataclasses.replace(quick, eval_every=5), photos, tmp_path / "asked")
    assert [step.step for step in steps if step.evaluation] == [5, 10, 12]
    monkeypatch.setattr("tokenizer.train.run_budget._SECONDS_BETWEEN_EVALUATIONS", 0.0)
    _, steps = whole_run(dataclasses.replace(quick, steps=16), photos, tmp_path / "eight")
    # None before there are codes, which the fifth step places; then at each eighth, then the last word.
    assert [step.step for step in steps if step.evaluation] == [5, 6, 8, 10, 12, 14, 16]


def test_checkpoints_come_by_the_clock(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, save_every=1e-9), [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path)
    for step in islice(steps, 6):
        assert train.read_newest_state(tmp_path)[0].plain["step"] == step.step
    steps.close()
