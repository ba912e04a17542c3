"""`vqtok encode`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import inputs as files
from cli import models
from cli import options as o
from cli.console import Console, binary_stdout, printable, write_binary, write_json
from tokenizer.config import Precision
from tokenizer.errors import ImageError, InputError, UsageError
from tokenizer.files import refuse_existing
from tokenizer.images import parse_colour
from tokenizer.placement import ResizeMode
from tokenizer.token_files import SUFFIXES, Failure, TokenSet, sidecar, to_bytes, write

if TYPE_CHECKING:
    from tokenizer.codec import Encoded, Unreadable
    from tokenizer.token_files import Header


def encode(
    inputs: Annotated[list[str] | None, typer.Argument(metavar="INPUT", help="Images, folders, or - .")] = None,
    output: Annotated[
        str, o.option("--output", "-o", help="A .npy or .safetensors file, a folder, or - .", env=False)
    ] = "",
    model: o.Model = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    token_format: Annotated[
        o.TokenFormat | None,
        o.option("--format", help="Format of files in a folder, and of stdout: safetensors unless said."),
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
    device: o.Device = "auto",
    on_error: Annotated[
        o.OnError, o.option("--on-error", help="What an unreadable image does: skip it, or fail.")
    ] = "skip",
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Turn images into tokens.

    \b
    vqtok encode photos/ -m run -o tokens.safetensors    one file, original sizes
    vqtok encode photos/ -m run -o tokens.npy --image-size 256    one (N, h, w) array
    vqtok encode photos/ -m run -o tokens/               one file an image, same tree
    vqtok encode photo.jpg -m run -o - | vqtok decode - -m run -o back.png
    find . -name '*.jpg' -print0 | vqtok encode --files-from - -0 -m run -o t.safetensors

    Without --image-size every image keeps its size, padded to the network's multiple; decoding undoes it.
    """
    console = Console("encode", quiet=quiet, verbose=verbose, progress=not no_progress)
    kind, file_format = _output_kind(output, token_format)
    size, mode = _resize(image_size, resize_mode)
    colour = parse_colour(alpha)
    if output == "-":
        if as_json:
            raise UsageError("-o - and --json both want stdout: name a file for the tokens")
        binary_stdout()
    else:
        _refuse_existing(Path(output), overwrite=overwrite)
        files.check_writable(Path(output), folder=kind == "folder")
    checkpoint = models.required(model)
    sources = files.gather(inputs or [], files_from, null=null)

    from tokenizer import codec, runtime

    loaded = models.load(checkpoint, device, console)
    settings = codec.EncodeOptions(
        image_size=size,
        resize_mode=mode,
        alpha=colour,
        batch_size=batch_size,
        workers=files.default_workers(workers),
        precision=runtime.choose_precision(precision, loaded.device),
    )
    header = codec.header(loaded.network, loaded.fingerprint, settings)
    began = time.perf_counter()
    results = codec.encode(loaded.network, sources, settings)
    results = console.track(_checked(results, console, on_error, one_grid=output.endswith(".npy")), len(sources))
    if kind == "folder":
        done, failed = _write_tree(Path(output), results, header, file_format)
    else:
        done, failed = _write_one(output, codec.collect(results, header), file_format)
    _finish(console, output, done, failed, time.perf_counter() - began, as_json=as_json)


def _finish(
    console: Console, output: str, done: int, failed: Sequence[Failure], seconds: float, *, as_json: bool
) -> None:
    total = done + len(failed)
    if not done:
        raise InputError(f"0 of {total} images encoded, the first failed with: {failed[0].reason}")
    console.say(f"{done} of {total} images encoded to {output if output != '-' else 'stdout'} in {seconds:.1f} s")
    if as_json:
        reasons = [{"name": failure.name, "reason": failure.reason} for failure in failed]
        write_json({"output": output, "images": done, "failed": reasons, "seconds": round(seconds, 3)})
    if failed:
        raise typer.Exit(3)


def _output_kind(output: str, wanted: o.TokenFormat | None) -> tuple[str, str]:
    """Return whether `output` is a file or a folder, and the format of its files."""
    if not output:
        raise UsageError("no output: pass -o FILE.safetensors, -o FILE.npy, -o FOLDER/ or -o -")
    path = Path(output)
    if output == "-":
        return "file", wanted or "safetensors"
    if output.endswith("/") or path.is_dir() or not path.suffix:
        return "folder", wanted or "safetensors"
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{output} has the suffix {path.suffix}: use {' or '.join(SUFFIXES)}, or end a folder with /")
    if wanted not in (None, path.suffix[1:]):
        raise UsageError(f"{output} and --format {wanted} contradict each other")
    return "file", path.suffix[1:]


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    refuse_existing(path, overwrite=overwrite)
    if path.suffix == ".npy":
        refuse_existing(sidecar(path), overwrite=overwrite)


def _resize(image_size: int | None, mode: ResizeMode | None) -> tuple[int | None, str]:
    if image_size is None and mode not in (None, "none"):
        raise UsageError(f"--resize-mode {mode} needs --image-size")
    if image_size is not None and mode == "none":
        raise UsageError("--resize-mode none keeps sizes, --image-size sets them: pass one of the two")
    return image_size, mode or ("none" if image_size is None else "crop")


def _checked(
    results: Iterator[Encoded | Unreadable], console: Console, on_error: o.OnError, *, one_grid: bool
) -> Iterator[Encoded | Unreadable]:
    """Yield the results, warn of unreadable images, and stop at what the output cannot hold."""
    from tokenizer.codec import Unreadable

    first: tuple[int, int] | None = None
    for result in results:
        if isinstance(result, Unreadable):
            if on_error == "fail":
                raise ImageError(f"{printable(result.failure.name)}: {result.failure.reason}")
            console.warn(f"{result.failure.name}: {result.failure.reason}")
        elif one_grid:
            grid = result.record.grid
            first = first or grid
            if grid != first:
                raise UsageError(
                    f"{printable(result.record.name)} has a {grid[0]}x{grid[1]} grid, others {first[0]}x{first[1]}: "
                    "one .npy array holds one size. Pass --image-size, or write .safetensors or a folder"
                )
        yield result


def _write_one(output: str, tokens: TokenSet, token_format: str) -> tuple[int, Sequence[Failure]]:
    if tokens.grids and output == "-":
        write_binary(to_bytes(tokens, token_format))
    elif tokens.grids:
        write(Path(output), tokens)
    return len(tokens.grids), tokens.header.failed


def _write_tree(
    folder: Path, results: Iterator[Encoded | Unreadable], header: Header, token_format: str
) -> tuple[int, Sequence[Failure]]:
    from tokenizer.codec import Unreadable

    done, failed = 0, list[Failure]()
    for result in results:
        if isinstance(result, Unreadable):
            failed.append(result.failure)
            continue
        tokens = TokenSet(replace(header, images=(result.record,)), (result.grid,))
        write(folder / f"{result.record.name}.{token_format}", tokens)
        done += 1
    return done, failed
