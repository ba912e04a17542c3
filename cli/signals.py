"""Ctrl-C, SIGTERM, and SIGHUP: a terminal that was closed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_HUNG_UP = 129

_CODES = {signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _CODES[signal.SIGHUP] = EXIT_HUNG_UP
EXITS = frozenset(_CODES.values())


class StopRequest:
    """Whether a signal asked to stop, and the exit code that goes with it."""

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; a second one stops at once."""
        if self.exit_code is not None:
            _exit(number, frame)
        self.exit_code = _CODES[signal.Signals(number)]
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                os.write(2, b"\nstopping after this step; once more to stop at once, without saving\n")


@contextlib.contextmanager
def between_steps() -> Iterator[StopRequest]:
    """Hold the signals back within the block: the work looks at the request where it can stop safely."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _CODES}
    for number, handler in before.items():
        # What the shell made this process ignore, as it does for background jobs, stays ignored.
        if handler is not signal.SIG_IGN:
            signal.signal(number, request)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_on_signals() -> None:
    """Make the signals unwind with their exit codes, so that temporary files go."""
    for number in _CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(_CODES[signal.Signals(number)])
