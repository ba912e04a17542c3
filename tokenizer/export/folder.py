"""Exported graphs as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tokenizer.export.graphs import DECODER, ENCODER, Exported
from tokenizer.export.proof import ExportCheck
from tokenizer.files import write_bytes

ABOUT = "vqtok.json"


def write_exported(folder: Path, exported: Exported, checked: ExportCheck) -> None:
    """Write `encoder.onnx`, `decoder.onnx`, and last `vqtok.json`: where that one lies, the others are whole.

    Raises:
        OutputError: they cannot be written.
    """
    (folder / ABOUT).unlink(missing_ok=True)
    write_bytes(folder / ENCODER, exported.encoder)
    write_bytes(folder / DECODER, exported.decoder)
    about = {**exported.about, "checked": asdict(checked)}
    write_bytes(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode())
