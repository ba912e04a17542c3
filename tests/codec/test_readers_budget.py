from __future__ import annotations

import threading
from collections.abc import Callable

from tokenizer.codec import PixelBudget


def waits(call: Callable[[], None], release: Callable[[], None]) -> bool:
    """Whether a call returns only once it is released."""
    done = threading.Event()

    def run() -> None:
        call()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    waited = not done.wait(0.05)
    release()
    thread.join(10)
    assert done.is_set()
    return waited


def test_what_fits_goes_on_and_the_rest_waits_for_room() -> None:
    budget = PixelBudget(100)
    budget.take(1, 60)
    budget.take(2, 40)
    assert budget.held == 100
    assert waits(lambda: budget.take(3, 1), lambda: budget.give(40))
    assert budget.held == 61


def test_a_large_one_keeps_no_small_one_waiting() -> None:
    budget = PixelBudget(100)
    budget.take(1, 60)

    def small_then_room() -> None:
        budget.take(3, 30)
        budget.give(90)

    assert waits(lambda: budget.take(2, 100), small_then_room)
    assert budget.held == 100


def test_whose_turn_it_is_goes_on_whatever_its_size() -> None:
    budget = PixelBudget(100)
    budget.take(0, 1000)
    budget.turn_of(1)
    budget.take(1, 5000)
    assert budget.held == 6000
    assert waits(lambda: budget.take(2, 1), lambda: budget.turn_of(2))


def test_more_can_be_taken_without_waiting() -> None:
    budget = PixelBudget(100)
    budget.take(0, 90)
    budget.give(-50)
    assert budget.held == 140


def test_nobody_waits_for_what_has_stopped() -> None:
    budget = PixelBudget(10)
    assert waits(lambda: budget.take(5, 11), budget.stop)
