"""Where results go, looked at before any work: is it a folder, what becomes of what lies there, can it be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from tokenizer.errors import OutputError, UsageError

# What becomes of an output that is there.
Existing = Literal["refuse", "resume", "overwrite"]


def existing_of(*, resume: bool, overwrite: bool) -> Existing:
    """Return what two switches say of an output that is there.

    Raises:
        UsageError: they contradict each other.
    """
    if resume and overwrite:
        raise UsageError("--resume keeps what is there, --overwrite replaces it: pass one of the two")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def is_folder(output: str) -> bool:
    """Return whether an output is a folder: one that is there, or a name with a slash at its end or without suffix."""
    return output != "-" and (output.endswith("/") or Path(output).is_dir() or not Path(output).suffix)


def check_output(path: Path, *, folder: bool, existing: Existing = "refuse") -> None:
    """Look whether `path` can become a file, or a folder of files, and whether something would be lost.

    Raises:
        OutputError: something is there and `existing` is `refuse`, something else is in its way, or the folder that it
            would lie in cannot be written.
    """
    refuse_existing(path, overwrite=existing != "refuse")
    if path.is_dir() and not folder:
        raise OutputError(f"cannot write {path}: it is a folder")
    parent = path if folder else path.parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"cannot write {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {parent}")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError when `path` holds something that would be lost."""
    taken = any(path.iterdir()) if path.is_dir() else os.path.lexists(path)
    if taken and not overwrite:
        raise OutputError(f"{path} exists: pass --overwrite to replace it, or name another output")
