"""The machine: device, precision, processors, other ranks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tokenizer.errors import DeviceError, UsageError, lacks_memory

T = TypeVar("T")


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes CUDA, then MPS, then the CPU.

    Under torchrun, each process takes the CUDA device of its own number on its machine.

    Raises:
        UsageError: the name is not a device.
        DeviceError: the device is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is not a device: pass auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present.get(device.type, 0):
        raise DeviceError(f"there is no {name} on this machine: pass --device auto or --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return the name of the network's precision; `auto` takes bfloat16 where the hardware multiplies it."""
    if name == "auto":
        return "bfloat16" if _multiplies_bfloat16(device) else "float32"
    return name


def dtype_of(precision: str) -> torch.dtype:
    """Return the type that the network computes in; that of `tf32` is float32."""
    dtype: torch.dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    return dtype


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Named so in torch 2.6 and in 2.15; without them, float32 is the safe answer.
        tests = (getattr(torch.cpu, name, bool) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(test() for test in tests)
    return False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the network runs at `precision`.

    On CUDA this also lets products and convolutions in float32 drop to TF32, or not, from here on: torch does for
    convolutions, unasked.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = dtype_of(precision)
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def processor_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def explain_error(error: RuntimeError, advice: str) -> DeviceError | None:
    """Return the one-line error for an `error` of torch, or None where it is none that a person can cause.

    These are: out of memory, nothing to compile with, another process of the run that is gone.
    """
    if isinstance(error, torch.OutOfMemoryError) or lacks_memory(error):
        return DeviceError(f"out of memory: {advice}")
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        reason = str(error).strip().partition("\n")[0]
        return DeviceError(f"the network cannot be compiled here, leave --compile out: {reason}")
    if world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
        return DeviceError("another process of this run is gone")
    return None


@contextlib.contextmanager
def process_group() -> Generator[None]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end.

    Tensors on a CPU travel by gloo, those on CUDA by NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ or dist.is_initialized():
        yield
        return
    # Here: a torch that was built without torch.distributed does not have them.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    # torchrun keeps one store over its restarts: processes of an attempt must not meet the addresses of the last one.
    store, number, count = next(rendezvous("env://"))
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    attempt = PrefixStore(f"attempt {restarts}", store)
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
