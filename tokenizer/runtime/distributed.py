"""Several processes that work as one: the group that `torchrun` started, and what they tell each other."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tokenizer.runtime.launcher import launch

T = TypeVar("T")


@contextlib.contextmanager
def process_group() -> Generator[None]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end.

    Tensors on a CPU travel by gloo, those on CUDA by NCCL.
    """
    started = launch()
    if started.world_size == 1 or not started.has_address or dist.is_initialized():
        yield
        return
    # Here: a torch that was built without torch.distributed does not have them.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(started.local_rank or 0)
        backend = "cpu:gloo,cuda:nccl"
    # torchrun keeps one store over its restarts: processes of an attempt must not meet the addresses of the last one.
    store, number, count = next(rendezvous("env://"))
    attempt = PrefixStore(f"attempt {started.restarts}", store)
    dist.init_process_group(backend, store=attempt, rank=number, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return how many processes train together: 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them; 0 writes the files."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of each rank's `values`, the same on all of them."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def any_over_ranks(flags: Tensor) -> Tensor:
    """Return a bool tensor that is true where that of any rank is."""
    return flags if world_size() == 1 else sum_over_ranks(flags.int()) > 0


def from_first_rank(values: Tensor) -> Tensor:
    """Return the first rank's `values` on every rank; all ranks' have one shape and type."""
    if world_size() == 1:
        return values
    sent = values.contiguous().clone()
    dist.broadcast(sent, src=0)
    return sent


def gather_rows(values: Tensor) -> Tensor:
    """Return the rows of every rank's (N, ...) `values`, those of the first rank first; N may differ."""
    if world_size() == 1:
        return values
    counts = [torch.zeros((), dtype=torch.int64, device=values.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor(len(values), device=values.device))
    most = max(int(count) for count in counts)
    padded = torch.cat([values, values.new_zeros(most - len(values), *values.shape[1:])])
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def max_over_ranks(value: int) -> int:
    """Return the largest of the ranks' values."""
    if world_size() == 1:
        return value
    held = torch.tensor(value)
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return int(held)


def object_from_first_rank(value: T) -> T:
    """Return the first rank's `value`, any object that can be pickled, on every rank."""
    if world_size() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


@torch.no_grad()
def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Set the gradients of `parameters` to their means over ranks; all ranks have them for the same ones."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))
