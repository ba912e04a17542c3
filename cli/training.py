"""A run of `vqtok train` between its plan and its end."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.console import Console, write_json
from cli.signals import between_steps
from cli.telling import Teller, stopped_early
from tokenizer.errors import DeviceError, OutputError
from tokenizer.files import locked_folder

if TYPE_CHECKING:
    from tokenizer.train import Plan, Saved, TrainingState


def run(
    console: Console, plan: Plan, saved: Saved | None, data: Sequence[Path], folder: Path, *, as_json: bool
) -> None:
    """Train from the beginning, or from where the run was saved, to the end or until it is asked to stop.

    Raises:
        OutputError: another process is training there, or a file cannot be written.
    """
    with contextlib.nullcontext() if silent() else locked_folder(folder):
        _run_alone(console, plan, saved, data, folder, as_json=as_json)


def _run_alone(
    console: Console, plan: Plan, saved: Saved | None, data: Sequence[Path], folder: Path, *, as_json: bool
) -> None:
    from tokenizer import train as training
    from tokenizer.train import has_states

    state = training.resume_run(plan, saved) if saved else training.begin_run(plan)
    if saved:
        console.say(f"going on from step {state.step}, {state.seconds / 60:.1f} min into the run")
    elif not silent():
        training.clear_run(folder)
    again = _again(data, folder)
    failed: dict[str, str] = {}
    try:
        stopped = _run(console, plan, state, folder, failed)
    except (OutputError, DeviceError, SystemExit):
        if has_states(folder):
            console.warn(f"what was saved before stands. To go on from there: {again}")
        raise
    if stopped is not None:
        console.warn(f"stopped at step {state.step}, everything is saved. To go on: {again}")
        raise typer.Exit(stopped)
    _finish(console, plan, folder, state, failed, as_json=as_json)
    if failed:
        raise typer.Exit(3)


def silent() -> bool:
    """Return whether this is one of several processes, and not the first: that one speaks and writes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


def _again(data: Sequence[Path], folder: Path) -> str:
    """Return the command that goes on with the run."""
    names = [str(path) for path in data]
    dashed = any(name.startswith("-") for name in names)
    last = ["--", *names] if dashed else []
    return shlex.join(["vqtok", "train", *([] if dashed else names), "-o", str(folder), "--resume", *last])


def _run(console: Console, plan: Plan, state: TrainingState, folder: Path, failed: dict[str, str]) -> int | None:
    """Train, note unreadable images in `failed`, and return the exit code when a signal asked to stop."""
    from tokenizer import runtime
    from tokenizer import train as training

    with (
        explained(),
        between_steps() as request,
        console.progress("figures", timed=False) as bar,
        contextlib.closing(training.train(plan, state, folder)) as steps,
    ):
        teller = Teller(console, plan, bar)
        for step in steps:
            teller.tell(step)
            failed.update(step.unreadable)
            # What one process of several is asked, all do.
            if (code := runtime.max_over_ranks(request.exit_code or 0)) and step.progress < 1:
                return code
    return None


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn torch's out-of-memory errors into one line that says what to pass instead."""
    from tokenizer import runtime

    try:
        yield
    except RuntimeError as error:
        raise runtime.explain_error(error, "pass a smaller --batch-size, --image-size or --preset") or error from error


def _finish(
    console: Console, plan: Plan, folder: Path, state: TrainingState, failed: dict[str, str], *, as_json: bool
) -> None:
    console.say(f"the checkpoint is in {folder}, the best one in {folder / 'best'}, pictures in {folder / 'pictures'}")
    if why := stopped_early(plan, state):
        console.say(why)
    if state.skipped:
        console.warn(f"{state.skipped} steps were skipped because latents or gradients were not finite")
    if as_json and not silent():
        result = {"output": str(folder), "steps": state.step, "seconds": round(state.seconds, 1), **state.figures}
        result["stopped_early"] = why is not None
        write_json({**result, "failed": [{"name": name, "reason": reason} for name, reason in failed.items()]})
