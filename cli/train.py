"""`vqtok train`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.command_line import resume_command
from cli.console import Console, evaluation_line, write_json, write_text
from cli.options import option
from cli.signals import between_steps
from tokenizer.config import LogTo, to_dict, to_toml
from tokenizer.errors import DeviceError, OutputError, UsageError
from tokenizer.files import existing_of
from tokenizer.runtime import launch

if TYPE_CHECKING:
    from rich.progress import Progress

    from tokenizer.train import CostEstimate, ImageSample, Plan, Run, Step

# Figures that have words of their own; what else a step brings is shown by its name.
_KNOWN = ("loss", "psnr", "used", "perplexity", "images_per_second", "waiting", "lr")


def train(
    context: typer.Context,
    data: options.Data,
    output: Annotated[Path | None, option("--output", "-o", help="Folder of the run.", env=False)] = None,
    config_file: options.Config = None,
    settings: Annotated[
        list[str] | None,
        option("--set", help="KEY=VALUE: any setting, such as quantizer.noise_std=0.01.", env=False),
    ] = None,
    preset: options.Preset = None,
    downsample: options.Downsample = None,
    quantizer: Annotated[
        str | None, option("--quantizer", help="See vqtok list; options in brackets: 'ste(beta=1)'.")
    ] = None,
    codebook_size: Annotated[int | None, option("--codebook-size", min=1, help="Number of codes.")] = None,
    codebooks: Annotated[
        int | None, option("--codebooks", min=1, help="Codes per position: that many, residual.")
    ] = None,
    init_from: Annotated[
        Path | None,
        option(
            "--init-from",
            help="Start from this checkpoint: a folder that vqtok train wrote, or the name of one that ships.",
            autocompletion=options.complete_model,
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        option("--freeze", help="Keep encoder, decoder or codebook of --init-from as it is; can be repeated."),
    ] = None,
    steps: Annotated[int | None, option("--steps", min=1, help="Budget in optimizer steps.")] = None,
    minutes: Annotated[float | None, option("--minutes", help="Budget in minutes; 30 when nothing is said.")] = None,
    image_size: options.CropSize = None,
    encode_size: options.EncodeSize = None,
    batch_size: options.Crops = None,
    grad_accum: Annotated[
        int | None, option("--grad-accum", min=1, help="Batches that make one optimizer step.")
    ] = None,
    lr: Annotated[float | None, option("--lr", help="Peak learning rate.")] = None,
    precision: options.TrainPrecision = None,
    device: options.TrainDevice = None,
    compiled: Annotated[
        bool | None, option("--compile", help="Compile the network: slow to start, then faster.")
    ] = None,
    deterministic: Annotated[
        bool | None, option("--deterministic", help="The same bits each time, on a GPU too; slower there.")
    ] = None,
    workers: options.Workers = None,
    seed: Annotated[int | None, option("--seed", min=0, help="Of everything random.")] = None,
    alpha: Annotated[str | None, option("--alpha", help="Color under transparent pixels.")] = None,
    val_data: Annotated[
        str | None, option("--val-data", help="Evaluate on this folder, not on validation images.")
    ] = None,
    log_every: Annotated[int | None, option("--log-every", min=1, help="Steps between lines of metrics.jsonl.")] = None,
    eval_every: Annotated[int | None, option("--eval-every", min=1, help="Steps between evaluations.")] = None,
    patience: Annotated[
        int | None, option("--patience", min=1, help="Stop after that many evaluations without a better PSNR.")
    ] = None,
    save_every: Annotated[float | None, option("--save-every", help="Minutes between checkpoints.")] = None,
    keep: Annotated[int | None, option("--keep", min=1, help="Training states to keep, the newest.")] = None,
    log_to: Annotated[
        LogTo | None,
        option("--log-to", help="Figures, pictures and histograms for TensorBoard, in RUN/tensorboard."),
    ] = None,
    resume: Annotated[bool, option("--resume", help="Go on where the run in -o stopped.", env=False)] = False,
    overwrite: options.Overwrite = False,
    print_config: Annotated[
        bool, option("--print-config", help="Print the settings as TOML, and stop.", env=False)
    ] = False,
    dry_run: Annotated[
        bool,
        option("--dry-run", "-n", help="Check everything, estimate time and memory, write nothing.", env=False),
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # read by main
) -> None:
    """Train a tokenizer on a folder of images.

    \b
    vqtok train photos/ -o run
    vqtok train photos/ -o run --minutes 120 --preset small --downsample 8 --codebook-size 4096
    vqtok train photos/ -o run --resume             goes on after Ctrl-C or a crash
    vqtok train photos/ -o run -c my.toml --set quantizer.noise_std=0.01
    vqtok train photos/ -o run --quantizer 'residual(4*diveq, drop=0.5)' --codebook-size 256
    vqtok train photos/ --print-config > my.toml
    vqtok train more/ -o new --init-from photo-f8
    vqtok train more/ -o new --init-from run --freeze encoder --freeze codebook
    torchrun --nproc-per-node 4 -m cli train photos/ -o run         on several GPUs

    What is not said is chosen from the images and the machine, and printed.
    """
    console = Console("train", quiet=quiet, verbose=verbose, progress=not no_progress, silent=_is_silent())
    given = options.given_settings(context, config_file, settings or [])
    existing = existing_of(resume=resume, overwrite=overwrite)
    if output is None and (resume or not (print_config or dry_run)):
        raise UsageError("no output: pass -o RUN, the folder of the run")

    from tokenizer.runtime import process_group
    from tokenizer.train import plan_training, run_training

    with process_group():
        if print_config or dry_run or output is None:
            planned = plan_training(given, data, output if resume else None)
            _warn(console, planned.warnings)
            if print_config:
                _print_config(planned.plan, as_json=as_json)
            else:
                _rehearse(console, planned.plan, as_json=as_json)
            return
        run = run_training(given, data, output, existing=existing)
        _warn(console, run.warnings)
        _announce(console, run.plan, run.sample)
        _train(console, run)
    _finish(console, run, as_json=as_json)


def _is_silent() -> bool:
    """Return whether this is one of several processes, and not the first: that one speaks."""
    return launch().rank > 0


def _warn(console: Console, warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.warn(warning)


def _print_config(plan: Plan, *, as_json: bool) -> None:
    settings = to_dict(plan.config)
    write_json(settings) if as_json else write_text(to_toml(settings))


def _announce(console: Console, plan: Plan, sample: ImageSample) -> None:
    """Tell what will be trained on what, and what the user should know before."""
    from tokenizer.quantizers import short_spec

    config, network = plan.config, plan.config.network
    kind = "training images" if plan.overlap else "validation images"
    console.say(f"{len(plan.train)} images to train on, evaluated on {len(plan.validation)} {kind}")
    if sample.sizes:
        smallest, median, largest = (f"{width}x{height}" for height, width in sample.sizes)
        console.say(f"sizes: {smallest} to {largest} px, median {median}, of {sample.looked_at} images looked at")
    console.say(f"network: {network}")
    console.say(f"quantizer: {short_spec(config.quantizer, ['codebook_size'])}, latents {network.latent_dim} wide")
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    console.say(plan.scales)
    console.say(
        f"training: {budget}, batches of {config.batch_size} crops, "
        f"{config.precision} on {config.device}, {config.workers} reading threads, seed {config.seed}"
    )
    if sample.unreadable:
        (name, reason), count = sample.unreadable[0], len(sample.unreadable)
        console.warn(f"{count} of {sample.looked_at} images looked at cannot be read, the first is {name}: {reason}")
    _warn(console, plan.notes)


def _rehearse(console: Console, plan: Plan, *, as_json: bool) -> None:
    """Look at the images, take a few steps in memory, and tell what the run will cost."""
    from tokenizer.train import estimate_cost, look_at_images

    sample = look_at_images(plan, thoroughly=True)
    _announce(console, plan, sample)
    estimate = estimate_cost(plan)
    console.say(f"the training images hold about {plan.tokens} tokens in all, enough to fill {plan.codes} codes")
    console.say(_cost(plan, estimate) if estimate else "no image can be read: time and memory are not known")
    if not as_json or _is_silent():
        return
    names = ("smallest", "median", "largest")
    write_json(
        {
            "train": len(plan.train),
            "validation": 0 if plan.overlap else len(plan.validation),
            "looked_at": sample.looked_at,
            "sizes": {name: {"width": w, "height": h} for name, (h, w) in zip(names, sample.sizes, strict=False)},
            "unreadable": [{"name": name, "reason": reason} for name, reason in sample.unreadable],
            "tokens": plan.tokens,
            "codes": plan.codes,
            "scales": plan.scales,
            "estimate": asdict(estimate) if estimate else None,
            "settings": to_dict(plan.config),
            "notes": plan.notes,
        }
    )


def _cost(plan: Plan, estimate: CostEstimate) -> str:
    count = f"about {estimate.steps} steps in " if plan.config.steps is None else f"{estimate.steps} steps take about "
    memory = "" if estimate.peak_memory_mb is None else f", {estimate.peak_memory_mb:.0f} MiB of memory"
    each = f"{estimate.seconds_per_step:.2g} s each"
    return f"{count}{_clock(estimate.seconds)}, {each}, {estimate.epochs:.1f} times over the images{memory}"


def _train(console: Console, run: Run) -> None:
    """Take the steps of a run; where they end before the run does, tell how to go on."""
    from tokenizer.runtime import max_over_ranks
    from tokenizer.train import has_states

    if run.resumed_from is not None:
        console.say(f"going on from step {run.resumed_from}, {run.seconds_before / 60:.1f} min into the run")
    stopped_by = 0
    try:
        with (
            between_steps() as request,
            console.progress("figures", timed=False) as bar,
            contextlib.closing(iter(run)) as steps,
        ):
            teller = Teller(console, run.plan, bar)
            for step in steps:
                teller.tell(step)
                # What one process of several is asked, all do.
                stopped_by = max_over_ranks(request.exit_code or 0) if step.progress < 1 else 0
                if stopped_by:
                    break
    except (OutputError, DeviceError, SystemExit):
        if has_states(run.folder):
            console.warn(f"what was saved before stands. To go on from there: {resume_command()}")
        raise
    if stopped_by:
        console.warn(f"stopped at step {run.state.step}, everything is saved. To go on: {resume_command()}")
        raise typer.Exit(stopped_by)


def _finish(console: Console, run: Run, *, as_json: bool) -> None:
    folder, state = run.folder, run.state
    console.say(f"the checkpoint is in {folder}, the best one in {folder / 'best'}, pictures in {folder / 'pictures'}")
    if run.stopped_early:
        evaluations = f"{run.plan.config.patience} evaluations in a row were no better than {state.best:.2f} dB"
        console.say(f"stopped early at step {state.step}: {evaluations}")
    if state.skipped:
        console.warn(f"{state.skipped} steps were skipped because latents or gradients were not finite")
    if as_json and not _is_silent():
        result = {"output": str(folder), "steps": state.step, "seconds": round(state.seconds, 1), **state.figures}
        failed = [{"name": name, "reason": reason} for name, reason in run.unreadable.items()]
        write_json({**result, "stopped_early": run.stopped_early, "failed": failed})
    if run.unreadable:
        raise typer.Exit(3)


class Teller:
    """Tells the steps of a run: live on a terminal, else a line from time to time.

    Args:
        console: of the command.
        plan: of the run.
        bar: that `console` shows.
    """

    def __init__(self, console: Console, plan: Plan, bar: Progress) -> None:
        self._console, self._plan, self._bar = console, plan, bar
        self._task = bar.add_task("", total=1.0, figures="")
        self._latest: dict[str, float] | None = None

    def tell(self, step: Step) -> None:
        """Tell what there is to tell of one step."""
        console = self._console
        self._latest = step.figures or self._latest
        if console.live:
            lines = [_head(step), *(_lines(self._latest) if self._latest else [])]
            self._bar.update(self._task, completed=step.progress, figures="\n".join(lines))
        elif step.figures and step.step % (10 * self._plan.config.log_every) == 0:
            console.say("  ".join([f"{100 * step.progress:3.0f} %", _head(step), *_lines(step.figures)]))
        if step.evaluation:
            kind = "on training images" if self._plan.overlap else "validation"
            console.say(f"step {step.step}: {kind} {evaluation_line(step)}")
        for name, reason in step.unreadable:
            console.warn(f"{name}: {reason}")
        if step.warning:
            console.warn(step.warning)


def _head(step: Step) -> str:
    """Return the step and how long the rest of the budget takes at the pace so far."""
    left = f"  {_clock(step.seconds * (1 - step.progress) / step.progress)} left" if step.progress else ""
    return f"step {step.step}{left}"


def _clock(seconds: float) -> str:
    """Return a time as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _lines(figures: dict[str, float]) -> list[str]:
    """Return the figures of the latest steps in lines short enough for a terminal of 80 columns with a bar."""
    f = figures
    use = f"used {100 * f['used']:.0f} %  perplexity {f['perplexity']:.0f}" if f["perplexity"] > 1 else "no codes yet"
    rest = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in f.items() if name not in _KNOWN]
    return [
        f"loss {f['loss']:.4f}  psnr {f['psnr']:.2f} dB  {use}",
        f"{f['images_per_second']:.0f} images/s  waiting {100 * f['waiting']:.0f} %",
        *("  ".join(rest[start : start + 3]) for start in range(0, len(rest), 3)),
    ]
