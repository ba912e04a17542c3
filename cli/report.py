"""`vqtok report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import inputs as files
from cli import models
from cli import options as o
from cli.console import Console, printable, write_json, write_rows, write_text
from cli.decode import check_all, read_all
from tokenizer.errors import InputError, UsageError
from tokenizer.evaluate import Quality, Report, measure_quality, usage_report
from tokenizer.images import Source, find, parse_colour
from tokenizer.metrics import DEFINITIONS

if TYPE_CHECKING:
    from tokenizer.token_files import TokenSet


def report(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="TOKENS", help="Token files, folders of them, or - .")
    ] = None,
    images: Annotated[
        Path | None, o.option("--images", help="The originals: adds PSNR and SSIM. Needs -m.", env=False)
    ] = None,
    model: o.Model = None,
    top_k: Annotated[int, o.option("--top-k", min=0, help="How many of the most used codes to list.")] = 5,
    max_images: Annotated[
        int | None,
        o.option("--max-images", min=1, help="Without TOKENS: only the first of --images.", env=False),
    ] = None,
    alpha: o.Alpha = "white",
    batch_size: o.BatchSize = 16,
    workers: o.Workers = None,
    device: o.Device = "auto",
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Say how well the codebook is used, and with images how good the pictures are.

    \b
    vqtok report tokens.safetensors
    vqtok report tokens.safetensors -m run --images photos/
    vqtok report --images photos/ -m run          encodes them first
    vqtok report tokens.safetensors --json | jq .perplexity
    """
    console = Console("report", quiet=quiet, verbose=verbose, progress=not no_progress)
    if not inputs and images is None:
        raise UsageError("nothing to report on: name token files, or --images with -m")
    if images is not None and model is None:
        raise UsageError("--images needs the checkpoint: pass -m RUN")
    if max_images is not None and (inputs or images is None):
        raise UsageError("--max-images is for --images without token files")
    colour = parse_colour(alpha)
    named = read_all(inputs or [])
    originals = find([images]) if images is not None else []
    sizes = named[0][1].header.codebook_sizes if named else ()
    quality: Quality | None = None
    if model is not None:
        loaded = models.load(model, device, console)
        sizes = loaded.network.codebook_sizes
        if not named:
            originals = originals[:max_images]
            named = [(str(images), _encode(console, loaded, originals, colour, batch_size, workers))]
        check_all(named, loaded, allow_mismatch=False)
        if images is not None:
            quality = measure_quality(loaded.network, _sets(named), _by_name(originals), colour)
    _check_alike(named, sizes)
    result = usage_report(_sets(named), sizes, top_k, quality)
    _warn(console, result, named)
    if as_json:
        write_json(result.to_json())
    else:
        _show(result)
    if not inputs and result.failed:
        raise typer.Exit(3)


def _encode(
    console: Console,
    loaded: models.Loaded,
    originals: Sequence[Source],
    alpha: tuple[int, int, int],
    batch_size: int,
    workers: int | None,
) -> TokenSet:
    from tokenizer import codec

    settings = codec.EncodeOptions(alpha=alpha, batch_size=batch_size, workers=files.default_workers(workers))
    results = console.track(codec.encode(loaded.network, originals, settings), len(originals))
    tokens = codec.collect(results, codec.header(loaded.network, loaded.fingerprint, settings))
    if not tokens.grids:
        first = tokens.header.failed[0]
        raise InputError(f"0 of {len(originals)} images encoded, the first is {printable(first.name)}: {first.reason}")
    return tokens


def _sets(named: Sequence[tuple[str, TokenSet]]) -> list[TokenSet]:
    return [tokens for _, tokens in named]


def _by_name(originals: Sequence[Source]) -> dict[str, Source]:
    return {source.name: source for source in originals}


def _check_alike(named: Sequence[tuple[str, TokenSet]], sizes: tuple[int, ...]) -> None:
    if not sizes:
        raise UsageError(f"{printable(named[0][0])} names no codebook size: pass -m RUN, the checkpoint that made it")
    models = {tokens.header.model for _, tokens in named}
    if len(models) > 1:
        raise UsageError("these token files were made by different checkpoints: report on them one by one")


def _warn(console: Console, result: Report, named: Sequence[tuple[str, TokenSet]]) -> None:
    for _, tokens in named:
        for failure in tokens.header.failed:
            console.warn(f"not encoded: {failure.name}: {failure.reason}")
    if result.quality and result.quality.missing:
        console.warn(f"{len(result.quality.missing)} images of the token file are not among --images")
    if result.tokens < 20 * sum(slot.codebook_size for slot in result.slots):
        console.warn(f"{result.tokens} tokens are few for this codebook: used and perplexity are low for that alone")


def _show(result: Report) -> None:
    rows = [("images", str(result.images)), ("tokens", str(result.tokens))]
    if result.failed:
        rows.append(("failed", str(result.failed)))
    rows += [
        ("codebook", " x ".join(str(slot.codebook_size) for slot in result.slots)),
        ("used", f"{100 * result.used:.2f} %"),
        ("dead", str(result.dead)),
        ("perplexity", f"{result.perplexity:.1f}"),
        ("entropy", f"{result.entropy_bits:.3f} bits per code"),
    ]
    if result.bits_per_pixel is not None:
        rows.append(("rate", f"{result.bits_per_pixel:.4f} bits per pixel"))
    for number, slot in enumerate(result.slots):
        label = "most used" if len(result.slots) == 1 else f"most used, code {number}"
        if slot.top:
            rows.append((label, ", ".join(f"{code} ({100 * share:.2f} %)" for code, _, share in slot.top)))
    if result.quality:
        rows += _quality_rows(result.quality)
    write_rows(rows)
    shown = [
        "used",
        "perplexity",
        "entropy_bits",
        "bits_per_pixel",
        *(["psnr", "ssim"] if result.quality else []),
    ]
    write_text("\n" + "".join(f"{name}: {DEFINITIONS[name]}\n" for name in shown))


def _quality_rows(quality: Quality) -> list[tuple[str, str]]:
    rows = []
    if quality.psnr is not None:
        rows.append(("psnr", f"{quality.psnr:.2f} dB over {len(quality.images) - quality.exact} images"))
        ranked = sorted((i for i in quality.images if i.psnr is not None), key=lambda i: i.psnr or 0)
        rows.append(("worst", f"{printable(ranked[0].name)} ({ranked[0].psnr:.2f} dB)"))
        rows.append(("best", f"{printable(ranked[-1].name)} ({ranked[-1].psnr:.2f} dB)"))
    if quality.exact:
        rows.append(("exact", f"{quality.exact} images came back without any error"))
    if quality.ssim is not None:
        rows.append(("ssim", f"{quality.ssim:.4f}"))
    return rows
