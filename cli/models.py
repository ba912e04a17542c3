"""The checkpoint that a command works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import Console, printable
from tokenizer.errors import UsageError
from tokenizer.models import DEFAULT_CHECKPOINT, locate_checkpoint, shipped_folder, shipped_names

if TYPE_CHECKING:
    import torch

    from tokenizer.models import Tokenizer


@dataclass(frozen=True)
class Loaded:
    """A checkpoint on its device, the fingerprint of its weights, and those of which it decodes the tokens too."""

    network: Tokenizer
    fingerprint: str
    reads: tuple[str, ...]
    device: torch.device


def chosen(model: Path | None) -> Path:
    """Return the folder of the checkpoint that -m names, or of the default that ships.

    Raises:
        UsageError: none is named, and none ships.
    """
    if model is not None:
        return locate_checkpoint(model)
    if DEFAULT_CHECKPOINT not in shipped_names():
        raise UsageError("no checkpoint: pass -m RUN, the folder that vqtok train wrote")
    return shipped_folder() / DEFAULT_CHECKPOINT


def maker(name: str, fingerprint: str | None) -> Path:
    """Return the shipped checkpoint that made the tokens of the file `name`; the default where no `fingerprint` says.

    Raises:
        UsageError: none of them did.
    """
    from tokenizer.models import describe_checkpoint, fingerprint_of

    if not fingerprint:
        return chosen(None)
    for folder in (shipped_folder() / own for own in shipped_names()):
        if fingerprint in (fingerprint_of(folder), *describe_checkpoint(folder).reads):
            return folder
    raise UsageError(
        f"{printable(name)} was made by checkpoint {fingerprint[:12]}, which does not ship with vqtok: pass -m RUN, "
        "the folder that vqtok train wrote"
    )


def load(model: Path, device: str, console: Console, *, named: bool = True) -> Loaded:
    """Load a checkpoint, and say which unless -m named it; this imports torch.

    Raises:
        CheckpointError: it is missing, damaged, or does not fit.
        UsageError: `device` is no device.
        DeviceError: the device is absent.
    """
    from tokenizer import runtime
    from tokenizer.models import describe_checkpoint, fingerprint_of, load_checkpoint

    target = runtime.choose_device(device)
    network = load_checkpoint(model).to(target)
    loaded = Loaded(network, fingerprint_of(model), describe_checkpoint(model).reads, target)
    if not named:
        console.say(f"checkpoint: {model.name}, which ships with vqtok; -m names another")
    console.detail(f"checkpoint {loaded.fingerprint[:12]} from {model}, on {target}")
    return loaded
