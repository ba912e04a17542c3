"""The checkpoint that a command works with."""

from __future__ import annotations

from pathlib import Path

from cli.console import Console
from tokenizer.models import LoadedModel, load_model


def load(model: Path | None, device: str, console: Console, *, named: bool = True) -> LoadedModel:
    """Load a checkpoint, and say which unless -m named it; this imports torch."""
    loaded = load_model(model, device)
    if not named:
        console.say(f"checkpoint: {loaded.folder.name}, which ships with vqtok; -m names another")
    console.detail(f"checkpoint {loaded.fingerprint[:12]} from {loaded.folder}, on {loaded.device}")
    return loaded
