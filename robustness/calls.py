"""`vqtok` in a process of its own, which finds all imported, and what can go wrong in it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRELOAD = (
    *("pytest", "cli.__main__", "tokenizer.train", "tokenizer.train.losses", "tokenizer.jobs", "tokenizer.compare"),
    *(
        "tokenizer.models.checkpoint",
        "tokenizer.report.report_html",
        "tokenizer.export.graphs",
        "tokenizer.export.proof",
    ),
    *("torchvision.utils", "matplotlib.figure", "matplotlib.backends.backend_agg"),
)
_TOUCHED = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")

Fault = Callable[[], object]


@dataclass(frozen=True)
class Ended:
    """What a call did: exit code (a negative number: killed by that signal), what it wrote to stdout and stderr."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """Those of stderr that say why it did not do all."""
        return [line for line in self.err.splitlines() if ": error: " in line or ": interrupted: " in line]


class Call:
    """A call under way.

    Args:
        words: the command line.
        folder: the working directory.
        fault: called in the process before the command.
    """

    def __init__(self, words: Sequence[object], folder: Path, fault: Fault | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOAD))
        self._streams = tempfile.TemporaryDirectory()
        for name in ("out", "err"):  # it may be killed before it begins
            Path(self._streams.name, name).touch()
        arguments = (list(map(str, words)), str(folder), self._streams.name, fault)
        self.process = context.Process(target=_work, args=arguments)
        self.process.start()

    def send(self, *numbers: int, after: float = 0) -> bool:
        """Send signals after some seconds; return False where it ended before."""
        self.process.join(after)
        if self.process.exitcode is not None:
            return False
        assert self.process.pid is not None
        for number in numbers:
            os.kill(self.process.pid, number)
        return True

    def end(self, seconds: float = 120) -> Ended:
        """Wait for its end."""
        self.process.join(seconds)
        if hangs := self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        assert not hangs, "it hangs"
        assert self.process.exitcode is not None
        out, err = (Path(self._streams.name, name) for name in ("out", "err"))
        self._streams, streams = None, self._streams
        ended = Ended(self.process.exitcode, out.read_bytes(), err.read_text(errors="replace"))
        streams.cleanup()
        return ended


def _work(words: list[str], folder: str, streams: str, fault: Fault | None) -> None:
    from cli.__main__ import main

    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        made = os.open(f"{streams}/{name}", os.O_WRONLY)
        os.dup2(made, number)
        os.close(made)
    for stopping in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopping, signal.default_int_handler if stopping == signal.SIGINT else signal.SIG_DFL)
    if fault is not None:
        fault()
    sys.argv = ["vqtok", *words]
    main()


@dataclass(frozen=True)
class Limit:
    """A limit of the system: `RLIMIT_FSIZE` (bytes of a file), `RLIMIT_NOFILE`, or megabytes more of `RLIMIT_AS`."""

    kind: int
    value: int

    def __call__(self) -> None:
        """Set it."""
        value = self.value
        if self.kind == resource.RLIMIT_AS:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            value = pages * resource.getpagesize() + value * 2**20
        resource.setrlimit(self.kind, (value, resource.getrlimit(self.kind)[1]))


@dataclass(frozen=True)
class Raises:
    """An error of the system where a file below `folder` is opened, flushed or renamed for the `count`-th time.

    Attributes:
        folder: of the files.
        count: which time, from 1.
        number: of the error.
    """

    folder: str
    count: int
    number: int = errno.EIO

    def __call__(self) -> None:
        """Put it in the way."""
        flush, touched = os.fsync, 0

        def touch() -> None:
            nonlocal touched
            touched += 1
            if touched == self.count:
                raise OSError(self.number, os.strerror(self.number))

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _TOUCHED and isinstance(arguments[0], str | bytes | os.PathLike):
                path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100  # Path would touch it
                if path.startswith(self.folder):
                    touch()

        def failing(descriptor: int) -> None:
            touch()
            flush(descriptor)

        sys.addaudithook(hook)
        os.fsync = failing
