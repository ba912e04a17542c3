"""A whole run of training: settings, plan, folder, steps, and what is saved at its end."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.errors import OutputError, UsageError
from tokenizer.files import Existing, check_output, locked_folder
from tokenizer.train.loop import Step, train
from tokenizer.train.planning import Plan, TrainingData, plan_run
from tokenizer.train.preflight import ImageSample, explained_memory, look_at_images
from tokenizer.train.saved_states import has_states, read_newest_state
from tokenizer.train.settings import new_settings, resumed_settings
from tokenizer.train.start import begin_run, clear_run, resume_run
from tokenizer.train.state import Saved, TrainingState


@dataclass(frozen=True)
class PlannedTraining:
    """A run before it has a folder to write to.

    Attributes:
        plan: what to train on, and how.
        saved: the training state that it goes on from; None for a new run.
        warnings: training states that are damaged and were passed over, a line for each.
    """

    plan: Plan
    saved: Saved | None = None
    warnings: tuple[str, ...] = ()


def plan_training(
    settings: Mapping[str, Any] | TrainConfig, data: TrainingData, resume_from: Path | None = None
) -> PlannedTraining:
    """Plan a new run, or one that goes on; nothing is written.

    Args:
        settings: those that were given, see `new_settings` and `resumed_settings`.
        data: images, folders that are searched for them, or sources, such as `inputs.dataset_sources` makes.
        resume_from: folder of the run that goes on; None for a new one.

    Raises:
        ConfigError: settings are wrong, all faults listed.
        InputError: there are no images, or the run that goes on has other settings.
        CheckpointError: there is no training state to go on from, or no checkpoint to start from.
        DeviceError: the device is absent.
    """
    if resume_from is None:
        return PlannedTraining(plan_run(new_settings(settings), data))
    saved, faults = read_newest_state(resume_from)
    warnings = tuple(f"{fault}: going on from the one before" for fault in faults)
    return PlannedTraining(plan_run(resumed_settings(saved.config, settings), data), saved, warnings)


def run_training(
    settings: Mapping[str, Any] | TrainConfig,
    data: TrainingData,
    folder: str | os.PathLike[str],
    *,
    existing: Existing = "refuse",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Run:
    """Return a run, whose steps are taken as they are asked for: `for step in run_training(settings, data, folder)`.

    Under torchrun call it, and take the steps, within `runtime.process_group()`. A run that torchrun started anew goes
    on by itself where it has saved something.

    Args:
        settings: those that were given, see `new_settings` and `resumed_settings`.
        data: images, folders that are searched for them, or sources, such as `inputs.dataset_sources` makes.
        folder: where the checkpoint, the best one, training states, metrics and pictures go.
        existing: what becomes of a run that is there: `refuse`, `resume` to go on with it, or `overwrite`.
        encoder: in place of the network's own, see `begin_run`.
        decoder: in place of the network's own.

    Raises:
        ConfigError: settings are wrong, all faults listed.
        InputError: there are no images, or the run that goes on has other settings.
        CheckpointError: there is no training state to go on from, or no checkpoint to start from.
        OutputError: something is in the folder and `existing` is `refuse`, or it cannot be written.
        DeviceError: the device is absent.
    """
    folder = Path(folder)
    if runtime.launch().restarts and has_states(folder):
        existing = "resume"
    _check_folder(folder, existing)
    planned = plan_training(settings, data, folder if existing == "resume" else None)
    return Run(planned, folder, encoder, decoder)


def _check_folder(folder: Path, existing: Existing) -> None:
    """Raise OutputError on all ranks where the first one, which alone writes, cannot write."""
    fault: OutputError | None = None
    if runtime.rank() == 0:
        try:
            check_output(folder, folder=True, existing=existing)
        except OutputError as error:
            fault = error
    fault = runtime.object_from_first_rank(fault)
    if fault is not None:
        raise fault


class Run:
    """A run of training, which iterates over its steps.

    Nothing is written before the first step is asked for. When the iteration is left early, everything is saved.

    Attributes:
        plan: what it trains on, and how.
        folder: where it writes.
        warnings: what the user should know of the state that it goes on from, one line each.
        resumed_from: step after which it goes on; None for a new run.
        seconds_before: wall-clock time that the run had taken by then.
        unreadable: name and reason of each image that could not be read so far.
    """

    def __init__(
        self, planned: PlannedTraining, folder: Path, encoder: nn.Module | None, decoder: nn.Module | None
    ) -> None:
        self.plan, self.folder, self.warnings = planned.plan, folder, planned.warnings
        before = {} if planned.saved is None else planned.saved.plain
        self.resumed_from: int | None = before.get("step")
        self.seconds_before: float = before.get("seconds", 0.0)
        self.unreadable: dict[str, str] = {}
        self._saved, self._modules = planned.saved, {"encoder": encoder, "decoder": decoder}
        self._state: TrainingState | None = None

    @functools.cached_property
    def sample(self) -> ImageSample:
        """Sizes of a sample of the training images, and which of them cannot be read."""
        return look_at_images(self.plan, thoroughly=False)

    @property
    def state(self) -> TrainingState:
        """The training state after the latest step.

        Raises:
            UsageError: no step was asked for.
        """
        if self._state is None:
            raise UsageError("the run has no state before its first step is asked for")
        return self._state

    @property
    def stopped_early(self) -> bool:
        """Whether it ended before its budget did: `patience` evaluations in a row were no better."""
        patience = self.plan.config.patience
        return bool(patience) and self.state.evaluations_since_best >= (patience or 0)

    def __iter__(self) -> Generator[Step]:
        """Begin, or go on, and yield each step.

        Raises:
            CheckpointError: the state that it goes on from is of other images, or does not fit.
            TrainingError: latents or gradients are not finite; what was saved before stands.
            OutputError: another process trains in the folder, or a file cannot be written; what was saved stands.
            DeviceError: out of memory.
        """
        if self._state is not None:
            raise UsageError("the run has begun already: make another one with run_training")
        with explained_memory(), contextlib.nullcontext() if runtime.rank() else locked_folder(self.folder):
            self._state = self._begin()
            with contextlib.closing(train(self.plan, self._state, self.folder)) as steps:
                for step in steps:
                    self.unreadable.update(step.unreadable)
                    yield step

    def _begin(self) -> TrainingState:
        if self._saved is not None:
            state = resume_run(self.plan, self._saved, **self._modules)
            self._saved = None  # as large as the state itself
            return state
        state = begin_run(self.plan, **self._modules)
        if runtime.rank() == 0:
            clear_run(self.folder)
        return state
