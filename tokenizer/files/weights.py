"""Weights of networks that others trained, from files that the user names. Nothing is downloaded.

torch reads tensors alone out of a `.pth`; before torch 2.10 a forged one can corrupt memory all the same
(CVE-2026-24747). A `.safetensors` is safe with any release.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizer.errors import InputError
from tokenizer.files.safetensors_files import read_tensors

if TYPE_CHECKING:
    from torch import Tensor


def load_weights(path: Path, network: str, advice: str) -> dict[str, Tensor]:
    """Return the tensors of a file that `torch.save` or safetensors wrote, by name; none of a file that holds others.

    Args:
        path: the file.
        network: whose weights it should hold, for messages.
        advice: where to get it, for messages.

    Raises:
        InputError: the file is missing or damaged.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            held: Any = read_tensors(path)[0]
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two readers raise anything for files that are none of theirs
        reason = error.strerror if isinstance(error, OSError) else None
        told = reason or "damaged, or not a file of tensors"
        raise InputError(f"cannot read the weights of {network} from {path}: {told}: {advice}") from error
    held = held if isinstance(held, Mapping) else {}
    return {str(name): value for name, value in held.items() if isinstance(value, torch.Tensor)}


def pick_weights(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], told: str, advice: str
) -> dict[str, Tensor]:
    """Return float32 copies or views of the tensors that `wanted` names, each of the shape it has there.

    Args:
        state: what a file holds.
        wanted: name to a tensor of the right shape.
        told: what the file should be, for messages: `FILE does not hold ...`.
        advice: where to get it, for messages.

    Raises:
        InputError: one is missing, or has another shape.
    """
    for name, tensor in wanted.items():
        found = state.get(name)
        if found is None or found.shape != tensor.shape:
            shape = "missing" if found is None else tuple(found.shape)
            raise InputError(f"{told}: {name} is {shape}, expected {tuple(tensor.shape)}: {advice}")
    return {name: state[name].float() for name in wanted}
