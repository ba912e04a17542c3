"""One step: a batch in parts, in float16, compiled, and back to the last good state."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import torch

from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError, TrainingError
from tokenizer.train import Step, TrainingState, objective

# Methods that draw no numbers, so that two runs can be compared; with replacement, moving averages, several stages.
METHODS = {
    "diveq-detach": {"name": "diveq-detach", "codebook_size": 32, "dead_code_patience": 0},
    "ema": {"name": "ema", "codebook_size": 32, "dead_code_patience": 0, "decay": 0.9},
    "ste, replaced": {"name": "ste", "codebook_size": 64, "dead_code_patience": 2},
    "fsq": {"name": "fsq", "codebook_size": 64},
    "residual": {"name": "residual", "stages": [{"name": "diveq-detach", "codebook_size": 16}] * 2},
}


def run(config: TrainConfig, photos: Path, folder: Path) -> tuple[TrainingState, list[Step]]:
    plan = train.plan_run(config, [photos])
    state = train.begin_run(plan)
    return state, list(train.train(plan, state, folder))


def differences(first: TrainingState, second: TrainingState) -> dict[str, float]:
    """The norm of the difference of each parameter and buffer, against its own.

    Not the largest difference: where a gradient is rounding alone, Adam makes a whole step of it.
    """
    pairs = zip(
        [*first.model.named_parameters(), *first.model.named_buffers()],
        [*second.model.parameters(), *second.model.buffers()],
        strict=True,
    )
    return {
        name: ((a - b).double().norm() / b.double().norm().clamp_min(1e-6)).item()
        for (name, a), b in pairs
        if a.numel()
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_in_parts_is_the_whole_batch(quick: TrainConfig, photos: Path, tmp_path: Path, method: str) -> None:
    settings = dataclasses.replace(quick, quantizer=METHODS[method], steps=8, quantize_after=0.25, log_every=1)
    whole, steps = run(dataclasses.replace(settings, batch_size=8), photos, tmp_path / "whole")
    parts, again = run(dataclasses.replace(settings, batch_size=2, grad_accum=4), photos, tmp_path / "parts")
    assert (whole.crops, whole.step) == (parts.crops, parts.step) == (64, 8)
    for name, difference in differences(whole, parts).items():
        assert difference < 1e-3, name
    for one, two in zip(steps, again, strict=True):
        if one.figures and two.figures:
            assert one.figures["loss"] == pytest.approx(two.figures["loss"], rel=1e-3)
            assert one.figures["psnr"] == pytest.approx(two.figures["psnr"], abs=0.01)


def test_parts_of_a_batch_that_holds_fewer_readable_images(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    state, steps = run(dataclasses.replace(quick, batch_size=3, grad_accum=2, steps=4), photos, tmp_path)
    assert state.step == 4
    assert steps[-1].evaluation is not None


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "tf32"])
def test_other_precisions_learn_too(quick: TrainConfig, photos: Path, tmp_path: Path, precision: str) -> None:
    _, steps = run(dataclasses.replace(quick, steps=90, precision=precision, log_every=10), photos, tmp_path)
    losses = [step.figures["loss"] for step in steps if step.figures]
    assert losses[-1] < losses[0] / 2


def test_float16_resumes_with_its_scale(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(dataclasses.replace(quick, precision="float16"), [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path)
    list(islice(steps, 5))
    steps.close()
    saved, _ = train.read_newest_state(tmp_path)
    assert saved.plain["scaler"]["scale"] >= 1
    state = train.resume_run(plan, saved)
    assert state.scaler.state_dict() == saved.plain["scaler"]


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = objective.reconstruction_loss
    monkeypatch.setattr(objective, "reconstruction_loss", lambda *args: plain(*args) * torch.nan)


def test_back_to_the_last_good_state_with_half_the_rate(
    quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=60, eval_every=6), [photos])
    state = train.begin_run(plan)
    steps = train.train(plan, state, tmp_path)
    list(islice(steps, 20))
    with monkeypatch.context() as patch:
        spoil(patch)
        told = next(step for step in steps if step.warning)
    assert told.warning == (
        "latents or gradients were not finite in 10 steps in a row, at step 30: "
        "back to step 18, with 0.5 of the learning rate"
    )
    assert (told.step, state.step, state.lr_share, state.skipped) == (18, 18, 0.5, 10)
    assert [step.step for step in islice(steps, 3)] == [19, 20, 21]
    assert all(group["lr"] <= plan.config.lr / 2 for optimizer in state.optimizers for group in optimizer.param_groups)
    spoil(monkeypatch)
    with pytest.raises(TrainingError, match="the last checkpoint stands"):
        list(steps)
    assert (state.rollbacks, state.lr_share) == (2, 0.25)
    assert train.read_newest_state(tmp_path)[0].plain["step"] == 18


def test_the_newest_states_are_kept_and_a_damaged_one_is_passed_over(
    quick: TrainConfig, photos: Path, tmp_path: Path
) -> None:
    run(dataclasses.replace(quick, steps=12, eval_every=3, keep=3), photos, tmp_path)
    files = sorted((tmp_path / "states").iterdir())
    assert [file.name for file in files] == [f"step_{step:07d}.safetensors" for step in (6, 9, 12)]
    files[2].write_bytes(files[2].read_bytes()[:-5])
    spoiled = bytearray(files[1].read_bytes())
    spoiled[-3] ^= 4
    files[1].write_bytes(spoiled)
    saved, faults = train.read_newest_state(tmp_path)
    assert saved.plain["step"] == 6
    assert faults[0].startswith(f"cannot read the training state {files[2]}: ")
    assert faults[1] == f"the training state {files[1]} is damaged: its checksum is another"
    files[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot read the training state"):
        train.read_newest_state(tmp_path)


def test_the_best_checkpoint_is_kept(
    quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = train.plan_run(dataclasses.replace(quick, steps=12, eval_every=4), [photos])
    state = train.begin_run(plan)
    found = iter([11.0, 13.0, 12.0])
    plain = train.loop.evaluate
    monkeypatch.setattr(train.loop, "evaluate", lambda *args: dataclasses.replace(plain(*args), psnr=next(found)))
    steps = [step for step in train.train(plan, state, tmp_path) if step.evaluation]
    assert [step.step for step in steps] == [4, 8, 12]
    assert state.best == 13.0
    from tokenizer.models import describe_checkpoint, load_checkpoint

    best, last = (describe_checkpoint(folder).training for folder in (tmp_path / "best", tmp_path))
    assert (best["steps"], best["validation"]["psnr"]) == (8, 13.0)
    assert (last["steps"], last["validation"]["psnr"]) == (12, 12.0)
    assert load_checkpoint(tmp_path / "best").codebook_sizes == (32,)
