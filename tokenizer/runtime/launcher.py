"""What started this process: alone, or by `torchrun` as one of several. Only here are its variables read."""

from __future__ import annotations

import os
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
