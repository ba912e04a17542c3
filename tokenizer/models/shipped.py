"""Shipped checkpoints, which come with vqtok: their names stand wherever a checkpoint's folder can."""

from __future__ import annotations

import os
from pathlib import Path

from tokenizer.errors import UsageError

DEFAULT_CHECKPOINT = "photo-f8"
_PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Return where they lie: in the installed package, or beside it in a clone of the repository."""
    inside = _PACKAGE / "checkpoints"
    return inside if inside.is_dir() else _PACKAGE.parent / "checkpoints"


def shipped_names() -> tuple[str, ...]:
    """Return their names, sorted."""
    return tuple(sorted(path.parent.name for path in shipped_folder().glob("*/config.json")))


def locate_checkpoint(model: str | os.PathLike[str] | None) -> Path:
    """Return the folder of a checkpoint: `model` itself where something lies there, else the shipped one of that name.

    `model` comes back as it is where it is neither; reading it says so. None is the default that ships.

    Raises:
        UsageError: no checkpoint is named, and none ships.
    """
    if model is None:
        if DEFAULT_CHECKPOINT not in shipped_names():
            raise UsageError("no checkpoint: pass -m RUN, the folder that vqtok train wrote")
        return shipped_folder() / DEFAULT_CHECKPOINT
    path = Path(model)
    return shipped_folder() / path if not os.path.lexists(path) and str(model) in shipped_names() else path
