"""The machine: device, precision, processors, other ranks."""

from __future__ import annotations

import contextlib
import os

import torch
import torch.distributed as dist
from torch import Tensor

from tokenizer.errors import DeviceError, UsageError


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: the name is not a device.
        DeviceError: the device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is not a device: pass auto, cpu, cuda, cuda:1 or mps") from None
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present.get(device.type, 0):
        raise DeviceError(f"there is no {name} on this machine: pass --device auto or --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the network's arithmetic; `auto` takes bfloat16 where the hardware multiplies it."""
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Named so in torch 2.6 and in 2.15; without them, float32 is the safe answer.
        tests = (getattr(torch.cpu, name, bool) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(test() for test in tests)
    return False


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the network runs at `precision`."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, precision)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def explain(error: RuntimeError, advice: str) -> DeviceError | None:
    """Return the one-line error for an out-of-memory `error` of torch, or None for any other."""
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return DeviceError(f"out of memory: {advice}")
    return None


def ranks() -> int:
    """Return how many processes train together: 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of each rank's `values`, the same on all of them."""
    if ranks() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def any_rank(flags: Tensor) -> Tensor:
    """Return a bool tensor that is true where that of any rank is."""
    return flags if ranks() == 1 else sum_over_ranks(flags.int()) > 0


def from_first_rank(values: Tensor) -> Tensor:
    """Return the first rank's `values` on every rank; all ranks' have one shape and type."""
    if ranks() == 1:
        return values
    sent = values.contiguous().clone()
    dist.broadcast(sent, src=0)
    return sent
