"""Files written whole or not at all, locks, safe names; files of tensors and of other networks' weights."""

from __future__ import annotations

from tokenizer.files.file_names import FileNames, path_beneath, safe_name
from tokenizer.files.locks import Lock, locked_folder, open_to_append
from tokenizer.files.outputs import Existing, check_output, existing_of, is_folder, refuse_existing
from tokenizer.files.safetensors_files import (
    SafetensorsHeader,
    TensorEntry,
    read_safetensors_header,
    read_tensors,
    safetensors_header_of,
)
from tokenizer.files.weights import load_weights, pick_weights
from tokenizer.files.writing import canonical_json, make_folder, remove_temporaries_of, replacing, write_bytes

__all__ = [
    "Existing",
    "FileNames",
    "Lock",
    "SafetensorsHeader",
    "TensorEntry",
    "canonical_json",
    "check_output",
    "existing_of",
    "is_folder",
    "load_weights",
    "locked_folder",
    "make_folder",
    "open_to_append",
    "path_beneath",
    "pick_weights",
    "read_safetensors_header",
    "read_tensors",
    "refuse_existing",
    "remove_temporaries_of",
    "replacing",
    "safe_name",
    "safetensors_header_of",
    "write_bytes",
]
