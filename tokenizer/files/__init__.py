"""Files written whole or not at all, locks, safe names; files of tensors and of other networks' weights."""

from __future__ import annotations

from tokenizer.files.file_names import FileNames
from tokenizer.files.tensors import read_tensors
from tokenizer.files.weights import load_weights, pick_weights
from tokenizer.files.writing import (
    Lock,
    canonical_json,
    locked_folder,
    make_folder,
    open_to_append,
    path_beneath,
    refuse_existing,
    remove_temporaries_of,
    replacing,
    safe_name,
    write_bytes,
)

__all__ = [
    "FileNames",
    "Lock",
    "canonical_json",
    "load_weights",
    "locked_folder",
    "make_folder",
    "open_to_append",
    "path_beneath",
    "pick_weights",
    "read_tensors",
    "refuse_existing",
    "remove_temporaries_of",
    "replacing",
    "safe_name",
    "write_bytes",
]
