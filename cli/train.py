"""`vqtok train`."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options as o
from cli.console import Console, write_json
from cli.stop import between_steps
from tokenizer.config import PRESETS, TrainConfig
from tokenizer.errors import ConfigError, InputError, UsageError, nearest_name
from tokenizer.files import refuse_existing
from tokenizer.settings import assignments, merge, parse, read_toml, to_dict, to_toml

if TYPE_CHECKING:
    from tokenizer.train import Plan, Saved, Step, TrainingState

# What may differ when a run goes on: where and how fast it runs, not what it computes.
_FREE_ON_RESUME = ("device", "workers", "log_every", "eval_every", "save_every")


def train(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA...", help="Folders of images (any layout), or images.", show_default=False),
    ],
    output: Annotated[Path | None, o.option("--output", "-o", help="Folder of the run.", env=False)] = None,
    config_file: Annotated[Path | None, o.option("--config", "-c", help="Settings from a TOML file.")] = None,
    settings: Annotated[
        list[str] | None,
        o.option("--set", help="KEY=VALUE: any setting, such as quantizer.noise_std=0.01.", env=False),
    ] = None,
    preset: Annotated[str | None, o.option("--preset", help=f"Size of the network: {', '.join(PRESETS)}.")] = None,
    downsample: Annotated[
        int | None, o.option("--downsample", help="Pixels per position and side: 4, 8, 16, 32.")
    ] = None,
    quantizer: Annotated[str | None, o.option("--quantizer", help="See vqtok list.")] = None,
    codebook_size: Annotated[int | None, o.option("--codebook-size", min=1, help="Number of codes.")] = None,
    steps: Annotated[int | None, o.option("--steps", min=1, help="Budget in optimizer steps.")] = None,
    minutes: Annotated[float | None, o.option("--minutes", help="Budget in minutes; 30 when nothing is said.")] = None,
    image_size: Annotated[int | None, o.option("--image-size", min=1, help="Side of the training crops.")] = None,
    batch_size: Annotated[int | None, o.option("--batch-size", "-b", min=1, help="Crops a step.")] = None,
    lr: Annotated[float | None, o.option("--lr", help="Peak learning rate.")] = None,
    precision: Annotated[o.PrecisionName | None, o.option("--precision", help="Of the network's arithmetic.")] = None,
    device: Annotated[str | None, o.option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = None,
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
    vqtok train photos/ --print-config > my.toml

    What is not said is chosen from the images and the machine, and printed.
    """
    console = Console("train", quiet=quiet, verbose=verbose, progress=not no_progress)
    flags = _flags(
        preset=preset,
        network={"downsample": downsample},
        quantizer={"name": quantizer, "codebook_size": codebook_size},
        steps=steps,
        minutes=minutes,
        image_size=image_size,
        batch_size=batch_size,
        lr=lr,
        precision=precision,
        device=device,
        workers=workers,
        seed=seed,
        alpha=alpha,
        val_data=val_data,
        log_every=log_every,
        eval_every=eval_every,
        save_every=save_every,
    )
    given = merge(read_toml(config_file) if config_file else {}, assignments(settings or []), flags)
    given = _with_preset(given)
    if output is None and not (print_config or dry_run):
        raise UsageError("no output: pass -o RUN, the folder to write")
    if output is not None and not (resume or print_config or dry_run):
        refuse_existing(output, overwrite=overwrite)

    from tokenizer import train as training

    saved = None
    if resume:
        saved = training.read_state(_required(output))
        config = _resumed(saved, given)
    else:
        config = parse(TrainConfig, given)
    plan = training.plan(config, data)
    if print_config:
        typer.echo(to_toml(to_dict(plan.config)), nl=False)
        return
    _announce(console, plan)
    if dry_run:
        return
    folder = _required(output)
    state = training.resume(plan, saved) if saved else training.begin(plan)
    if saved:
        console.say(f"going on from step {state.step}, {state.seconds / 60:.1f} min into the run")
    stopped = _run(console, plan, state, folder)
    if stopped is not None:
        again = shlex.join(["vqtok", "train", *map(str, data), "-o", str(folder), "--resume"])
        console.warn(f"stopped at step {state.step}, everything is saved. To go on: {again}")
        raise typer.Exit(stopped)
    _finish(console, folder, state, as_json=as_json)


