"""Encoder and decoder for those who have neither vqtok nor torch: ONNX files, compared before they are written."""

from __future__ import annotations

from tokenizer.export.folder import ABOUT, write_exported
from tokenizer.export.graphs import DECODER, ENCODER, Exported, require_packages, to_onnx
from tokenizer.export.proof import ExportCheck, check_exported

__all__ = [
    "ABOUT",
    "DECODER",
    "ENCODER",
    "ExportCheck",
    "Exported",
    "check_exported",
    "require_packages",
    "to_onnx",
    "write_exported",
]
