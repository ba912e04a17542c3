"""How much memory work takes."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """The most memory held since it was made: torch's on CUDA, else the process's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._fresh = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif platform.system() == "Linux":
            self._fresh = _forget_peak()

    @property
    def megabytes(self) -> float | None:
        """In 2^20 bytes; None where the system does not tell. Off Linux and CUDA, since the process began."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if platform.system() == "Linux":
            return _peak() if self._fresh else None
        return _largest_resident()


def _forget_peak() -> bool:
    try:
        _CLEAR.write_text("5")  # sets VmHWM, the peak, to what is held now, see proc(5)
    except OSError:
        return False
    return True


def _peak() -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 2**10 if found else None


def _largest_resident() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
