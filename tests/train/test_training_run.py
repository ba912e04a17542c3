"""`run_training`: a whole run from Python, in one call."""

from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.conftest import draw, save
from tokenizer import train
from tokenizer.config import TrainConfig, to_dict
from tokenizer.errors import CheckpointError, ConfigError, DeviceError, InputError, OutputError, UsageError
from tokenizer.files import locked_folder
from tokenizer.models import describe_checkpoint, fingerprint_of
from tokenizer.train import step


def test_one_loop_is_enough(quick: TrainConfig, photos: Path, run: Path, tmp_path: Path) -> None:
    steps = list(train.run_training(quick, [photos], tmp_path / "new"))
    assert steps[-1].evaluation is not None
    assert fingerprint_of(tmp_path / "new") == fingerprint_of(run)
    assert (tmp_path / "new/validation.txt").read_text() == (run / "validation.txt").read_text()


def test_settings_as_a_config_file_holds_them(quick: TrainConfig, photos: Path, run: Path, tmp_path: Path) -> None:
    settings = {**to_dict(quick), "quantizer": {"name": "diveq(codebook_size=32)"}, "steps": "12"}
    last = list(train.run_training(settings, str(photos), str(tmp_path / "new")))[-1]
    assert last.step == 12
    assert fingerprint_of(tmp_path / "new") == fingerprint_of(run)


def test_what_it_is_can_be_looked_at_before_it_begins(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    made = train.run_training(quick, [photos], tmp_path / "new")
    assert made.plan.config.steps == 12
    assert (made.sample.looked_at, made.resumed_from, made.warnings) == (20, None, ())
    assert not (tmp_path / "new").exists(), "nothing is written before the first step"
    with pytest.raises(UsageError, match="no state before its first step"):
        _ = made.state


def test_left_early_it_is_saved_and_goes_on(quick: TrainConfig, photos: Path, run: Path, tmp_path: Path) -> None:
    made = train.run_training(quick, [photos], tmp_path / "new")
    steps = iter(made)
    assert [each.step for each in islice(steps, 5)] == [1, 2, 3, 4, 5]
    steps.close()
    with pytest.raises(UsageError, match="the run has begun already"):
        next(iter(made))
    again = train.run_training({"steps": 12}, [photos], tmp_path / "new", existing="resume")
    assert again.resumed_from == 5
    assert again.seconds_before == made.state.seconds > 0
    assert [each.step for each in again][:1] == [6]
    assert again.state.step == 12
    assert fingerprint_of(tmp_path / "new") == fingerprint_of(run)


def test_a_config_resumes_by_what_differs_from_the_defaults(
    quick: TrainConfig, photos: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    made = train.run_training(quick, [photos], tmp_path / "run", existing="resume")
    assert made.resumed_from == 12
    with pytest.raises(InputError, match=r"cannot resume with other settings: lr was 0\.002, now 0\.001"):
        train.run_training(dataclasses.replace(quick, lr=1e-3), [photos], tmp_path / "run", existing="resume")


def test_what_is_there_is_refused_or_cleared(quick: TrainConfig, photos: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        train.run_training(quick, [photos], tmp_path / "run")
    brief = dataclasses.replace(quick, steps=2)
    made = train.run_training(brief, [photos], tmp_path / "run", existing="overwrite")
    assert (tmp_path / "run/states/step_0000012.safetensors").exists(), "nothing is cleared before the first step"
    list(made)
    assert [path.name for path in (tmp_path / "run/states").iterdir()] == ["step_0000002.safetensors"]
    with pytest.raises(CheckpointError, match="there is no training to resume"):
        train.run_training(quick, [photos], tmp_path / "none", existing="resume")


def test_one_process_at_a_time(quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    made = train.run_training(quick, [photos], tmp_path / "run")
    with locked_folder(tmp_path / "run"), pytest.raises(OutputError, match="being written by another process"):
        next(iter(made))


def test_torchrun_that_starts_it_anew_goes_on(
    quick: TrainConfig, photos: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    for existing in ("refuse", "overwrite"):
        made = train.run_training(quick, [photos], tmp_path / "run", existing=existing)
        assert made.resumed_from == 12
    with pytest.raises(OutputError, match="exists"):
        train.run_training(quick, [photos], tmp_path / "other")


def test_damaged_states_are_passed_over_and_told(quick: TrainConfig, photos: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    newest = tmp_path / "run/states/step_0000012.safetensors"
    shutil.copy(newest, newest.with_name("step_0000008.safetensors"))
    newest.write_bytes(b"damaged")
    made = train.run_training(quick, [photos], tmp_path / "run", existing="resume")
    (warning,) = made.warnings
    assert warning.startswith(f"cannot read the training state {newest}: ")
    assert warning.endswith(": going on from the one before")


def test_unreadable_images_are_noted(quick: TrainConfig, tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / f"in/{number}.png", draw(40, 40, number))
    (tmp_path / "in/bad.png").write_text("text")
    made = train.run_training(dataclasses.replace(quick, val_images=1), [tmp_path / "in"], tmp_path / "run")
    list(made)
    assert made.unreadable == {"bad.png": "not an image, or of an unknown format"}
    assert not made.stopped_early


def test_out_of_memory_is_one_line(
    quick: TrainConfig, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step.Learner, "step", learn)
    with pytest.raises(DeviceError, match="out of memory: pass a smaller --batch-size"):
        list(train.run_training(quick, [photos], tmp_path / "run"))


def test_from_a_checkpoint_by_its_name_alone(photos: Path, run: Path, tmp_path: Path) -> None:
    config = TrainConfig(init_from=str(run), steps=1, batch_size=4, image_size=32, device="cpu", workers=0)
    made = train.run_training(config, [photos], tmp_path / "tuned")
    assert made.plan.config.network == describe_checkpoint(run).network
    assert list(made)[-1].step == 1


def test_a_state_of_version_0_1_says_what_to_do(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run/states/step_0000012.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["vqtok"])
        tensors = {name.replace("ema/", "average/"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["version"]
    header["config"]["revive_until"] = header["config"].pop("replace_dead_until")
    path.write_bytes(safetensors.torch.save(tensors, metadata={"vqtok": json.dumps(header)}))
    with pytest.raises(CheckpointError) as caught:
        train.read_newest_state(tmp_path / "run")
    assert str(caught.value) == (
        f"the training state {path} has version 1, this vqtok goes on from 2: go on with the vqtok that wrote it, or "
        f"start a new run from its checkpoint with --init-from {tmp_path}/run"
    )


def test_faults_of_python_code_are_named_together(photos: Path, tmp_path: Path) -> None:
    config = TrainConfig(lr="fast", warmup=2, alpha="glass", loss={"l3": 1}, quantizer={"name": "ste", "bta": 1})  # type: ignore[arg-type]
    for call in (
        lambda: train.run_training(config, [photos], tmp_path / "run"),
        lambda: train.plan_run(config, [photos]),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert caught.value.faults == (
            "lr is 'fast', expected a number",
            "warmup is 2.0, expected 0 or more and less than 1",
            "'glass' is not a color: pass a name such as white, or #rrggbb",
            "unknown setting 'loss.l3', did you mean 'l2'?",
            "unknown setting 'quantizer.bta' of ste, did you mean 'beta'?",
        )
