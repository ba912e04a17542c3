"""A limit to the pixels in memory, which threads that decode images ahead share."""

from __future__ import annotations

import threading


class PixelBudget:
    """A number of pixels that images take from before they are decoded, and give back later; who finds too few waits.

    Args:
        limit: the number. The image whose turn it is never waits, as all others would wait for it: for one image, more
            than the limit may be held.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._turn, self._stopped = limit, 0, 0, False
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """Pixels that were taken and not given back."""
        return self._held

    def take(self, number: int, pixels: int) -> None:
        """Wait until the image of that number may hold so many pixels."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or number <= self._turn or self._held + pixels <= self._limit)
            self._held += pixels

    def give(self, pixels: int) -> None:
        """Give pixels back; less than 0 takes more without waiting."""
        with self._changed:
            self._held -= pixels
            self._changed.notify_all()

    def turn_of(self, number: int) -> None:
        """Say that everything waits for the image of that number."""
        with self._changed:
            self._turn = number
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
