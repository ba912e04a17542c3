"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class StopRequest:
    """Whether Ctrl-C or SIGTERM asked to stop, and the exit code that goes with it."""

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Note the signal; a second one stops at once."""
        code = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED
        if self.exit_code is not None:
            sys.exit(code)
        self.exit_code = code


@contextmanager
def between_steps() -> Iterator[StopRequest]:
    """Hold Ctrl-C and SIGTERM back within the block: the work looks at the request where it can stop safely."""
    request = StopRequest()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def exit_on_sigterm() -> None:
    """Make SIGTERM unwind like Ctrl-C does, so that temporary files go and the exit code is 143."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
