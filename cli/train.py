"""`vqtok train`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options as o
from cli import settings as layers
from cli.console import Console, write_json, write_text
from cli.inputs import check_writable
from cli.stop import between_steps
from cli.telling import announce, evaluation, figures
from tokenizer.errors import DeviceError, OutputError, UsageError
from tokenizer.files import refuse_existing
from tokenizer.settings import to_dict, to_toml

if TYPE_CHECKING:
    from tokenizer.train import Plan, Saved, TrainingState


def train(
    context: typer.Context,
    data: o.Data,
    output: Annotated[Path | None, o.option("--output", "-o", help="Folder of the run.", env=False)] = None,
    config_file: o.Config = None,
    settings: Annotated[
        list[str] | None,
        o.option("--set", help="KEY=VALUE: any setting, such as quantizer.noise_std=0.01.", env=False),
    ] = None,
    preset: o.Preset = None,
    downsample: o.Downsample = None,
    quantizer: Annotated[
        str | None, o.option("--quantizer", help="See vqtok list; options in brackets: 'ste(beta=1)'.")
    ] = None,
    codebook_size: Annotated[int | None, o.option("--codebook-size", min=1, help="Number of codes.")] = None,
    codebooks: Annotated[
        int | None, o.option("--codebooks", min=1, help="Codes per position: that many, residual.")
    ] = None,
    steps: Annotated[int | None, o.option("--steps", min=1, help="Budget in optimizer steps.")] = None,
    minutes: Annotated[float | None, o.option("--minutes", help="Budget in minutes; 30 when nothing is said.")] = None,
    image_size: o.CropSize = None,
    batch_size: o.Crops = None,
    lr: Annotated[float | None, o.option("--lr", help="Peak learning rate.")] = None,
    precision: o.TrainPrecision = None,
    device: o.TrainDevice = None,
    workers: o.Workers = None,
    seed: Annotated[int | None, o.option("--seed", min=0, help="Of everything random.")] = None,
    alpha: Annotated[str | None, o.option("--alpha", help="Colour under transparent pixels.")] = None,
    val_data: Annotated[
        str | None, o.option("--val-data", help="Evaluate on this folder, not on held-out images.")
    ] = None,
    log_every: Annotated[
        int | None, o.option("--log-every", min=1, help="Steps between lines of metrics.jsonl.")
    ] = None,
    eval_every: Annotated[int | None, o.option("--eval-every", min=1, help="Steps between evaluations.")] = None,
    save_every: Annotated[float | None, o.option("--save-every", help="Minutes between checkpoints.")] = None,
    resume: Annotated[bool, o.option("--resume", help="Go on where the run in -o stopped.", env=False)] = False,
    overwrite: o.Overwrite = False,
    print_config: Annotated[
        bool, o.option("--print-config", help="Print the settings as TOML, and stop.", env=False)
    ] = False,
    dry_run: Annotated[bool, o.option("--dry-run", "-n", help="Check everything, train nothing.", env=False)] = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Train a tokenizer on a folder of images.

    \b
    vqtok train photos/ -o run
    vqtok train photos/ -o run --minutes 120 --preset small --downsample 8 --codebook-size 4096
    vqtok train photos/ -o run --resume             goes on after Ctrl-C or a crash
    vqtok train photos/ -o run -c my.toml --set quantizer.noise_std=0.01
    vqtok train photos/ -o run --quantizer 'residual(4*diveq, drop=0.5)' --codebook-size 256
    vqtok train photos/ --print-config > my.toml

    What is not said is chosen from the images and the machine, and printed.
    """
    console = Console("train", quiet=quiet, verbose=verbose, progress=not no_progress)
    flags = {
        "preset": preset,
        "downsample": downsample,
        "quantizer": quantizer,
        "codebook_size": codebook_size,
        "codebooks": codebooks,
        "steps": steps,
        "minutes": minutes,
        "image_size": image_size,
        "batch_size": batch_size,
        "lr": lr,
        "precision": precision,
        "device": device,
        "workers": workers,
        "seed": seed,
        "alpha": alpha,
        "val_data": val_data,
        "log_every": log_every,
        "eval_every": eval_every,
        "save_every": save_every,
    }
    given = layers.gather(flags, layers.from_environment(context), config_file, settings or [])
    if not (print_config or dry_run):
        _check_output(_required(output), resume=resume, overwrite=overwrite)

    from tokenizer import train as training

    saved = training.read_state(_required(output)) if resume else None
    config = layers.resumed(saved.config, given) if saved else layers.fresh(given)
    plan = training.plan(config, data)
    if print_config:
        settings_now = to_dict(plan.config)
        write_json(settings_now) if as_json else write_text(to_toml(settings_now))
        return
    announce(console, plan)
    if not dry_run:
        _train(console, plan, saved, data, _required(output), as_json=as_json)
    elif as_json:
        sizes = {"train": len(plan.train), "held_out": 0 if plan.overlap else len(plan.held_out)}
        write_json({**sizes, "settings": to_dict(plan.config), "notes": plan.notes})


