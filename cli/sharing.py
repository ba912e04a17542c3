"""The share of one process in work that several do, each on its own."""

from __future__ import annotations

import os
import re

from tokenizer.errors import UsageError


def share(option: str | None) -> tuple[int, int]:
    """Return the part, from 0, and the number of parts: of `--shard I/N`, or of torchrun's environment, or (0, 1).

    Raises:
        UsageError: the option is no share, the environment is damaged, or both name one.
    """
    ranks = _ranks()
    if option is None:
        return ranks
    if ranks[1] > 1:
        raise UsageError(f"--shard {option} and torchrun both share the work: pass one of the two")
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", option)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard is {option!r}, expected I/N with I from 1 to N, such as 3/16")
    return part - 1, parts


def under_torchrun() -> bool:
    """Return whether torchrun started this process: it stops all others when one ends with another code than 0."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _ranks() -> tuple[int, int]:
    rank, ranks = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and ranks.isdecimal() and int(rank) < int(ranks)):
        raise UsageError(f"RANK={rank} and WORLD_SIZE={ranks} in the environment are no share of the work: unset them")
    return int(rank), int(ranks)
