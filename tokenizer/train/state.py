"""Everything a run needs to go on, in one file."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError, ConfigError
from tokenizer.files import canonical_json, write_bytes
from tokenizer.model import Tokenizer
from tokenizer.settings import parse, to_dict

FILE = "training.safetensors"
_KEY = "vqtok"


@dataclass
class TrainingState:
    """A run between two steps.

    Attributes:
        model: what the optimizer moves.
        average: moving average of the model's weights, in evaluation mode; what is evaluated and saved.
        optimizers: of the model's parameters, each parameter in one of them.
        step: steps taken.
        seconds: wall-clock time spent, over all sessions.
        quantizing: true once the codebook is placed and in use.
        skipped: steps whose gradient was not finite.
        skipped_in_a_row: of these, the latest ones without a good step between them.
        figures: of the last evaluation on the held-out images.
    """

    model: Tokenizer
    average: Tokenizer
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    seconds: float = 0.0
    quantizing: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    figures: dict[str, float] = field(default_factory=dict)


def fresh(model: Tokenizer, optimizers: tuple[torch.optim.Optimizer, ...]) -> TrainingState:
    """Return the state of a run that has not started."""
    return TrainingState(model, copy.deepcopy(model).eval().requires_grad_(False), optimizers)


def save(folder: Path, state: TrainingState, config: TrainConfig, data: str) -> None:
    """Write the state to `folder`, whole or not at all; `data` identifies the list of training images.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {f"model/{name}": value for name, value in _tensors(state.model)}
    tensors |= {f"average/{name}": value for name, value in _tensors(state.average)}
    for number, optimizer in enumerate(state.optimizers):
        for index, slots in optimizer.state_dict()["state"].items():
            prefix = f"optimizer/{number}/{index}"
            tensors |= {f"{prefix}/{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    header = {
        "config": to_dict(config),
        "data": data,
        "step": state.step,
        "seconds": state.seconds,
        "quantizing": state.quantizing,
        "skipped": state.skipped,
        "figures": state.figures,
    }
    # Contiguous copies: safetensors refuses shared memory, and channels-last strides are not kept.
    flat = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    write_bytes(folder / FILE, safetensors.torch.save(flat, metadata={_KEY: canonical_json(header)}))


def _tensors(model: Tokenizer) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers, those that a checkpoint leaves out too."""
    return [*model.named_parameters(), *model.named_buffers()]


@dataclass(frozen=True)
class Saved:
    """A training state on disk: its settings, which images it trained on, and the rest."""

    config: TrainConfig
    data: str
    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read(folder: Path) -> Saved:
    """Read the training state in `folder`.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(f"there is no training to resume in {folder}: it has no {FILE}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        return Saved(parse(TrainConfig, header["config"]), header["data"], header, tensors)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"cannot read the training state {path}: {error}") from error


def restore(state: TrainingState, saved: Saved) -> None:
    """Put a fresh state where the saved one was, random numbers included.

    Raises:
        CheckpointError: the tensors do not fit the settings.
    """
    try:
        _copy(state.model, "model", saved.tensors)
        _copy(state.average, "average", saved.tensors)
        for number, optimizer in enumerate(state.optimizers):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": _slots(saved.tensors, number), "param_groups": groups})
        state.step, state.seconds = int(saved.header["step"]), float(saved.header["seconds"])
        state.quantizing, state.skipped = bool(saved.header["quantizing"]), int(saved.header["skipped"])
        state.figures = dict(saved.header["figures"])
        torch.set_rng_state(saved.tensors["random/cpu"])
        if torch.cuda.is_available() and "random/cuda" in saved.tensors:
            torch.cuda.set_rng_state(saved.tensors["random/cuda"])
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the training state does not fit its own settings: {error}") from error


def _slots(tensors: Mapping[str, Tensor], number: int) -> dict[int, dict[str, Tensor]]:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"optimizer/{number}/"):
            _, _, index, slot = name.split("/")
            layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
            slots.setdefault(int(index), {})[slot] = value.contiguous(memory_format=layout)
    return slots


@torch.no_grad()
def _copy(model: Tokenizer, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    for name, value in _tensors(model):
        value.copy_(tensors[f"{prefix}/{name}"])
