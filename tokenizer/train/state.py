"""Everything a run needs to go on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.errors import CheckpointError
from tokenizer.models import Tokenizer
from tokenizer.train.objective import Objective
from tokenizer.train.optimizers import optimizer_state, restore_optimizer_state

# Kept as JSON; everything else is tensors.
PLAIN = (
    *("step", "crops", "seconds", "quantizing", "skipped", "lr_share", "rollbacks"),
    *("best", "evaluations_since_best", "figures", "reads"),
)


@dataclass
class TrainingState:
    """A run between two steps.

    Attributes:
        model: what the optimizer moves.
        ema: exponential moving average of the model's weights, in evaluation mode; what is evaluated and saved.
        optimizers: of the model's parameters, each parameter in one of them.
        objective: what reconstructions are trained for.
        scaler: of the loss in float16, which it keeps from vanishing; does nothing otherwise.
        step: steps taken.
        crops: training crops drawn, over all ranks.
        seconds: wall-clock time spent, over all sessions.
        quantizing: true once the codebook is placed and in use.
        skipped: steps in which something was not finite.
        skipped_in_a_row: of these, the latest ones without a good step between them.
        lr_share: factor on the learning rate, halved each time the run went back.
        rollbacks: how many times it did, to the last saved state, since something was not finite.
        best: best PSNR on the validation images so far, in dB.
        evaluations_since_best: how many came after it while training.
        figures: of the last evaluation on the validation images.
        reads: fingerprints of the checkpoints whose tokens it decodes as they did.
    """

    model: Tokenizer
    ema: Tokenizer
    optimizers: tuple[torch.optim.Optimizer, ...]
    objective: Objective
    scaler: torch.amp.GradScaler
    step: int = 0
    crops: int = 0
    seconds: float = 0.0
    quantizing: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    lr_share: float = 1.0
    rollbacks: int = 0
    best: float | None = None
    evaluations_since_best: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saved:
    """A training state on disk.

    Attributes:
        config: settings of the run.
        data: digest of the names of its training images.
        plain: step, counters and figures.
        tensors: weights, optimizers' state, random states.
    """

    config: TrainConfig
    data: str
    plain: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def new_state(model: Tokenizer, optimizers: tuple[torch.optim.Optimizer, ...], config: TrainConfig) -> TrainingState:
    """Return the state of a run that has not started."""
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    device = torch.device(config.device).type
    scaler = torch.amp.GradScaler(device, enabled=config.precision == "float16")
    return TrainingState(model, ema, optimizers, Objective(config), scaler)


def capture_state(state: TrainingState, config: TrainConfig, data: str) -> Saved:
    """Return the state as plain values and tensors that share nothing with it; every rank must call this.

    `data` identifies the list of training images.
    """
    tensors = {f"model/{name}": value for name, value in _tensors(state.model)}
    tensors |= {f"ema/{name}": value for name, value in _tensors(state.ema)}
    for number, optimizer in enumerate(state.optimizers):
        tensors |= {f"optimizer/{number}/{name}": value for name, value in optimizer_state(optimizer).items()}
    tensors |= {f"objective/{name}": value for name, value in state.objective.tensors().items()}
    tensors["random/cpu"] = runtime.gather_rows(torch.get_rng_state()[None])
    if torch.cuda.is_available():
        tensors["random/cuda"] = runtime.gather_rows(torch.cuda.get_rng_state()[None])
    # Contiguous copies: safetensors refuses shared memory, and channels-last strides are not kept.
    flat = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    plain = {name: getattr(state, name) for name in PLAIN} | {"scaler": state.scaler.state_dict()}
    return Saved(config, data, plain, flat)


def restore_state(state: TrainingState, saved: Saved) -> None:
    """Put a state of the same settings where the saved one was, random numbers included.

    On a rank that the saved run did not have, random numbers go on as they are.

    Raises:
        CheckpointError: the tensors do not fit the settings.
    """
    try:
        _copy(state.model, "model", saved.tensors)
        _copy(state.ema, "ema", saved.tensors)
        for number, optimizer in enumerate(state.optimizers):
            restore_optimizer_state(optimizer, _under(f"optimizer/{number}/", saved.tensors))
        state.objective.restore(_under("objective/", saved.tensors))
        for name in PLAIN:
            setattr(state, name, saved.plain[name])
        state.scaler.load_state_dict(saved.plain["scaler"])
        _set_random_state(saved.tensors)
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the training state does not fit its own settings: {error}") from error


def _tensors(model: Tokenizer) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers, those that a checkpoint leaves out too."""
    return [*model.named_parameters(), *model.named_buffers()]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _set_random_state(tensors: Mapping[str, Tensor]) -> None:
    # Clones: torch reads from the beginning of the storage, wherever a row lies in it.
    mine = runtime.rank()
    if mine < len(tensors["random/cpu"]):
        torch.set_rng_state(tensors["random/cpu"][mine].clone())
    if torch.cuda.is_available() and mine < len(tensors.get("random/cuda", ())):
        torch.cuda.set_rng_state(tensors["random/cuda"][mine].clone())


@torch.no_grad()
def _copy(model: Tokenizer, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    for name, value in _tensors(model):
        value.copy_(tensors[f"{prefix}/{name}"])
