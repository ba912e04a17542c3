"""What a person sees: messages and progress on stderr, results on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar

from cli.command_line import resume_command
from tokenizer.errors import OutputError, TokenFileError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from tokenizer.jobs import JobRun, Totals
    from tokenizer.models import LoadedModel
    from tokenizer.train import Step

T = TypeVar("T")

STDOUT = "-"


def printable(text: object) -> str:
    """Return text on one line: control characters, and bytes that are no UTF-8, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class Console:
    """The messages of one command.

    Args:
        command: name of the command, which every message begins with.
        quiet: no messages but warnings and errors, no progress.
        verbose: more messages.
        progress: progress bars, where stderr is a terminal.
        silent: nothing at all: another process of the same command speaks.
    """

    def __init__(
        self, command: str, *, quiet: bool = False, verbose: bool = False, progress: bool = True, silent: bool = False
    ) -> None:
        self._prefix = f"vqtok {command}"
        self._quiet, self._verbose, self._silent = quiet, verbose, silent
        self.live = progress and not quiet and not silent and sys.stderr is not None and sys.stderr.isatty()

    def say(self, message: str) -> None:
        """Tell what was done or chosen."""
        if not self._quiet:
            self._write(message)

    def detail(self, message: str) -> None:
        """Tell what only --verbose asks for."""
        if self._verbose:
            self._write(message)

    def warn(self, message: str) -> None:
        """Tell what went wrong but did not stop the work."""
        self._write(f"{self._prefix}: warning: {message}")

    def tell_checkpoint(self, loaded: LoadedModel, *, named: bool) -> None:
        """Tell which checkpoint was loaded, unless -m named it."""
        if not named:
            self.tell_shipped(loaded.folder)
        self.detail(str(loaded))

    def tell_shipped(self, folder: Path) -> None:
        """Tell that a checkpoint is used that ships, as -m names none."""
        self.say(f"checkpoint: {folder.name}, which ships with vqtok; -m names another")

    def _write(self, message: str) -> None:
        if not self._silent:
            tell(printable(message) + "\n")

    @contextmanager
    def progress(self, *columns: str, timed: bool = True) -> Iterator[Progress]:
        """Show a progress bar on stderr, the time left unless not `timed`, and fields named `columns` behind it."""
        from rich.console import Console as RichConsole
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        # Its own thread writes: what it raised would end in a traceback.
        stderr = None if sys.stderr is None else Lenient(sys.stderr)
        shown = [TextColumn(f"{{task.fields[{column}]}}", markup=False) for column in columns]
        middle: list[ProgressColumn] = [
            *([] if columns else [MofNCompleteColumn()]),
            *([TimeRemainingColumn()] if timed else []),
        ]
        with Progress(
            BarColumn(bar_width=24),
            *middle,
            *shown,
            # Quiet, as some versions of rich end even a disabled bar with a newline.
            console=RichConsole(file=stderr, stderr=True, quiet=not self.live),  # type: ignore[arg-type]  # enough for it
            disable=not self.live,
            redirect_stdout=False,
            redirect_stderr=True,
        ) as bar:
            yield bar

    def track(self, items: Iterable[T], total: int | None) -> Iterator[T]:
        """Yield the items behind a progress bar."""
        with self.progress() as bar:
            task = bar.add_task("", total=total)
            for item in items:
                yield item
                bar.advance(task)

    def watch(self, run: JobRun, warning: str = "") -> None:
        """Let a job do its work behind a progress bar, warn of what failed, and say how to go on where it stops.

        Args:
            run: the job.
            warning: how warnings begin.
        """
        try:
            with closing(run):
                for outcome in self.track(run, run.total):
                    if outcome.reason is not None:
                        name = "" if outcome.name in outcome.reason else f"{outcome.name}: "
                        self.warn(f"{warning}{name}{outcome.reason}")
        except BaseException as error:
            if run.is_resumable and not isinstance(error, TokenFileError):  # damaged tokens stay so
                self.say(f"what is done is kept: {resume_command()} goes on")
            raise