def _train(
    console: Console, plan: Plan, saved: Saved | None, data: Sequence[Path], folder: Path, *, as_json: bool
) -> None:
    from tokenizer import train as training
    from tokenizer.train.state import FILE as STATE

    state = training.resume(plan, saved) if saved else training.begin(plan)
    if saved:
        console.say(f"going on from step {state.step}, {state.seconds / 60:.1f} min into the run")
    else:
        # Of a run that this one replaces: --resume must not meet its state, nor a person its pictures.
        for old in [folder / STATE, *folder.glob("pictures/step_*.png")]:
            old.unlink(missing_ok=True)
    again = _again(data, folder)
    failed: dict[str, str] = {}
    try:
        stopped = _run(console, plan, state, folder, failed)
    except (OutputError, DeviceError, SystemExit):
        if (folder / STATE).is_file():
            console.warn(f"what was saved before stands. To go on from there: {again}")
        raise
    if stopped is not None:
        console.warn(f"stopped at step {state.step}, everything is saved. To go on: {again}")
        raise typer.Exit(stopped)
    _finish(console, folder, state, failed, as_json=as_json)
    if failed:
        raise typer.Exit(3)


def _required(output: Path | None) -> Path:
    if output is None:
        raise UsageError("no output: pass -o RUN, the folder of the run")
    return output


def _check_output(folder: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: pass one of the two")
    if not resume:
        refuse_existing(folder, overwrite=overwrite)
    check_writable(folder, folder=True)


def _again(data: Sequence[Path], folder: Path) -> str:
    """Return the command that goes on with the run."""
    names = [str(path) for path in data]
    dashed = any(name.startswith("-") for name in names)
    last = ["--", *names] if dashed else []
    return shlex.join(["vqtok", "train", *([] if dashed else names), "-o", str(folder), "--resume", *last])


def _run(console: Console, plan: Plan, state: TrainingState, folder: Path, failed: dict[str, str]) -> int | None:
    """Train, note unreadable images in `failed`, and return the exit code when a signal asked to stop."""
    from tokenizer import train as training

    with (
        _explained(),
        between_steps() as request,
        console.progress("figures") as bar,
        contextlib.closing(training.train(plan, state, folder)) as steps,
    ):
        task = bar.add_task("", total=1.0, figures="")
        for step in steps:
            bar.update(task, completed=step.progress)
            if step.figures:
                bar.update(task, figures=figures(step))
                if not console.live and step.step % (10 * plan.config.log_every) == 0:
                    console.say(f"{100 * step.progress:3.0f} %  {figures(step)}")
            if step.evaluation:
                console.say(
                    f"step {step.step}: {'on training images' if plan.overlap else 'held out'} {evaluation(step)}"
                )
            for name, reason in step.unreadable:
                failed[name] = reason
                console.warn(f"{name}: {reason}")
            if request.exit_code is not None and step.progress < 1:
                return request.exit_code
    return None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from tokenizer import runtime

    try:
        yield
    except RuntimeError as error:
        raise runtime.explain(error, "pass a smaller --batch-size, --image-size or --preset") or error from error


def _finish(console: Console, folder: Path, state: TrainingState, failed: dict[str, str], *, as_json: bool) -> None:
    console.say(f"the checkpoint is in {folder}, pictures in {folder / 'pictures'}")
    if state.skipped:
        console.warn(f"{state.skipped} steps were skipped because their gradient was not finite")
    if as_json:
        result = {"output": str(folder), "steps": state.step, "seconds": round(state.seconds, 1), **state.figures}
        write_json({**result, "failed": [{"name": name, "reason": reason} for name, reason in failed.items()]})
