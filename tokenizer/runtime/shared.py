"""Contexts that threads share: around a setting of the whole process, such as a filter of warnings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


class SharedContext:
    """A context that the first thread enters and the last one leaves.

    Args:
        make: returns the context, each time that it is entered.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
        self._make, self._lock, self._inside, self._undo = make, threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        """Come in."""
        with self._lock:
            if not self._inside:
                self._undo.enter_context(self._make())
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        """Go out."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undo.close()