def write_json(values: Any) -> None:
    """Write one result object to stdout."""
    write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_rows(rows: Sequence[tuple[str, ...]], *, flush_right: Collection[int] = ()) -> None:
    """Write rows of cells to stdout in aligned columns; those numbered in `flush_right`, from 0, end together."""
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in shown if column < len(row)) for column in range(max(map(len, shown)))]
    for row in shown:
        cells = [
            cell.rjust(width) if column in flush_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        write_text("  ".join(cells).rstrip() + "\n")


def write_text(text: str) -> None:
    """Write text to stdout; what its encoding does not have is escaped.

    Raises:
        OutputError: stdout is closed, or full.
    """
    if sys.stdout is None:
        raise OutputError("stdout is closed: redirect it to a file or to /dev/null")
    encoding = sys.stdout.encoding or "utf-8"
    with _writing_to_stdout():
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()


def write_binary(data: bytes) -> None:
    """Write data to stdout.

    Raises:
        UsageError: it is a terminal, or closed.
        OutputError: it is full.
    """
    stdout = binary_stdout()
    with _writing_to_stdout():
        stdout.write(data)
        stdout.flush()


@contextmanager
def _writing_to_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror or error}") from error


def binary_stdout() -> BinaryIO:
    """Return stdout for data.

    Raises:
        UsageError: it is a terminal, or closed.
    """
    if sys.stdout is None:
        raise UsageError("stdout is closed: redirect it, or name a file")
    if sys.stdout.isatty():
        raise UsageError("stdout is a terminal, and the result is binary: redirect it, or name a file")
    return sys.stdout.buffer


def binary_stdin() -> BinaryIO:
    """Return stdin for data.

    Raises:
        UsageError: it is a terminal, or closed.
    """
    if sys.stdin is None:
        raise UsageError("- reads from stdin, which is closed: pipe something in, or name a file")
    if sys.stdin.isatty():
        raise UsageError("- reads from stdin, which is a terminal: pipe something in, or name a file")
    return sys.stdin.buffer


def stdin_of(names: Sequence[str | None]) -> BinaryIO | None:
    """Return stdin for data where one of the names is `-`, else None.

    Raises:
        UsageError: stdin is a terminal, or closed.
    """
    return binary_stdin() if "-" in names else None


class Lenient(io.TextIOBase):
    """A stream that takes all text: once its disk is full or its reader is gone, what is written goes nowhere.

    Args:
        stream: that the text goes to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """Of the stream."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return its number."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Take text."""
        try:
            return self._stream.write(text)
        except OSError:
            drop_unwritten(self._stream)
            return len(text)

    def flush(self) -> None:
        """Hand on what was taken; of a stream that was closed since, nothing."""
        if self._stream.closed:  # when Python collects this, which flushes it, later than the stream
            return
        try:
            self._stream.flush()
        except OSError:
            drop_unwritten(self._stream)


def tell(text: str) -> None:
    """Write text to stderr, if there is one that takes it."""
    if sys.stderr is not None:
        stream = Lenient(sys.stderr)
        stream.write(text)
        stream.flush()


def drop_unwritten(stream: TextIO) -> None:
    """Make all that a stream still holds, and will be given, go nowhere: no flush fails on it once more."""
    with suppress(OSError):  # it has no number, or the system no more of them
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def evaluation_line(step: Step) -> str:
    """Return the figures on the validation images on one line."""
    e = step.evaluation
    return "" if e is None else f"psnr {e.psnr:.2f} dB, used {100 * e.used:.1f} %, perplexity {e.perplexity:.0f}"


def job_result(output: str, totals: Totals, seconds: float) -> dict[str, Any]:
    """Return what `--json` says of a job that wrote files of tokens or pictures."""
    return {
        "output": output,
        "images": totals.images,
        "kept": totals.kept,
        "failed_total": totals.failed,
        "failed": [{"name": failure.name, "reason": failure.reason} for failure in totals.failures],
        "seconds": round(seconds, 3),
    }


def csv_file(csv: str | None, *, as_json: bool) -> Path | None:
    """Return the file that --csv names; None where it names none, or stdout.

    Raises:
        UsageError: --json writes to stdout too.
    """
    if csv == STDOUT and as_json:
        raise UsageError("--csv - and --json both write to stdout: pass one of the two")
    return None if csv is None or csv == STDOUT else Path(csv)