def _flags(**values: Any) -> dict[str, Any]:
    """Return the values that were given, without empty tables."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flags(**value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            kept[key] = inner
    return kept


def _with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Put the preset's network under the settings given."""
    name = given.pop("preset", None)
    if name is None:
        return given
    if name not in PRESETS:
        raise ConfigError([f"unknown preset {name!r}{nearest_name(name, PRESETS) or ', known: ' + ', '.join(PRESETS)}"])
    return merge({"network": PRESETS[name]}, given)


def _required(output: Path | None) -> Path:
    if output is None:
        raise UsageError("no output: pass -o RUN, the folder of the run")
    return output


def _resumed(saved: Saved, given: dict[str, Any]) -> TrainConfig:
    """Return the saved settings; those given now must agree, but for those that change no result."""
    before = to_dict(saved.config)
    free = {key: given[key] for key in _FREE_ON_RESUME if key in given}
    wanted = to_dict(parse(TrainConfig, merge(before, given)))
    faults = [
        f"{key} was {_at(before, key)}, now {_at(wanted, key)}"
        for key in _leaves(given)
        if key not in _FREE_ON_RESUME and _at(before, key) != _at(wanted, key)
    ]
    if faults:
        raise InputError(f"cannot resume with other settings: {'; '.join(faults)}: leave them out, or start a new run")
    return parse(TrainConfig, merge(before, free))


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _announce(console: Console, plan: Plan) -> None:
    config = plan.config
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    kind = "training images" if plan.overlap else "held-out images"
    options = ", ".join(f"{key} {value}" for key, value in config.quantizer.items() if key != "name")
    network = config.network
    console.say(f"{len(plan.train)} images to train on, evaluated on {len(plan.held_out)} {kind}")
    console.say(f"network: downsample {network.downsample}, widths {network.widths}, depths {network.depths}")
    console.say(f"quantizer: {config.quantizer['name']} ({options}), latents {network.latent_dim} wide")
    console.say(
        f"training: {budget}, batches of {config.batch_size} crops of {config.image_size} px, {config.precision} on "
        f"{config.device}, {config.workers} reading threads, seed {config.seed}"
    )
    for note in plan.notes:
        console.warn(note)


def _run(console: Console, plan: Plan, state: TrainingState, folder: Path) -> int | None:
    """Train, and return the exit code when a signal asked to stop."""
    from tokenizer import train as training

    with (
        between_steps() as request,
        console.progress("figures") as bar,
        contextlib.closing(training.train(plan, state, folder)) as steps,
    ):
        task = bar.add_task("", total=1.0, figures="")
        for step in steps:
            bar.update(task, completed=step.progress)
            if step.figures:
                bar.update(task, figures=_figures(step))
                if not console.live and step.step % (10 * plan.config.log_every) == 0:
                    console.say(f"{100 * step.progress:3.0f} %  {_figures(step)}")
            if step.evaluation:
                console.say(f"step {step.step}: held out {_evaluation(step)}")
            if request.exit_code is not None and step.progress < 1:
                return request.exit_code
    return None


def _figures(step: Step) -> str:
    f = step.figures or {}
    use = (
        f"used {100 * f['used']:.0f} %  perplexity {f['perplexity']:.0f}  " if f["perplexity"] > 1 else "no codes yet  "
    )
    return (
        f"step {step.step}  loss {f['loss']:.4f}  psnr {f['psnr']:.2f} dB  {use}"
        f"{f['images_per_second']:.0f} images/s  waiting {100 * f['waiting']:.0f} %"
    )


def _evaluation(step: Step) -> str:
    e = step.evaluation
    return "" if e is None else f"psnr {e.psnr:.2f} dB, used {100 * e.used:.1f} %, perplexity {e.perplexity:.0f}"


def _finish(console: Console, folder: Path, state: TrainingState, *, as_json: bool) -> None:
    console.say(f"the checkpoint is in {folder}, pictures in {folder / 'pictures'}")
    if state.skipped:
        console.warn(f"{state.skipped} steps were skipped because their gradient was not finite")
    if as_json:
        write_json({"output": str(folder), "steps": state.step, "seconds": round(state.seconds, 1), **state.figures})
