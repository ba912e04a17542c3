"""`vqtok train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli import options as o
from cli import settings as layers
from cli import training as job
from cli.console import Console, write_json, write_text
from cli.telling import announce, rehearse
from tokenizer.config import LogTo, to_dict, to_toml
from tokenizer.errors import UsageError
from tokenizer.files import check_output, existing_of


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
    init_from: Annotated[
        Path | None,
        o.option(
            "--init-from",
            help="Start from this checkpoint: a folder that vqtok train wrote, or the name of one that ships.",
            autocompletion=o.complete_model,
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        o.option("--freeze", help="Keep encoder, decoder or codebook of --init-from as it is; can be repeated."),
    ] = None,
    steps: Annotated[int | None, o.option("--steps", min=1, help="Budget in optimizer steps.")] = None,
    minutes: Annotated[float | None, o.option("--minutes", help="Budget in minutes; 30 when nothing is said.")] = None,
    image_size: o.CropSize = None,
    batch_size: o.Crops = None,
    grad_accum: Annotated[
        int | None, o.option("--grad-accum", min=1, help="Batches that make one optimizer step.")
    ] = None,
    lr: Annotated[float | None, o.option("--lr", help="Peak learning rate.")] = None,
    precision: o.TrainPrecision = None,
    device: o.TrainDevice = None,
    compiled: Annotated[
        bool | None, o.option("--compile", help="Compile the network: slow to start, then faster.")
    ] = None,
    deterministic: Annotated[
        bool | None, o.option("--deterministic", help="The same bits each time, on a GPU too; slower there.")
    ] = None,
    workers: o.Workers = None,
    seed: Annotated[int | None, o.option("--seed", min=0, help="Of everything random.")] = None,
    alpha: Annotated[str | None, o.option("--alpha", help="Color under transparent pixels.")] = None,
    val_data: Annotated[
        str | None, o.option("--val-data", help="Evaluate on this folder, not on validation images.")
    ] = None,
    log_every: Annotated[
        int | None, o.option("--log-every", min=1, help="Steps between lines of metrics.jsonl.")
    ] = None,
    eval_every: Annotated[int | None, o.option("--eval-every", min=1, help="Steps between evaluations.")] = None,
    patience: Annotated[
        int | None, o.option("--patience", min=1, help="Stop after that many evaluations without a better PSNR.")
    ] = None,
    save_every: Annotated[float | None, o.option("--save-every", help="Minutes between checkpoints.")] = None,
    keep: Annotated[int | None, o.option("--keep", min=1, help="Training states to keep, the newest.")] = None,
    log_to: Annotated[
        LogTo | None, o.option("--log-to", help="Figures, pictures and histograms for TensorBoard, in RUN/tensorboard.")
    ] = None,
    resume: Annotated[bool, o.option("--resume", help="Go on where the run in -o stopped.", env=False)] = False,
    overwrite: o.Overwrite = False,
    print_config: Annotated[
        bool, o.option("--print-config", help="Print the settings as TOML, and stop.", env=False)
    ] = False,
    dry_run: Annotated[
        bool, o.option("--dry-run", "-n", help="Check everything, estimate time and memory, write nothing.", env=False)
    ] = False,
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
    vqtok train more/ -o new --init-from photo-f8
    vqtok train more/ -o new --init-from run --freeze encoder --freeze codebook
    torchrun --nproc-per-node 4 -m cli train photos/ -o run         on several GPUs

    What is not said is chosen from the images and the machine, and printed.
    """
    console = Console("train", quiet=quiet, verbose=verbose, progress=not no_progress, silent=job.silent())
    flags = {
        "preset": preset,
        "downsample": downsample,
        "quantizer": quantizer,
        "codebook_size": codebook_size,
        "codebooks": codebooks,
        "init_from": None if init_from is None else str(init_from),
        "freeze": sorted(set(freeze)) if freeze else None,
        "steps": steps,
        "minutes": minutes,
        "image_size": image_size,
        "batch_size": batch_size,
        "grad_accum": grad_accum,
        "lr": lr,
        "precision": precision,
        "device": device,
        "compile": compiled,
        "deterministic": deterministic,
        "workers": workers,
        "seed": seed,
        "alpha": alpha,
        "val_data": val_data,
        "log_every": log_every,
        "eval_every": eval_every,
        "patience": patience,
        "save_every": save_every,
        "keep": keep,
        "log_to": log_to,
    }
    given = layers.gather(flags, layers.from_environment(context), config_file, settings or [])
    if not (print_config or dry_run):
        resume = resume or _restarted(_required(output))
        _check_output(_required(output), resume=resume, overwrite=overwrite)

    from tokenizer import runtime
    from tokenizer import train as training

    with runtime.process_group():
        saved, faults = training.read_newest_state(_required(output)) if resume else (None, [])
        for fault in faults:
            console.warn(f"{fault}: going on from the one before")
        config = layers.resumed(saved.config, given) if saved else layers.fresh(given)
        plan = training.plan_run(config, data)
        if print_config:
            settings_now = to_dict(plan.config)
            write_json(settings_now) if as_json else write_text(to_toml(settings_now))
            return
        look = announce(console, plan, thoroughly=dry_run)
        if not dry_run:
            job.run(console, plan, saved, data, _required(output), as_json=as_json)
            return
        with job.explained():
            cost = rehearse(console, plan, look)
    if as_json and not job.silent():
        write_json(cost)


def _restarted(folder: Path) -> bool:
    """Return whether torchrun started this run anew after a process of it died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0 and any(folder.glob("states/step_*.safetensors"))


def _required(output: Path | None) -> Path:
    if output is None:
        raise UsageError("no output: pass -o RUN, the folder of the run")
    return output


def _check_output(folder: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: pass one of the two")
    check_output(folder, folder=True, existing=existing_of(resume=resume, overwrite=overwrite))
