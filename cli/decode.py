"""`vqtok decode`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.console import Console, binary_stdout, job_result, stdin_of, write_binary, write_json
from cli.options import option
from tokenizer import runtime
from tokenizer.errors import UsageError
from tokenizer.files import existing_of

if TYPE_CHECKING:
    from tokenizer.jobs import JobRun


def decode(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="TOKENS", help="Token files, folders of them, or - .", show_default=False),
    ],
    output: Annotated[
        str,
        option("--output", "-o", help="A folder, an image file for one image or a sheet, or - .", env=False),
    ] = "",
    model: options.ModelOfTokens = None,
    image_format: Annotated[
        options.ImageFormat | None, option("--image-format", help="png (the default), jpg, or lossless webp.")
    ] = None,
    index: Annotated[
        str | None,
        option(
            "--index",
            help="Only the images A to B-1 of all TOKENS taken together, as A:B; either may be missing.",
            env=False,
        ),
    ] = None,
    grid: Annotated[
        str | None,
        option("--grid", help="HxW: the grid of an array of sequences, (N, H*W), row by row.", env=False),
    ] = None,
    codes: Annotated[
        int | None,
        option("--codes", min=1, help="Only the first codes of each position: a coarser picture.", env=False),
    ] = None,
    contact_sheet: Annotated[bool, option("--contact-sheet", help="All images in one picture.", env=False)] = False,
    columns: Annotated[
        int | None,
        option("--columns", min=1, help="Of the contact sheet; about square unless said.", env=False),
    ] = None,
    allow_mismatch: Annotated[
        bool, option("--allow-mismatch", help="Decode tokens that another checkpoint made.", env=False)
    ] = False,
    batch_size: options.BatchSize = 16,
    device: options.Device = "auto",
    on_error: Annotated[
        options.OnError,
        option("--on-error", help="What a token file that cannot be decoded does: skip it, or fail.", env=False),
    ] = "fail",
    resume: Annotated[
        bool,
        option("--resume", help="Keep the pictures that are there, whole and of the right size.", env=False),
    ] = False,
    shard: options.Shard = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Turn tokens back into images, with their names and sizes.

    \b
    vqtok decode tokens.safetensors -o back/                         of a checkpoint that ships
    vqtok decode tokens.safetensors -m run -o back/                  of one of your own
    vqtok decode shards/ -m run -o back/ --resume                    goes on after Ctrl-C
    vqtok decode shards/ -m run -o back/ --shard 3/16                one of 16 processes
    vqtok decode tokens.npy -m run -o back/ --index 0:10 --image-format jpg
    vqtok decode tokens.npy -m run -o sheet.png --contact-sheet --index :64
    vqtok decode samples.npy -m run -o samples/ --grid 16x16         (N, 256), from a generator
    vqtok decode tokens.safetensors -m run -o coarse/ --codes 2      of a residual quantizer
    vqtok encode photo.jpg -o - | vqtok decode - -o back.png

    An array without a header, as a generator writes it, may be (h, w), (N, h, w) or (N, h, w, C); with --grid also
    (N, h*w), (h*w,), (N, h*w, C) or (N, h*w*C).
    """
    share = runtime.choose_share(shard)
    # Of the processes that torchrun started, the first one speaks.
    silent = shard is None and share[0] > 0
    console = Console("decode", quiet=quiet, verbose=verbose, progress=not no_progress, silent=silent)
    existing = existing_of(resume=resume, overwrite=overwrite)
    if output == "-":
        if as_json:
            raise UsageError("-o - and --json both want stdout: name a file for the image")
        binary_stdout()
    shape = _grid(grid)

    from tokenizer import jobs

    run = jobs.decode(
        inputs,
        write_binary if output == "-" else output,
        model,
        jobs.DecodeOptions(index, shape, codes, image_format, contact_sheet, columns, allow_mismatch, batch_size),
        device=device,
        existing=existing,
        share=share,
        on_error=on_error,
        stdin=stdin_of(inputs),
    )
    for warning in run.warnings:
        console.warn(warning)
    console.tell_checkpoint(run.model, named=model is not None)
    began = time.perf_counter()
    console.watch(run, "left out: ")
    _tell(console, run, output, time.perf_counter() - began, as_json=as_json)
    if run.totals.failed and not runtime.launch().under_torchrun:  # it would stop the other processes
        raise typer.Exit(3)


def _grid(text: str | None) -> tuple[int, int] | None:
    """Return the (h, w) of `HxW`.

    Raises:
        UsageError: it is no grid.
    """
    if text is None:
        return None
    match = re.fullmatch(r"0*([1-9][0-9]{0,8})x0*([1-9][0-9]{0,8})", text)
    if match is None:
        raise UsageError(f"--grid is {text!r}, expected HxW, such as 16x16")
    return int(match[1]), int(match[2])


def _tell(console: Console, run: JobRun, output: str, seconds: float, *, as_json: bool) -> None:
    """Tell what was done."""
    totals = run.totals
    kept = f", {totals.kept} of them before," if totals.kept else ""
    where = "stdout" if output == "-" else output
    console.say(f"{totals.images} images decoded{kept} to {where} in {seconds:.1f} s")
    if as_json:
        write_json(job_result(output, totals, seconds))
