"""`vqtok compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import comparing
from cli import options as o
from cli.console import Console, printable, write_json, write_rows, write_text
from tokenizer.config import gather_settings
from tokenizer.errors import TrainingError, UsageError
from tokenizer.files import locked_folder, write_bytes

if TYPE_CHECKING:
    from tokenizer.compare import Comparison, ComparisonReport

_STEPS = 1000
_STDOUT = "-"


def compare(
    context: typer.Context,
    data: o.Data,
    output: Annotated[Path | None, o.option("--output", "-o", help="Folder of all runs.", env=False)] = None,
    quantizers: Annotated[
        str | None,
        o.option("--quantizers", help="Which, with commas between: 'diveq, ste(beta=1)'; all single ones by default."),
    ] = None,
    seeds: Annotated[str, o.option("--seeds", help="How many runs of each, such as 3, or which, such as 0,4,7.")] = "1",
    steps: Annotated[
        int | None, o.option("--steps", min=1, help=f"Budget of each run; {_STEPS} when nothing is said.")
    ] = None,
    minutes: Annotated[float | None, o.option("--minutes", help="Budget of each run in minutes.")] = None,
    preset: o.Preset = None,
    downsample: o.Downsample = None,
    codebook_size: Annotated[
        int | None, o.option("--codebook-size", min=1, help="Codes of every quantizer that does not say its own.")
    ] = None,
    image_size: o.CropSize = None,
    batch_size: o.Crops = None,
    precision: o.TrainPrecision = None,
    device: o.TrainDevice = None,
    workers: o.Workers = None,
    val_data: Annotated[
        str | None, o.option("--val-data", help="Compare on this folder, not on validation images.")
    ] = None,
    config_file: o.Config = None,
    settings: Annotated[
        list[str] | None,
        o.option("--set", help="KEY=VALUE: any setting of all runs, such as lr=1e-3.", env=False),
    ] = None,
    resume: Annotated[
        bool, o.option("--resume", help="Train what is missing in -o, keep the rest.", env=False)
    ] = False,
    overwrite: o.Overwrite = False,
    csv: Annotated[str | None, o.option("--csv", help="The table as CSV to this file; - is stdout.", env=False)] = None,
    html: Annotated[Path | None, o.option("--html", help="One page with all to this file.", env=False)] = None,
    as_json: o.AsJson = False,
    dry_run: Annotated[bool, o.option("--dry-run", "-n", help="Check everything, train nothing.", env=False)] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Train several quantizers alike, and rank them on validation images.

    \b
    vqtok compare photos/ -o cmp --quantizers 'diveq, ste, ema' --seeds 3
    vqtok compare photos/ -o cmp --quantizers 'residual(2*diveq), diveq(noise_std=0.01)' --codebook-size 256
    vqtok compare photos/ -o cmp --steps 4000 --downsample 8 --html cmp.html
    vqtok compare photos/ -o cmp --resume           goes on after Ctrl-C, with the same options
    vqtok compare photos/ -o cmp --json | jq .ranking

    Each run has the same network, data, order of crops and budget. Figures are of pictures decoded from the tokens
    alone. OUT/runs holds a checkpoint of every run.
    """
    console = Console("compare", quiet=quiet, verbose=verbose, progress=not no_progress)
    flags = {
        "preset": preset,
        "downsample": downsample,
        "codebook_size": codebook_size,
        "steps": steps,
        "minutes": minutes,
        "image_size": image_size,
        "batch_size": batch_size,
        "precision": precision,
        "device": device,
        "workers": workers,
        "val_data": val_data,
    }
    if output is None:
        raise UsageError("no output: pass -o OUT, the folder of all runs")
    if csv == _STDOUT and as_json:
        raise UsageError("--csv - and --json both write to stdout: pass one of the two")
    table_file = Path(csv) if csv not in (None, _STDOUT) else None
    if not dry_run:
        comparing.check_outputs(data, output, [table_file, html], resume=resume, overwrite=overwrite)
    given = gather_settings(*o.by_source(context, flags), config_file, settings or [])
    size = comparing.take_codebook_size(given, settings or [], console)
    contest = _prepare(given, data, quantizers, seeds, output, size)
    comparing.announce(console, contest)
    if dry_run:
        _show_plan(contest, as_json=as_json)
        return
    with locked_folder(output):
        result, failed = _run(console, contest, resume=resume, overwrite=overwrite)
        _write(console, result, table_file, html)
    _show(result, csv, as_json=as_json)
    if failed:
        raise typer.Exit(3)


def _prepare(
    given: dict[str, Any], data: list[Path], quantizers: str | None, seeds: str, output: Path, size: int | None
) -> Comparison:
    from tokenizer import compare as library
    from tokenizer.train import new_settings

    specs, numbers = comparing.read_quantizers(quantizers), comparing.read_seeds(seeds)
    if not {"steps", "minutes"} & set(given):
        given["steps"] = _STEPS
    return library.prepare_comparison(new_settings(given), data, specs, numbers, output, size)


def _run(console: Console, contest: Comparison, *, resume: bool, overwrite: bool) -> tuple[ComparisonReport, bool]:
    """Train all entries, and return what they say and whether something failed."""
    from tokenizer import compare as library

    if overwrite:
        library.clear_entries(contest.folder)
    runner = comparing.Runner(console, contest, library.finished_entries(contest) if resume else {})
    runner.run()
    if not runner.results:
        first = runner.failures[0]
        raise TrainingError(
            f"0 of {len(contest.entries)} entries finished, the first failed: {first.label}: {first.reason}"
        )
    table = library.rank_entries(contest.labels, runner.results, runner.failures)
    return library.ComparisonReport(contest, table, comparing.command()), bool(runner.failures or runner.unreadable)


def _write(console: Console, result: ComparisonReport, table_file: Path | None, html: Path | None) -> None:
    from tokenizer import compare as library

    path = result.write()
    if table_file is not None:
        write_bytes(table_file, result.to_csv().encode())
    gallery = library.draw_gallery(result.contest, result.table)
    if html is not None:
        write_bytes(html, library.comparison_page(result, gallery).encode())
    console.say(f"pictures and checkpoints are in {path.parent}, all figures in {path}")


def _show_plan(contest: Comparison, *, as_json: bool) -> None:
    from tokenizer.config import to_dict

    if as_json:
        entries = [
            {
                "quantizer": entry.label,
                "seed": entry.seed,
                "folder": str(entry.folder),
                "settings": to_dict(entry.plan.config),
            }
            for entry in contest.entries
        ]
        write_json({"entries": entries, "notes": {note: list(labels) for note, labels in contest.notes.items()}})


def _show(result: ComparisonReport, csv: str | None, *, as_json: bool) -> None:
    from tokenizer import compare as library

    if csv == _STDOUT:
        write_text(result.to_csv())
        return
    if as_json:
        write_json(result.to_json())
        return
    write_rows(library.ranking_rows(result.table))
    remarks = [f"{printable(line)}\n" for line in result.remarks()]
    write_text("\n" + "".join(remarks) + ("\n" if remarks else ""))
    columns = library.shown_columns(result.table)
    write_text("".join(f"{column.title}: {library.DEFINITIONS[column.key]}\n" for column in columns))
