"""`vqtok compare`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.command_line import as_typed, resume_command
from cli.console import STDOUT, Console, csv_file, evaluation_line, printable, write_json, write_rows, write_text
from cli.options import option
from cli.signals import between_steps
from tokenizer.config import coerce_option
from tokenizer.errors import OutputError, UsageError
from tokenizer.files import Existing, existing_of

if TYPE_CHECKING:
    from rich.progress import Progress

    from tokenizer.compare import Comparison, ComparisonReport, EntryEvent, EntryResult, EntryStep

_STEPS = 1000
_OWN_OPTIONS = "quantizer."


def compare(
    context: typer.Context,
    data: options.Data,
    output: Annotated[Path | None, option("--output", "-o", help="Folder of all runs.", env=False)] = None,
    quantizers: Annotated[
        str | None,
        option("--quantizers", help="Which, with commas between: 'diveq, ste(beta=1)'; all single ones by default."),
    ] = None,
    seeds: Annotated[str, option("--seeds", help="How many runs of each, such as 3, or which, such as 0,4,7.")] = "1",
    steps: Annotated[
        int | None, option("--steps", min=1, help=f"Budget of each run; {_STEPS} when nothing is said.")
    ] = None,
    minutes: Annotated[float | None, option("--minutes", help="Budget of each run in minutes.")] = None,
    preset: options.Preset = None,
    downsample: options.Downsample = None,
    codebook_size: Annotated[
        int | None, option("--codebook-size", min=1, help="Codes of every quantizer that does not say its own.")
    ] = None,
    image_size: options.CropSize = None,
    encode_size: options.EncodeSize = None,
    batch_size: options.Crops = None,
    precision: options.TrainPrecision = None,
    device: options.TrainDevice = None,
    workers: options.Workers = None,
    val_data: Annotated[
        str | None, option("--val-data", help="Compare on this folder, not on validation images.")
    ] = None,
    perceptual: Annotated[
        bool, option("--perceptual", help="Add what EfficientNet-Lite0 sees: pip install 'vqtok[perceptual]'.")
    ] = False,
    config_file: options.Config = None,
    settings: Annotated[
        list[str] | None,
        option("--set", help="KEY=VALUE: any setting of all runs, such as lr=1e-3.", env=False),
    ] = None,
    resume: Annotated[bool, option("--resume", help="Train what is missing in -o, keep the rest.", env=False)] = False,
    overwrite: options.Overwrite = False,
    csv: Annotated[str | None, option("--csv", help="The table as CSV to this file; - is stdout.", env=False)] = None,
    html: Annotated[Path | None, option("--html", help="One page with all to this file.", env=False)] = None,
    as_json: options.AsJson = False,
    dry_run: Annotated[bool, option("--dry-run", "-n", help="Check everything, train nothing.", env=False)] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # read by main
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
    if output is None:
        raise UsageError("no output: pass -o OUT, the folder of all runs")
    table_file = csv_file(csv, as_json=as_json)
    existing = existing_of(resume=resume, overwrite=overwrite)
    files = {"csv": table_file, "html": html}

    from tokenizer.compare import (
        COMPARISON_FILE,
        check_comparison_outputs,
        parse_quantizers,
        parse_seeds,
        prepare_comparison,
    )
    from tokenizer.train import new_settings

    if not dry_run:
        check_comparison_outputs(output, list(files.values()), existing=existing)
    given = options.given_settings(context, config_file, settings or [])
    size = _take_codebook_size(given, settings or [], console)
    specs, numbers = parse_quantizers(quantizers), parse_seeds(seeds)
    if not {"steps", "minutes"} & set(given):
        given["steps"] = _STEPS
    comparison = prepare_comparison(new_settings(given), data, specs, numbers, output, size, perceptual=perceptual)
    _announce(console, comparison)
    if dry_run:
        if as_json:
            write_json(comparison.to_json())
        return
    report, complete = _run(console, comparison, existing, **files)
    console.say(f"pictures and checkpoints are in {output}, all figures in {output / COMPARISON_FILE}")
    _show(report, csv, as_json=as_json)
    if not complete:
        raise typer.Exit(3)


def _take_codebook_size(given: dict[str, Any], pairs: Sequence[str], console: Console) -> int | None:
    """Return the codebook size of all who do not say their own; take the quantizer's settings out of `given`.

    Raises:
        UsageError: --set names an option of a quantizer.
    """
    own = [
        pair for pair in pairs if pair.strip().startswith(_OWN_OPTIONS) or pair.partition("=")[0].strip() == "quantizer"
    ]
    if own:
        example = own[0].strip().removeprefix(_OWN_OPTIONS)
        raise UsageError(f"--set {own[0]}: write it in brackets behind the name: --quantizers 'diveq({example})'")
    named = given.pop("quantizer", {})
    left = [key for key in named if key != "codebook_size"] if isinstance(named, Mapping) else []
    if left:
        console.warn(f"quantizer.{', quantizer.'.join(left)} of the config file are left out: --quantizers says it")
    size = named.get("codebook_size") if isinstance(named, Mapping) else None
    return None if size is None else int(coerce_option(size, int, "quantizer.codebook_size"))


def _announce(console: Console, comparison: Comparison) -> None:
    """Tell what will be compared on what."""
    plan = comparison.entries[0].plan
    config, network = plan.config, plan.config.network
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    kind = "training images" if plan.overlap else "validation images"
    console.say(f"{len(plan.train)} images to train on, compared on {len(plan.validation)} {kind}")
    console.say(f"network: {network}")
    console.say(plan.scales)
    console.say(
        f"each: {budget}, batches of {config.batch_size} crops, {config.precision} on {config.device}, "
        f"{config.workers} reading threads"
    )
    seeds = ", ".join(map(str, comparison.seeds))
    console.say(f"{len(comparison.entries)} entries: {', '.join(comparison.labels)}; seeds {seeds}")
    for line in comparison.remarks():
        console.warn(line)


def _run(
    console: Console, comparison: Comparison, existing: Existing, *, csv: Path | None, html: Path | None
) -> tuple[ComparisonReport, bool]:
    """Train, rank and write everything; return the report, and whether every entry finished on all of its images.

    Raises:
        Exit: a signal asked to stop; everything is saved.
    """
    from tokenizer.compare import ComparisonReport, run_comparison

    events = run_comparison(comparison, existing=existing, csv=csv, html=html, command=as_typed())
    with between_steps() as request, console.progress("figures") as bar, contextlib.closing(events):
        teller = _Teller(console, bar, len(comparison.entries))
        try:
            for event in events:
                if isinstance(event, ComparisonReport):
                    report = event  # the last one
                    continue
                teller.tell(event)
                if request.exit_code is not None and (where := teller.may_stop(event)):
                    events.close()
                    console.warn(f"{where}, everything is saved. To go on: {resume_command()}")
                    raise typer.Exit(request.exit_code)
        except (OutputError, SystemExit):
            if teller.begun:
                console.warn(f"what was saved before stands. To go on from there: {resume_command()}")
            raise
    return report, teller.complete


class _Teller:
    """Tells what happens to the entries.

    Attributes:
        begun: some entry has been told of.
        complete: no entry failed, and no image could not be read.
    """

    def __init__(self, console: Console, bar: Progress, entries: int) -> None:
        self._console, self._bar, self._entries = console, bar, entries
        self._task = bar.add_task("", total=float(entries), figures="")
        self.begun, self.complete = False, True

    def _name(self, event: EntryEvent) -> str:
        return f"entry {event.number + 1} of {self._entries}: {event.entry.label}, seed {event.entry.seed}"

    def tell(self, event: EntryEvent) -> None:
        """Tell one event."""
        from tokenizer.compare import EntryBegun, EntryFailed, EntryFinished, EntryStep

        self.begun = True
        who = self._name(event)
        if isinstance(event, EntryStep):
            self._tell_step(event, who)
        elif isinstance(event, EntryBegun):
            if not self._console.live:
                self._console.say(who)
        elif isinstance(event, EntryFinished):
            self._console.say(f"{who}: {_figures(event.result)}, in {event.seconds:.0f} s")
        elif isinstance(event, EntryFailed):
            self.complete = False
            self._console.warn(f"{who}: failed: {event.failure.reason}")
        else:
            self._console.say(f"{who}: is there already")
            self._bar.update(self._task, completed=float(event.number + 1))

    def _tell_step(self, event: EntryStep, who: str) -> None:
        step = event.step
        self._bar.update(self._task, completed=event.number + step.progress)
        if step.figures and self._console.live:
            figures = f"loss {step.figures['loss']:.4f}  psnr {step.figures['psnr']:.2f} dB"
            self._bar.update(self._task, figures=f"{who}, step {step.step}  {figures}")
        if step.evaluation:
            self._console.detail(f"{who}: step {step.step}: {evaluation_line(step)}")
        for name, reason in event.unreadable:
            self.complete = False
            self._console.warn(f"{name}: {reason}")

    def may_stop(self, event: EntryEvent) -> str:
        """Return where the comparison stands when it is stopped at this event; nothing where it should not be."""
        from tokenizer.compare import EntryFailed, EntryFinished, EntryStep

        if isinstance(event, EntryStep) and event.step.progress < 1:
            return f"{self._name(event)}: stopped at step {event.step.step}"
        if isinstance(event, EntryFinished | EntryFailed) and event.number + 1 < self._entries:
            return f"{self._name(event)}: stopped after it"
        return ""


def _figures(result: EntryResult) -> str:
    own = result.figures
    psnr = "exact" if own.psnr is None else f"psnr {own.psnr:.2f} dB"
    return f"{psnr}, used {100 * own.used:.1f} %, perplexity {own.perplexity:.0f}"


def _show(report: ComparisonReport, csv: str | None, *, as_json: bool) -> None:
    from tokenizer.compare import COMPARISON_DEFINITIONS, ranking_rows, shown_columns

    if csv == STDOUT:
        write_text(report.to_csv())
        return
    if as_json:
        write_json(report.to_json())
        return
    rows = ranking_rows(report.ranking)
    # Words begin together, numbers end together.
    write_rows(rows, flush_right=[column for column in range(len(rows[0])) if column != 1])
    remarks = [f"{printable(line)}\n" for line in report.remarks()]
    write_text("\n" + "".join(remarks) + ("\n" if remarks else ""))
    columns = shown_columns(report.ranking)
    write_text("".join(f"{column.title}: {COMPARISON_DEFINITIONS[column.key]}\n" for column in columns))
