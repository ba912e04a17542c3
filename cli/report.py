"""`vqtok report`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli import options as o
from cli import reporting
from cli.comparing import command
from cli.console import Console, write_text
from cli.subjects import Wanted, measure, subjects
from tokenizer.errors import UsageError
from tokenizer.files import write_bytes
from tokenizer.images import Source, parse_color
from tokenizer.inputs import find_images
from tokenizer.report import ReportSection, report_page, reports_to_csv

_STDOUT = "-"
_MISSED = 4


def report(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOKENS", help="Token files, folders of them, or - ; each is a report of its own."),
    ] = None,
    images: Annotated[
        Path | None, o.option("--images", help="The originals: adds how good the pictures are.", env=False)
    ] = None,
    model: Annotated[
        list[Path] | None,
        o.option(
            "--model",
            "-m",
            help=f"{o.MODEL_HELP}; several for several reports. Unless said, the shipped one that made the tokens.",
            autocompletion=o.complete_model,
        ),
    ] = None,
    top_k: Annotated[int, o.option("--top-k", min=0, help="How many of the most used codes to list.")] = 5,
    max_images: Annotated[
        int | None,
        o.option("--max-images", min=1, help="Without TOKENS: only the first of --images.", env=False),
    ] = None,
    baselines: Annotated[bool, o.option("--baselines", help="Add JPEG and WebP at the same bits per pixel.")] = False,
    stability: Annotated[
        bool, o.option("--stability", help="Add how many tokens change with small changes of the picture.")
    ] = False,
    lpips_weights: Annotated[
        Path | None, o.option("--lpips-weights", help="Add LPIPS: torchvision's weights of VGG-16 or AlexNet.")
    ] = None,
    inception_weights: Annotated[
        Path | None, o.option("--inception-weights", help="Add rFID: weights of the Inception network.")
    ] = None,
    csv: Annotated[
        str | None, o.option("--csv", help="A line for each report to this file; - is stdout.", env=False)
    ] = None,
    html: Annotated[
        Path | None, o.option("--html", help="One page with plots and pictures to this file.", env=False)
    ] = None,
    max_pictures: Annotated[
        int, o.option("--max-pictures", min=0, help="Pictures in the page: half the worst, half the best.")
    ] = 24,
    codebook_picture: Annotated[
        Path | None, o.option("--codebook-picture", help="What each code means, as PNG to this file.", env=False)
    ] = None,
    fail_under_usage: Annotated[
        float | None,
        o.option("--fail-under-usage", min=0, max=1, help="Exit code 4 when a smaller share of codes is used."),
    ] = None,
    fail_under_psnr: Annotated[
        float | None, o.option("--fail-under-psnr", help="Exit code 4 when the mean PSNR is under so many dB.")
    ] = None,
    overwrite: o.Overwrite = False,
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
    vqtok report tokens.safetensors --images photos/ --html report.html
    vqtok report --images photos/ -m run            encodes them first
    vqtok report --images photos/ -m run8 -m run16  side by side, as are a.safetensors b.safetensors
    vqtok report tokens.safetensors --json | jq .perplexity
    vqtok report tokens.safetensors -m run --images photos/ --fail-under-usage 0.9 --fail-under-psnr 24

    A folder of shards is one report.
    """
    console = Console("report", quiet=quiet, verbose=verbose, progress=not no_progress)
    chosen = list(dict.fromkeys(model or []))
    needing = {
        "--stability": stability,
        "--baselines": baselines,
        "--lpips-weights": lpips_weights,
        "--inception-weights": inception_weights,
        "--fail-under-psnr": fail_under_psnr is not None,
        "--codebook-picture": codebook_picture,
    }
    _check_call(inputs or [], images, max_images, [option for option, given in needing.items() if given])
    if fail_under_psnr is not None and not math.isfinite(fail_under_psnr):
        raise UsageError(f"--fail-under-psnr is {fail_under_psnr}, expected a number of dB")
    if csv == _STDOUT and as_json:
        raise UsageError("--csv - and --json both write to stdout: pass one of the two")
    color = parse_color(alpha)
    table_file = Path(csv) if csv not in (None, _STDOUT) else None
    reporting.check_outputs([table_file, html, codebook_picture], overwrite=overwrite)
    several = subjects(inputs or [], chosen, console, with_model=bool(chosen) or images is not None)
    if codebook_picture is not None and len(several) > 1:
        raise UsageError("--codebook-picture is of one report: name one token file, or one -m")
    originals: Sequence[Source] = find_images([images]) if images is not None else []
    wanted = Wanted(
        originals=originals,
        folder=str(images),
        alpha=color,
        top=top_k,
        max_images=max_images,
        batch_size=batch_size,
        workers=workers,
        device=device,
        lpips=lpips_weights,
        inception=inception_weights,
        baselines=baselines,
        stability=stability,
        codes=codebook_picture is not None or (html is not None and images is not None),
        pictures=0 if html is None else max_pictures // len(several),
    )
    sections = [measure(subject, wanted, console, number) for number, subject in enumerate(several, 1)]
    reporting.warn(console, sections)
    _write(sections, table_file, html, codebook_picture)
    _show(sections, csv, as_json=as_json)
    lines = list(reporting.missed(sections, fail_under_usage, fail_under_psnr))
    for line in lines:
        console.warn(line)
    if lines:
        raise typer.Exit(_MISSED)
    if not inputs and any(section.report.failed for section in sections):
        raise typer.Exit(3)


def _check_call(inputs: Sequence[str], images: Path | None, max_images: int | None, needing: Sequence[str]) -> None:
    if not inputs and images is None:
        raise UsageError("nothing to report on: name token files, or --images")
    if max_images is not None and (inputs or images is None):
        raise UsageError("--max-images is for --images without token files")
    if needing and images is None:
        raise UsageError(f"{needing[0]} needs the originals: pass --images")


def _write(sections: Sequence[ReportSection], table: Path | None, html: Path | None, codes: Path | None) -> None:
    named = [(section.name, section.report) for section in sections]
    if table is not None:
        write_bytes(table, reports_to_csv(named).encode())
    if html is not None:
        write_bytes(html, report_page(sections, command()).encode())
    if codes is not None and sections[0].codes is not None:
        write_bytes(codes, sections[0].codes)


def _show(sections: Sequence[ReportSection], csv: str | None, *, as_json: bool) -> None:
    if csv == _STDOUT:
        write_text(reports_to_csv([(section.name, section.report) for section in sections]))
    elif as_json:
        reporting.show_json(sections)
    else:
        reporting.show(sections)
