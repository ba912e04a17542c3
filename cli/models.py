"""The checkpoint that a command works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import Console
from tokenizer.errors import UsageError

if TYPE_CHECKING:
    import torch

    from tokenizer.model import Tokenizer


@dataclass(frozen=True)
class Loaded:
    """A checkpoint on its device, the fingerprint of its weights, and those of which it decodes the tokens too."""

    network: Tokenizer
    fingerprint: str
    reads: tuple[str, ...]
    device: torch.device


def required(model: Path | None) -> Path:
    """Return the checkpoint that -m names, or raise UsageError."""
    if model is None:
        raise UsageError("no checkpoint: pass -m RUN, the folder that vqtok train wrote")
    return model


def load(model: Path, device: str, console: Console) -> Loaded:
    """Load a checkpoint; this imports torch.

    Raises:
        CheckpointError: it is missing, damaged, or does not fit.
        UsageError: `device` is no device.
        DeviceError: the device is absent.
    """
    from tokenizer import checkpoint, runtime

    target = runtime.choose_device(device)
    network = checkpoint.load(model).to(target)
    loaded = Loaded(network, checkpoint.fingerprint(model), checkpoint.describe(model).reads, target)
    console.detail(f"checkpoint {loaded.fingerprint[:12]} from {model}, on {target}")
    return loaded
