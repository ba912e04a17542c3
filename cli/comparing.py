"""Parts of `vqtok compare`: what is asked for, what is said, how the entries run."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.console import Console
from cli.signals import between_steps
from cli.telling import evaluation
from tokenizer.config import coerce_option
from tokenizer.errors import ConfigError, OutputError, TrainingError, UsageError
from tokenizer.files import check_output as check_path
from tokenizer.files import existing_of

if TYPE_CHECKING:
    from tokenizer.compare import Comparison, Entry, EntryResult, FailedEntry

_OWN_OPTIONS = "quantizer."


def read_quantizers(text: str | None) -> list[dict[str, Any]]:
    """Return the specs that --quantizers names, or every method that is not made of others.

    Raises:
        ConfigError: a spec is malformed, all faults listed.
        UsageError: none is named.
    """
    from tokenizer import compare
    from tokenizer.quantizers import read_spec, split_specs

    if text is None:
        return compare.single_methods()
    specs: list[dict[str, Any]] = []
    faults: list[str] = []
    for part in split_specs(text):
        try:
            specs.append(read_spec(part))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    if not specs:
        raise UsageError("--quantizers names none: vqtok list does")
    return specs


def read_seeds(text: str) -> list[int]:
    """Return the seeds: `3` is 0, 1, 2; `0,4,7` names them.

    Raises:
        UsageError: it is neither.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() for word in words) or text.strip() == "0":
        raise UsageError(f"--seeds is {text!r}, expected how many, such as 3, or which, such as 0,4,7")
    return [int(word) for word in words] if "," in text else list(range(int(text)))


def take_codebook_size(given: dict[str, Any], pairs: Sequence[str], console: Console) -> int | None:
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


def check_outputs(
    data: Sequence[Path], output: Path, files: Sequence[Path | None], *, resume: bool, overwrite: bool
) -> None:
    """Look, before any work, whether everything can be written where it shall be.

    Raises:
        UsageError: both ways with an earlier output are asked for, or the output would become training images.
        OutputError: something is in the way.
    """
    inside = [folder for folder in data if output.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise UsageError(f"-o {output} lies in {inside[0]}: its pictures would be trained on, name another folder")
    if resume and overwrite:
        raise UsageError("--resume goes on with a comparison, --overwrite replaces it: pass one of the two")
    for path in (output, *(file for file in files if file is not None)):
        check_path(path, folder=path == output, existing=existing_of(resume=resume, overwrite=overwrite))


def announce(console: Console, contest: Comparison) -> None:
    """Tell what will be compared on what."""
    plan = contest.entries[0].plan
    config, network = plan.config, plan.config.network
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    kind = "training images" if plan.overlap else "validation images"
    console.say(f"{len(plan.train)} images to train on, compared on {len(plan.validation)} {kind}")
    console.say(f"network: downsample {network.downsample}, widths {network.widths}, depths {network.depths}")
    console.say(
        f"each: {budget}, batches of {config.batch_size} crops of {config.image_size} px, {config.precision} on "
        f"{config.device}, {config.workers} reading threads"
    )
    seeds = ", ".join(map(str, contest.seeds))
    console.say(f"{len(contest.entries)} entries: {', '.join(contest.labels)}; seeds {seeds}")
    for line in contest.remarks():
        console.warn(line)


class Runner:
    """Trains the entries one after the other.

    Attributes:
        results: of those that finished.
        failures: of those that could not.
        unreadable: names of images that could not be read, and why.
        again: the command that goes on after an interruption.
    """

    def __init__(self, console: Console, contest: Comparison, done: Mapping[Path, EntryResult]) -> None:
        self._console, self._contest, self._done = console, contest, done
        self.results: list[EntryResult] = []
        self.failures: list[FailedEntry] = []
        self.unreadable: dict[str, str] = {}
        self.again = going_on()

    def run(self) -> None:
        """Train what is not there yet.

        Raises:
            Exit: a signal asked to stop; everything is saved.
            OutputError: a file cannot be written.
        """
        entries = self._contest.entries
        try:
            with between_steps() as self._request, self._console.progress("figures") as self._bar:
                self._task = self._bar.add_task("", total=float(len(entries)), figures="")
                for number, entry in enumerate(entries):
                    self._run_one(number, entry)
        except (OutputError, SystemExit):
            self._console.warn(f"what was saved before stands. To go on from there: {self.again}")
            raise

    def _run_one(self, number: int, entry: Entry) -> None:
        from tokenizer import compare

        who = f"entry {number + 1} of {len(self._contest.entries)}: {entry.label}, seed {entry.seed}"
        if entry.folder in self._done:
            self.results.append(self._done[entry.folder])
            self._console.say(f"{who}: is there already")
            self._bar.update(self._task, completed=float(number + 1))
            return
        if not self._console.live:
            self._console.say(who)
        began = time.perf_counter()
        try:
            self._steps(number, entry, who)
        except TrainingError as error:
            self.failures.append(compare.FailedEntry(entry.label, entry.seed, str(error)))
            self._console.warn(f"{who}: failed: {error}")
        else:
            result = compare.result_of(entry)
            self.results.append(result)
            self._console.say(f"{who}: {_told(result)}, in {time.perf_counter() - began:.0f} s")
        compare.free_memory()
        if self._request.exit_code is not None and number + 1 < len(self._contest.entries):
            self._stop(f"{who}: stopped after it", self._request.exit_code)

    def _steps(self, number: int, entry: Entry, who: str) -> None:
        from tokenizer import compare

        with contextlib.closing(compare.train_entry(entry)) as steps:
            for step in steps:
                self._bar.update(self._task, completed=number + step.progress)
                if step.figures and self._console.live:
                    psnr = f"loss {step.figures['loss']:.4f}  psnr {step.figures['psnr']:.2f} dB"
                    self._bar.update(self._task, figures=f"{who}, step {step.step}  {psnr}")
                if step.evaluation:
                    self._console.detail(f"{who}: step {step.step}: {evaluation(step)}")
                for name, reason in step.unreadable:
                    if name not in self.unreadable:
                        self._console.warn(f"{name}: {reason}")
                    self.unreadable[name] = reason
                if self._request.exit_code is not None and step.progress < 1:
                    steps.close()
                    self._stop(f"{who}: stopped at step {step.step}", self._request.exit_code)

    def _stop(self, where: str, code: int) -> None:
        self._console.warn(f"{where}, everything is saved. To go on: {self.again}")
        raise typer.Exit(code)


def _told(result: EntryResult) -> str:
    own = result.figures
    psnr = "exact" if own.psnr is None else f"psnr {own.psnr:.2f} dB"
    return f"{psnr}, used {100 * own.used:.1f} %, perplexity {own.perplexity:.0f}"


def command() -> str:
    """Return the command line of this process."""
    return shlex.join(["vqtok", *sys.argv[1:]])


def going_on() -> str:
    """Return the command that goes on with this comparison: its own words, with --resume."""
    kept = []
    for word in sys.argv[2:]:
        short = word.replace("f", "") if re.fullmatch("-[fqv]+", word) else word  # such as -f and -qf
        if word not in ("--overwrite", "--resume") and (short == word or short != "-"):
            kept.append(short)
    return shlex.join(["vqtok", "compare", "--resume", *kept])
