"""The machine: device, precision, processors."""

from __future__ import annotations

import contextlib
import os
from typing import TypeVar

import torch
import torch.distributed as dist

from tokenizer.errors import DeviceError, UsageError, lacks_memory
from tokenizer.runtime.distributed import world_size
from tokenizer.runtime.launcher import launch
from tokenizer.runtime.private_apis import cpu_multiplies_bfloat16, is_compiler_error

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
    local_rank = launch().local_rank
    if device.type == "cuda" and local_rank is not None:
        device = torch.device("cuda", local_rank)
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
        return cpu_multiplies_bfloat16()
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
    if is_compiler_error(error):
        reason = str(error).strip().partition("\n")[0]
        return DeviceError(f"the network cannot be compiled here, leave --compile out: {reason}")
    if world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
        return DeviceError("another process of this run is gone")
    return None
