"""The words of the command line, which are read here and nowhere else."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection


def as_typed() -> str:
    """Return the command line of this process."""
    return shlex.join(["vqtok", *sys.argv[1:]])


def command_name(known: Collection[str]) -> str:
    """Return the command that is called, or nothing where none of the known ones is."""
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return first if first in known else ""


def is_typed(*names: str) -> bool:
    """Return whether an option of one of these names is among the words."""
    return any(word.split("=")[0] in names for word in sys.argv[1:])


def resume_command() -> str:
    """Return the command that goes on with what this one began: its own words, with --resume."""
    kept = []
    for word in sys.argv[2:]:
        short = word.replace("f", "") if re.fullmatch("-[fqv]+", word) else word  # such as -f and -qf
        if word not in ("--overwrite", "--resume") and (short == word or short != "-"):
            kept.append(short)
    return shlex.join(["vqtok", *sys.argv[1:2], "--resume", *kept])
