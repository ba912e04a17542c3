"""Runs that end when nothing gets better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import ConfigError
from tokenizer.train import Evaluation, loop

# Of an evaluation at each step from the fourth on, the first with codes.
PSNR = (21.0, 21.0, 20.5, 22.0, 21.9, 21.8, 21.7, 30.0, 31.0)


@pytest.fixture
def patient(quick: TrainConfig) -> TrainConfig:
    """Settings of a run of 12 steps that is evaluated at each, once there are codes."""
    return dataclasses.replace(quick, eval_every=1, patience=3)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation figures that are those of `PSNR`, by the step."""

    def begin(run: loop._Loop, *arguments: object) -> None:
        plain(run, *arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(
            loop,
            "evaluate",
            lambda *_: Evaluation(PSNR[run.state.step - 4], used=1.0, perplexity=9.0, tokens=9),
        )

    plain = loop._Loop.__init__
    monkeypatch.setattr(loop._Loop, "__init__", begin)


def evaluated(steps: Sequence[train.Step]) -> list[int]:
    return [step.step for step in steps if step.evaluation]


@pytest.mark.usefixtures("scripted")
def test_it_stops_after_evaluations_that_are_no_better(patient: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(patient, [photos])
    state = train.begin_run(plan)
    steps = list(train.train(plan, state, tmp_path))
    # 22 dB at step 7, then three that are worse; the last is evaluated once more, as every end is.
    assert evaluated(steps) == [4, 5, 6, 7, 8, 9, 10, 10]
    assert steps[-1].progress == 1
    assert (state.step, state.best, state.evaluations_since_best) == (10, 22.0, 3)
    assert train.read_newest_state(tmp_path)[0].plain["evaluations_since_best"] == 3


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("stop_at", [5, 8, 9])
def test_a_resumed_run_stops_at_the_same_step(patient: TrainConfig, photos: Path, tmp_path: Path, stop_at: int) -> None:
    plan = train.plan_run(patient, [photos])
    steps = train.train(plan, train.begin_run(plan), tmp_path)
    list(islice(steps, stop_at))
    steps.close()
    state = train.resume_run(plan, train.read_newest_state(tmp_path)[0])
    list(train.train(plan, state, tmp_path))
    assert (state.step, state.best, state.evaluations_since_best) == (10, 22.0, 3)


@pytest.mark.usefixtures("scripted")
def test_a_run_that_stopped_stays_so_until_it_may_be_more_patient(
    patient: TrainConfig, photos: Path, tmp_path: Path
) -> None:
    plan = train.plan_run(patient, [photos])
    list(train.train(plan, train.begin_run(plan), tmp_path))
    state = train.resume_run(plan, train.read_newest_state(tmp_path)[0])
    assert [step.step for step in train.train(plan, state, tmp_path)] == [10]
    assert state.evaluations_since_best == 3
    more = train.plan_run(dataclasses.replace(patient, patience=4), [photos])
    state = train.resume_run(more, train.read_newest_state(tmp_path)[0])
    assert list(train.train(more, state, tmp_path))[-1].step == 12
    assert (state.best, state.evaluations_since_best) == (31.0, 0)


@pytest.mark.usefixtures("scripted")
def test_without_patience_it_goes_on(patient: TrainConfig, photos: Path, tmp_path: Path) -> None:
    plan = train.plan_run(dataclasses.replace(patient, patience=None), [photos])
    assert list(train.train(plan, train.begin_run(plan), tmp_path))[-1].step == 12


def test_few_evaluations_are_told_before(patient: TrainConfig, photos: Path) -> None:
    assert not any("patience" in note for note in train.plan_run(patient, [photos]).notes)
    seldom = train.plan_run(dataclasses.replace(patient, eval_every=None), [photos])
    assert any(note.endswith("seven times before its end at most: pass --eval-every too") for note in seldom.notes)
    with pytest.raises(ConfigError, match="patience is 0, expected more than 0"):
        train.plan_run(dataclasses.replace(patient, patience=0), [photos])
