"""`vqtok encode`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli import encoding, models
from cli import inputs as files
from cli import options as o
from cli.console import Console, binary_stdout
from cli.sharing import share as share_of
from tokenizer.config import Precision
from tokenizer.errors import UsageError
from tokenizer.files import refuse_existing
from tokenizer.images import ResizeMode, parse_color
from tokenizer.models import locate_checkpoint
from tokenizer.tokens import TOKEN_FORMATS, sidecar_of


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Images, folders, tar archives, URLs, or - : an image or a tar."),
    ] = None,
    output: Annotated[
        str, o.option("--output", "-o", help="A .npy, .safetensors or .tar file, a folder, or - .", env=False)
    ] = "",
    model: o.Model = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    token_format: Annotated[
        o.TokenFormat | None,
        o.option("--format", help="Format of files in a folder, and of stdout: safetensors unless said."),
    ] = None,
    shard_size: Annotated[
        int | None, o.option("--shard-size", min=1, help="In a folder: files of this many images, and an index.")
    ] = None,
    image_size: Annotated[
        int | None, o.option("--image-size", min=1, help="Give every image this square size, in pixels.")
    ] = None,
    resize_mode: Annotated[
        ResizeMode | None,
        o.option("--resize-mode", help="none keeps sizes (the default without --image-size); crop, pad or squash."),
    ] = None,
    alpha: o.Alpha = "white",
    batch_size: o.BatchSize = 16,
    workers: o.Workers = None,
    precision: Annotated[
        Precision, o.option("--precision", help="float32 gives the same tokens everywhere on a CPU.")
    ] = "float32",
    compile_network: Annotated[
        bool, o.option("--compile", help="Compile the network first, which takes a minute.")
    ] = False,
    device: o.Device = "auto",
    on_error: Annotated[
        o.OnError, o.option("--on-error", help="What an unreadable image does: skip it, or fail.")
    ] = "skip",
    shard: o.Shard = None,
    resume: Annotated[
        bool,
        o.option("--resume", help="Keep what an earlier run finished, and do the rest.", env=False),
    ] = False,
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
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
    kind, file_format = _output_kind(output, token_format, shard_size)
    size, mode = _resize(image_size, resize_mode)
    color = parse_color(alpha)
    part = share_of(shard)
    if resume and overwrite:
        raise UsageError("--resume keeps what is there, --overwrite replaces it: pass one of the two")
    if output == "-":
        if as_json or resume or part[1] > 1:
            raise UsageError("-o - cannot be combined with --json, --resume or --shard: name a file for the tokens")
        binary_stdout()
    else:
        _check_output(Path(output), kind, replaceable=resume or overwrite or part[1] > 1)
    checkpoint = locate_checkpoint(model)
    found = files.gather(inputs or [], files_from, null=null)
    if kind == "folder" and found.count is None and shard_size is None and not found.archives:
        raise UsageError("archives beside images do not make a tree: pass --shard-size, or encode them apart")

    from tokenizer import codec, runtime
    from tokenizer.jobs import EncodeJob

    loaded = models.load(checkpoint, device, console, named=model is not None)
    settings = codec.EncodeOptions(
        image_size=size,
        resize_mode=mode,
        alpha=color,
        batch_size=batch_size,
        workers=files.default_workers(workers),
        precision=runtime.choose_precision(precision, loaded.device),
        compile=compile_network,
    )
    header = codec.token_header(loaded.network, loaded.fingerprint, settings)
    job = EncodeJob(loaded.network, settings, header, file_format, resume, overwrite, fail=on_error == "fail")
    outcomes = encoding.outcomes_of(job, found, output, kind, shard_size, part)
    began = time.perf_counter()
    tally = encoding.run(console, outcomes, output, found.count if part[1] == 1 else None)
    encoding.finish(console, output, tally, time.perf_counter() - began, as_json=as_json, alone=part[1] == 1)


def _check_output(path: Path, kind: str, *, replaceable: bool) -> None:
    """Look before any work whether the output can be written; what other processes began is looked at later."""
    files.check_writable(path, folder=kind == "folder")
    if not replaceable:
        for file in (path, sidecar_of(path)):
            refuse_existing(file, overwrite=False)


def _output_kind(output: str, wanted: o.TokenFormat | None, shard_size: int | None) -> tuple[str, str]:
    """Return whether `output` is a file or a folder, and the format of its files."""
    if not output:
        raise UsageError("no output: pass -o FILE.safetensors, -o FILE.npy, -o FILE.tar, -o FOLDER/ or -o -")
    path = Path(output)
    is_folder = output != "-" and (output.endswith("/") or path.is_dir() or not path.suffix)
    if shard_size is not None and not is_folder:
        raise UsageError(f"--shard-size makes several files, {output} is one: name a folder")
    if output == "-":
        return "file", wanted or "safetensors"
    if is_folder:
        return "folder", wanted or "safetensors"
    if path.suffix[1:] not in TOKEN_FORMATS:
        suffixes = ", ".join(f".{name}" for name in TOKEN_FORMATS)
        raise UsageError(f"{output} has the suffix {path.suffix}: use one of {suffixes}, or end a folder with /")
    if wanted not in (None, path.suffix[1:]):
        raise UsageError(f"{output} and --format {wanted} contradict each other")
    return "file", path.suffix[1:]


def _resize(image_size: int | None, mode: ResizeMode | None) -> tuple[int | None, str]:
    if image_size is None and mode not in (None, "none"):
        raise UsageError(f"--resize-mode {mode} needs --image-size")
    if image_size is not None and mode == "none":
        raise UsageError("--resize-mode none keeps sizes, --image-size sets them: pass one of the two")
    return image_size, mode or ("none" if image_size is None else "crop")
