"""stderr, where messages go for as long as somebody takes them: work is not lost for want of a reader."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


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
            drop(self._stream)
            return len(text)

    def flush(self) -> None:
        """Hand on what was taken; of a stream that was closed since, nothing."""
        if self._stream.closed:  # when Python collects this, which flushes it, later than the stream
            return
        try:
            self._stream.flush()
        except OSError:
            drop(self._stream)


def tell(text: str) -> None:
    """Write text to stderr, if there is one that takes it."""
    if sys.stderr is not None:
        stream = Lenient(sys.stderr)
        stream.write(text)
        stream.flush()


def drop(stream: TextIO) -> None:
    """Make all that a stream still holds, and will be given, go nowhere: no flush fails on it once more."""
    with contextlib.suppress(OSError):  # it has no number, or the system no more of them
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
