"""Full precision for matrix products, whatever the program has allowed elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from functools import partial
from typing import Any

import torch

from tokenizer.runtime import SharedContext


@contextlib.contextmanager
def full_precision(device: str) -> Generator[None]:
    """Compute products on a device of that type without autocast, TF32 or bfloat16, and put the setting back.

    Several threads may do so at once.
    """
    with _SETTINGS.get(device, _SETTINGS["other"]), torch.autocast(device, enabled=False):
        yield


@contextlib.contextmanager
def _full(device: str) -> Generator[None]:
    backend = {"cuda": torch.backends.cuda, "cpu": torch.backends.mkldnn}.get(device)
    switch: Any = getattr(backend, "matmul", None)
    if hasattr(switch, "fp32_precision"):  # from torch 2.9 on, and not to be mixed with what came before
        before, switch.fp32_precision = switch.fp32_precision, "ieee"
        try:
            yield
        finally:
            switch.fp32_precision = before
        return
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)


_SETTINGS = {device: SharedContext(partial(_full, device)) for device in ("cpu", "cuda", "other")}
