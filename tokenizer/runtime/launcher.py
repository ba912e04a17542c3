"""What started this process: alone, or by `torchrun` as one of several. Only here are its variables read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from tokenizer.errors import UsageError


@dataclass(frozen=True)
class Launch:
    """This process among those that one command started.

    Attributes:
        rank: its number, from 0; the first one speaks and writes what belongs to all.
        world_size: how many there are.
        local_rank: its number on its machine; None where no launcher gave one.
        restarts: how often torchrun started all of them anew.
        under_torchrun: torchrun started it, and stops all others when one ends with another code than 0.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int | None = None
    restarts: int = 0
    under_torchrun: bool = False

    @property
    def share(self) -> tuple[int, int]:
        """Part, from 0, and number of parts, of work that they share."""
        return self.rank, self.world_size


def launch() -> Launch:
    """Return what the environment says.

    Raises:
        UsageError: its variables make no sense.
    """
    rank, world_size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world_size.isdecimal() and int(rank) < int(world_size)):
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={world_size} in the environment are no share of the work: unset them"
        )
    local = os.environ.get("LOCAL_RANK")
    return Launch(
        int(rank),
        int(world_size),
        None if local is None else int(local),
        int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        "TORCHELASTIC_RUN_ID" in os.environ,
    )


def choose_share(option: str | None = None) -> tuple[int, int]:
    """Return the part, from 0, and the number of parts that processes share work in, each on its own.

    Args:
        option: `I/N`, the I-th (from 1) of N parts; None for what the launcher says, or all of the work.

    Raises:
        UsageError: the option is no share, the environment is damaged, or both name one.
    """
    launched = launch().share
    if option is None:
        return launched
    if launched[1] > 1:
        raise UsageError(f"--shard {option} and torchrun both share the work: pass one of the two")
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", option)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard is {option!r}, expected I/N with I from 1 to N, such as 3/16")
    return part - 1, parts
