"""kill -9 of work in a process of its own."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from typing import Any


def is_killed(
    work: Callable[..., None],
    arguments: Sequence[Any],
    preload: Sequence[str],
    dice: random.Random,
    told: tuple[int, int],
    seconds: float,
) -> bool:
    """Kill `work(*arguments, connection)` at a random moment; return False when it ended before.

    Args:
        work: a function of a module, which tells something through the connection now and then.
        arguments: of it.
        preload: modules that every process is to find imported.
        dice: draws the moment.
        told: how many tellings to wait for, at least and at most.
        seconds: to wait after them, at most.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", *preload])
    listen, tell = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, tell))
    process.start()
    tell.close()
    try:
        for _ in range(dice.randint(*told)):
            listen.recv()
        time.sleep(dice.uniform(0, seconds))
    except EOFError:
        process.join()
        return False
    process.kill()
    process.join()
    return process.exitcode == -9
