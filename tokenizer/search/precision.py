"""Matrix products in full precision, whatever a program has allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch


@contextlib.contextmanager
def full_precision(device: str) -> Generator[None]:
    """Compute products on a device of that type without autocast, TF32 or bfloat16, and put the setting back."""
    backend = {"cuda": torch.backends.cuda, "cpu": torch.backends.mkldnn}.get(device)
    switch: Any = getattr(backend, "matmul", None)
    if hasattr(switch, "fp32_precision"):  # from torch 2.9 on, and not to be mixed with what came before
        before, switch.fp32_precision = switch.fp32_precision, "ieee"
        try:
            with torch.autocast(device, enabled=False):
                yield
        finally:
            switch.fp32_precision = before
        return
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)
