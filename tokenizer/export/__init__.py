"""Encoder and decoder for those who have neither vqtok nor torch: ONNX files, compared before they are written."""

from __future__ import annotations

from tokenizer.export.graphs import DECODER_FILE, ENCODER_FILE, Exported, require_packages, to_onnx
from tokenizer.export.onnx_folder import ABOUT_FILE, ExportResult, export_onnx, write_exported
from tokenizer.export.proof import ExportCheck, check_exported

__all__ = [
    "ABOUT_FILE",
    "DECODER_FILE",
    "ENCODER_FILE",
    "ExportCheck",
    "ExportResult",
    "Exported",
    "check_exported",
    "export_onnx",
    "require_packages",
    "to_onnx",
    "write_exported",
]
