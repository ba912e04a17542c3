"""Encoder and decoder for those who have neither vqtok nor torch: ONNX files, compared before they are written."""

from tokenizer.export.comparison import Check, check
from tokenizer.export.graphs import DECODER, ENCODER, Exported, require_packages, to_onnx
from tokenizer.export.writing import ABOUT, write

__all__ = ["ABOUT", "DECODER", "ENCODER", "Check", "Exported", "check", "require_packages", "to_onnx", "write"]
