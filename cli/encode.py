"""`vqtok encode`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.console import Console, binary_stdout, job_result, stdin_of, write_binary, write_json
from cli.options import option
from tokenizer import runtime
from tokenizer.config import Precision
from tokenizer.errors import UsageError
from tokenizer.files import existing_of

if TYPE_CHECKING:
    from tokenizer.jobs import JobRun


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Images, folders, tar archives, URLs, or - : an image or a tar."),
    ] = None,
    output: Annotated[
        str, option("--output", "-o", help="A .npy, .safetensors or .tar file, a folder, or - .", env=False)
    ] = "",
    model: options.Model = None,
    files_from: options.FilesFrom = None,
    null: options.Null = False,
    token_format: Annotated[
        options.TokenFormat | None,
        option("--format", help="Format of files in a folder, and of stdout: safetensors unless said."),
    ] = None,
    shard_size: Annotated[
        int | None, option("--shard-size", min=1, help="In a folder: files of this many images, and an index.")
    ] = None,
    image_size: Annotated[
        int | None, option("--image-size", min=1, help="Give every image this square size, in pixels.")
    ] = None,
    resize_mode: Annotated[
        options.ResizeMode | None,
        option("--resize-mode", help="none keeps sizes (the default without --image-size); crop, pad or squash."),
    ] = None,
    alpha: options.Alpha = "white",
    batch_size: options.BatchSize = 16,
    workers: options.Workers = None,
    precision: Annotated[
        Precision, option("--precision", help="float32 gives the same tokens everywhere on a CPU.")
    ] = "float32",
    compile_network: Annotated[
        bool, option("--compile", help="Compile the network first, which takes a minute.")
    ] = False,
    device: options.Device = "auto",
    on_error: Annotated[
        options.OnError, option("--on-error", help="What an unreadable image does: skip it, or fail.")
    ] = "skip",
    shard: options.Shard = None,
    resume: Annotated[
        bool,
        option("--resume", help="Keep what an earlier run finished, and do the rest.", env=False),
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Turn images into tokens.

    \b
    vqtok encode photos/ -o tokens.safetensors           one file, original sizes, the checkpoint that ships
    vqtok encode photos/ -m run -o tokens.safetensors    with one of your own
    vqtok encode photos/ -o tokens.npy --image-size 256  one (N, h, w) array
    vqtok encode photos/ -m photo-f16 -o tokens/         one file an image, same tree
    vqtok encode photos/ -m run -o shards/ --shard-size 10000 --shard 3/16    part of a cluster's work
    vqtok encode imgs-*.tar -o shards/                   one token file a tar; --format tar: tars again
    vqtok encode photo.jpg -o - | vqtok decode - -o back.png
    find . -name '*.jpg' -print0 | vqtok encode --files-from - -0 -o t.safetensors

    Without --image-size every image keeps its size, padded to the network's multiple; decoding undoes it.
    After Ctrl-C or a crash, the same command with --resume goes on.
    """
    console = Console("encode", quiet=quiet, verbose=verbose, progress=not no_progress)
    existing, share = existing_of(resume=resume, overwrite=overwrite), runtime.choose_share(shard)
    if output == "-":
        if as_json:
            raise UsageError("-o - and --json both want stdout: name a file for the tokens")
        binary_stdout()

    from tokenizer import codec, jobs
    from tokenizer.images import parse_color
    from tokenizer.inputs import NamedInputs

    run = jobs.encode(
        NamedInputs(inputs or [], files_from, null, stdin_of([*(inputs or []), files_from])),
        write_binary if output == "-" else output,
        model,
        codec.EncodeOptions(
            image_size, resize_mode, parse_color(alpha), batch_size, workers, precision, compile=compile_network
        ),
        device=device,
        token_format=token_format,
        shard_size=shard_size,
        existing=existing,
        share=share,
        on_error=on_error,
    )
    console.tell_checkpoint(run.model, named=model is not None)
    began = time.perf_counter()
    console.watch(run)
    _tell(console, run, output, time.perf_counter() - began, as_json=as_json, alone=share[1] == 1)
    if run.totals.failed and not runtime.launch().under_torchrun:  # it would stop the other processes
        raise typer.Exit(3)


def _tell(console: Console, run: JobRun, output: str, seconds: float, *, as_json: bool, alone: bool) -> None:
    """Tell what was done; `alone` when no other process does a part."""
    totals = run.totals
    if totals.first_frames:
        console.warn(f"files with several frames or pages: {totals.first_frames}; the first of each was encoded")
    kept = f", {totals.kept} of them before," if totals.kept else ""
    share = "" if alone else " of this part"
    where = "stdout" if output == "-" else output
    total = totals.images + totals.failed
    console.say(f"{totals.images} of {total} images{share} encoded{kept} to {where} in {seconds:.1f} s")
    if as_json:
        write_json({**job_result(output, totals, seconds), "first_frames": totals.first_frames})
