"""What TensorBoard reads of a run that asked for it, and that nothing of it is there otherwise."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import ConfigError, InputError, OutputError
from tokenizer.train.tensorboard import importlib


@pytest.fixture
def logging(quick: TrainConfig) -> TrainConfig:
    """Settings of a run of 12 steps that is evaluated at steps 5, 10 and 12."""
    return dataclasses.replace(quick, log_to="tensorboard", eval_every=5)


def events(folder: Path) -> EventAccumulator:
    """Return what TensorBoard shows of a run."""
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "histograms": 0, "scalars": 0})
    found.Reload()
    return found


def steps_of(found: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in found.Scalars(tag)]


def test_everything_is_shown(logging: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(logging, [photos])
    list(train.train(plan, train.begin_run(plan), tmp_path))
    found = events(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == [4, 8, 12]
    for name in trained[0].keys() - {"step"}:
        shown = found.Scalars(f"train/{name}")
        assert [event.step for event in shown] == [4, 8, 12]
        assert [event.value for event in shown] == pytest.approx([line[name] for line in trained])
    validation = [line for line in lines if "validation" in line]
    for name in ("psnr", "used", "perplexity"):
        shown = found.Scalars(f"validation/{name}")
        assert [(event.step, pytest.approx(event.value)) for event in shown] == [
            (line["step"], line["validation"][name]) for line in validation
        ]
    tags = found.Tags()
    assert tags["images"] == ["validation/originals_over_reconstructions"]
    assert set(tags["histograms"]) == {"latents", "use/0", "codes/0"}
    pictures = found.Images("validation/originals_over_reconstructions")
    assert [picture.step for picture in pictures] == [5, 10, 12]
    assert pictures[0].height > 2 * 48
    use = found.Histograms("use/0")[-1].histogram_value
    assert use.num == 32, "one figure for each code"
    assert use.sum == pytest.approx(32), "their mean is 1"
    assert found.Histograms("codes/0")[-1].histogram_value.num == 32 * 4


def test_lines_after_the_resumed_step_are_dropped(logging: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(dataclasses.replace(logging, log_every=1, eval_every=None), [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path)
    list(islice(steps, 5))
    steps.close()
    first, second = train.read_newest_state(tmp_path)[0], train.read_newest_state(tmp_path)[0]
    list(train.train(plan, train.resume_run(plan, first), tmp_path))
    before = [event.value for event in events(tmp_path).Scalars("train/loss")]
    # A second session from the same state, of which the first 12 steps are no longer true.
    again = train.train(plan, train.resume_run(plan, second), tmp_path)
    list(islice(again, 3))
    again.close()
    found = events(tmp_path)
    assert steps_of(found, "train/loss") == [*range(1, 9)]
    assert [event.value for event in found.Scalars("train/loss")] == pytest.approx(before[:8])
    assert steps_of(found, "validation/psnr") == []


def test_several_slots_and_no_codebook(logging: TrainConfig, photos: Path, tmp_path: Path) -> None:
    stage = {"name": "diveq", "codebook_size": 16}
    for name, spec, tags in (
        ("residual", {"name": "residual", "stages": [stage] * 2}, {"use/0", "use/1", "codes/0", "codes/1", "latents"}),
        ("fsq", {"name": "fsq", "codebook_size": 64}, {"use/0", "latents"}),
    ):
        plan = train.plan_run(dataclasses.replace(logging, steps=3, quantizer=spec), [photos])
        list(train.train(plan, train.begin_run(plan), tmp_path / name))
        assert set(events(tmp_path / name).Tags()["histograms"]) == tags


def test_it_changes_no_weights(logging: TrainConfig, quick: TrainConfig, photos: Path, tmp_path: Path) -> None:
    for name, config in (("with", logging), ("without", dataclasses.replace(quick, eval_every=5))):
        plan = train.plan_run(config, [photos])
        list(train.train(plan, train.begin_run(plan), tmp_path / name))
    assert (tmp_path / "with/model.safetensors").read_bytes()[-9999:] == (
        tmp_path / "without/model.safetensors"
    ).read_bytes()[-9999:]
    assert not (tmp_path / "without/tensorboard").exists()


def test_what_cannot_be_written_is_named(logging: TrainConfig, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    plan = train.plan_run(logging, [photos])
    with pytest.raises(OutputError, match=r"cannot write .*tensorboard: File exists"):
        list(train.train(plan, train.begin_run(plan), tmp_path))


def test_a_missing_package_is_told_before_training(
    logging: TrainConfig, quick: TrainConfig, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: pip install 'vqtok\[tensorboard\]'"):
        train.plan_run(logging, [photos])
    train.plan_run(quick, [photos])


def test_other_places_to_log_to_are_refused(quick: TrainConfig, photos: Path) -> None:
    with pytest.raises(ConfigError, match="log_to is 'wandb', expected one of tensorboard"):
        train.plan_run(dataclasses.replace(quick, log_to="wandb"), [photos])


@pytest.mark.slow
def test_it_is_not_imported_unasked(run: Path) -> None:
    code = "import sys, tokenizer.train, cli.train; sys.exit('tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env={**os.environ})
    assert done.returncode == 0
    assert not (run / "tensorboard").exists()
