"""The machine that an entry ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from tokenizer import runtime
from tokenizer._version import __version__

_CPUINFO = Path("/proc/cpuinfo")


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Return versions, device and processor, as plain values."""
    return {
        "vqtok": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor_name(),
        "processors": runtime.processor_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


def processor_name() -> str:
    """Return the processor's name, as well as the system tells it."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
