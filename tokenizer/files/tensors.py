"""Reading `.safetensors` files as tensors, whatever bytes their names are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file by name, mapped into memory where that can be, and its metadata.

    Raises:
        OSError: it cannot be read.
        SafetensorError, ValueError: it is truncated, foreign or damaged.
    """
    import safetensors

    try:
        str(path).encode()
    except UnicodeEncodeError:  # torch maps files whose names are UTF-8 alone
        return _parse(path.read_bytes())
    with safetensors.safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def _parse(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    import safetensors.torch

    tensors = safetensors.torch.load(data)  # which judges the header too
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get("__metadata__") or {}
