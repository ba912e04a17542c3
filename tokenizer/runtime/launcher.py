"""What started this process: alone, or by `torchrun` as one of several. Only here are its variables read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from tokenizer.errors import UsageError

_MOST_DIGITS = 10  # Python refuses to read numbers of thousands


@dataclass(frozen=True)
class Launch:
    """This process among those that one command started.

    Attributes:
        rank: its number, from 0; the first one speaks and writes what belongs to all.
        world_size: how many there are.
        local_rank: its number on its machine; None where no launcher gave one.
        restarts: how often torchrun started all of them anew.
        under_torchrun: torchrun started it, and stops all others when one ends with another code than 0.
        has_address: the launcher says where they can meet, so that they can exchange tensors.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int | None = None
    restarts: int = 0
    under_torchrun: bool = False
    has_address: bool = False

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
    if not (_is_count(rank) and _is_count(world_size) and int(rank) < int(world_size)):
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={world_size} in the environment are no share of the work: unset them"
        )
    return Launch(
        int(rank),
        int(world_size),
        _count("LOCAL_RANK"),
        _count("TORCHELASTIC_RESTART_COUNT") or 0,
        "TORCHELASTIC_RUN_ID" in os.environ,
        "MASTER_ADDR" in os.environ,
    )


def _count(name: str) -> int | None:
    text = os.environ.get(name)
    if text is not None and not _is_count(text):
        raise UsageError(f"{name}={text} in the environment is no number from 0: unset it")
    return None if text is None else int(text)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS


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
