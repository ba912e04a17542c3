"""The optimizers and what goes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from tokenizer.config import TrainConfig
from tokenizer.models import Tokenizer
from tokenizer.quantizers import ReplacedRows
from tokenizer.runtime import dtype_of, lerp_all_
from tokenizer.train.muon import Muon

_SMALLEST_KERNEL = 32


def make_optimizers(model: Tokenizer, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon over the network's larger kernels and AdamW over the rest; only kernels decay."""
    # The two may share weights.
    network = list(dict.fromkeys([*model.encoder.parameters(), *model.decoder.parameters()]))
    large = [p for p in network if p.ndim > 1 and min(p.shape[:2]) >= _SMALLEST_KERNEL]
    taken = set(map(id, large))
    groups = [
        {
            "params": [p for p in network if p.ndim > 1 and id(p) not in taken],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in network if p.ndim <= 1], "weight_decay": 0.0},
        {"params": list(model.quantizer.parameters()), "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(0.9, 0.95), fused=True)
    if not large:
        return (adam,)
    precision = dtype_of(config.precision)
    return adam, Muon(large, lr=config.lr, weight_decay=config.weight_decay, precision=precision)


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate of every group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer keeps of each parameter, as `index/name`; not copies."""
    kept = optimizer.state_dict()["state"]
    return {f"{index}/{name}": torch.as_tensor(value) for index, held in kept.items() for name, value in held.items()}


def restore_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put copies of what `slots` returned in place of what an optimizer keeps, those of kernels channels last.

    Raises:
        ValueError: they are of other parameters, or of another optimizer.
    """
    kept: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, slot = name.split("/")
        layout = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        kept.setdefault(int(index), {})[slot] = value.clone(memory_format=layout)
    _check_slots(optimizer, kept)
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})


def _check_slots(optimizer: torch.optim.Optimizer, kept: Mapping[int, Mapping[str, Tensor]]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {"momentum"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
    for index, held in kept.items():
        fits = 0 <= index < len(parameters) and held.keys() == names
        if not fits or any(
            value.shape != (() if slot == "step" else parameters[index].shape) for slot, value in held.items()
        ):
            raise ValueError(f"what the optimizer kept of parameter {index} is of another shape")


@torch.no_grad()
def forget_moments(optimizers: Sequence[torch.optim.Optimizer], replaced: Sequence[ReplacedRows]) -> None:
    """Clear the moments of rows that were overwritten: they belong to what stood there before."""
    for change in replaced:
        for slot in _slots(optimizers, change.parameter):
            if slot.shape == change.parameter.shape:
                slot.masked_fill_(change.rows[:, None], 0)


def _slots(optimizers: Sequence[torch.optim.Optimizer], parameter: nn.Parameter) -> Iterator[Tensor]:
    for optimizer in optimizers:
        if parameter in optimizer.state:
            yield from (slot for slot in optimizer.state[parameter].values() if isinstance(slot, Tensor))


@torch.no_grad()
def update_ema(ema: Tokenizer, model: Tokenizer, decay: float) -> None:
    """Move the averaged weights towards the model's by `1 - decay`; buffers are copied."""
    pairs = list(zip(ema.parameters(), model.parameters(), strict=True))
    learned = [pair for pair in pairs if pair[1].requires_grad]
    if learned:
        lerp_all_([mean for mean, _ in learned], [value for _, value in learned], 1 - decay)
    for old, new in pairs:
        if not new.requires_grad:  # frozen, or set by moving averages: what did not move keeps even a zero's sign
            old.copy_(torch.where(old == new, new, old.lerp(new, 1 - decay)))
    for mean, value in zip(ema.buffers(), model.buffers(), strict=True):
        mean.copy_(value)


@torch.no_grad()
def replace_in_ema(ema: Tokenizer, model: Tokenizer, replaced: Sequence[ReplacedRows]) -> None:
    """Give the averaged codes the new places at once: an average of two unrelated places serves neither."""
    means = dict(ema.named_parameters())
    names = {parameter: name for name, parameter in model.named_parameters()}
    for change in replaced:
        mean = means[names[change.parameter]]
        mean.copy_(torch.where(change.rows[:, None], change.parameter, mean))
