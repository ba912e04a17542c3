"""`vqtok decode`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from cli import decoding as job
from cli import models
from cli import options as o
from cli.console import Console, write_json
from cli.sharing import share, under_torchrun
from cli.target import check_output, target_of
from cli.tokens import read_all
from tokenizer.errors import UsageError
from tokenizer.models import describe_checkpoint, locate_checkpoint


def decode(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="TOKENS", help="Token files, folders of them, or - .", show_default=False),
    ],
    output: Annotated[
        str, o.option("--output", "-o", help="A folder, an image file for one image or a sheet, or - .", env=False)
    ] = "",
    model: o.ModelOfTokens = None,
    image_format: Annotated[
        o.ImageFormat | None, o.option("--image-format", help="png (the default), jpg, or lossless webp.")
    ] = None,
    index: Annotated[
        str | None,
        o.option(
            "--index",
            help="Only the images A to B-1 of all TOKENS taken together, as A:B; either may be missing.",
            env=False,
        ),
    ] = None,
    grid: Annotated[
        str | None,
        o.option("--grid", help="HxW: the grid of an array of sequences, (N, H*W), row by row.", env=False),
    ] = None,
    codes: Annotated[
        int | None,
        o.option("--codes", min=1, help="Only the first codes of each position: a coarser picture.", env=False),
    ] = None,
    contact_sheet: Annotated[bool, o.option("--contact-sheet", help="All images in one picture.", env=False)] = False,
    columns: Annotated[
        int | None, o.option("--columns", min=1, help="Of the contact sheet; about square unless said.", env=False)
    ] = None,
    allow_mismatch: Annotated[
        bool, o.option("--allow-mismatch", help="Decode tokens that another checkpoint made.", env=False)
    ] = False,
    batch_size: o.BatchSize = 16,
    device: o.Device = "auto",
    on_error: Annotated[
        o.OnError,
        o.option("--on-error", help="What a token file that cannot be decoded does: skip it, or fail.", env=False),
    ] = "fail",
    resume: Annotated[
        bool, o.option("--resume", help="Keep the pictures that are there, whole and of the right size.", env=False)
    ] = False,
    shard: o.Shard = None,
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
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
    part = share(shard)
    console = Console(
        "decode", quiet=quiet, verbose=verbose, progress=not no_progress, silent=shard is None and part[0] > 0
    )
    target = target_of(output, image_format, part, columns, sheet=contact_sheet, resume=resume, overwrite=overwrite)
    if output == "-" and as_json:
        raise UsageError("-o - and --json both want stdout: name a file for the image")
    check_output(target)
    shape = job.parse_grid(grid)
    skipping = job.Skipping(console, on_error)
    checkpoint = locate_checkpoint(model) if model or shape else None
    files = read_all(
        inputs, console, shape, len(describe_checkpoint(checkpoint).codebook_sizes) if checkpoint and shape else 1
    )
    images = job.choose(files, index, skipping)
    if target.kind == "file" and len(images) > 1:
        raise UsageError(
            f"{len(images)} images do not fit {output}: name a folder, pick one with --index, or pass --contact-sheet"
        )
    loaded = models.load(checkpoint or job.checkpoint_of(images), device, console, named=model is not None)
    images = job.check_images(images, loaded, skipping, allow_mismatch=allow_mismatch)
    began = time.perf_counter()
    done = job.run(target, images, job.Decoder(loaded, batch_size, codes), console)
    seconds = time.perf_counter() - began
    kept = f", {done.kept} of them before," if done.kept else ""
    console.say(f"{done.images} images decoded{kept} to {target.shown} in {seconds:.1f} s")
    if as_json:
        write_json({"output": output, **asdict(done), "failed": skipping.failed, "seconds": round(seconds, 3)})
    if skipping.failed and not under_torchrun():
        raise typer.Exit(3)
