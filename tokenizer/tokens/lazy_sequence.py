"""Sequences whose items are made when they are asked for: millions of them take no memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """Items that are made when they are asked for; a slice of them is lazy too.

    Args:
        numbers: of the items, for `make`.
        make: an item of its number.
    """

    def __init__(self, numbers: range, make: Callable[[int], T]) -> None:
        self._numbers, self._make = numbers, make

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Return an item, or some of them."""
        if isinstance(index, slice):
            return LazySequence(self._numbers[index], self._make)
        return self._make(self._numbers[index])
