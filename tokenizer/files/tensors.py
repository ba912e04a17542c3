"""Tensors out of `.safetensors` files, whatever bytes the names of the files are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.files.safetensors_header import read_safetensors_header

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Return the tensors of a file by name, mapped into memory where that can be, and its metadata.

    Raises:
        OSError: it cannot be read.
        SafetensorError, ValueError: it is truncated, foreign or damaged.
    """
    import safetensors.torch

    try:
        str(path).encode()
    except UnicodeEncodeError:  # torch maps only files whose names are UTF-8
        data = path.read_bytes()
        return safetensors.torch.load(data), read_safetensors_header(data, path).metadata
    with safetensors.safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
