"""What a run tells about itself while it goes: `metrics.jsonl`, and the figures of the steps in between."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.errors import OutputError
from tokenizer.files import write_bytes
from tokenizer.images import Pixels
from tokenizer.models import Tokenizer

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line. Lines after `step`, left by a run that was killed, are dropped.

    Of several ranks only the first one writes.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / METRICS_FILE
        if runtime.rank():
            return
        try:
            lines = self.path.read_text("utf-8").splitlines(keepends=True) if self.path.exists() else []
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror or error}") from error
        write_bytes(self.path, "".join(line for line in lines if _step_of(line) <= step).encode())

    def write(self, values: dict[str, Any]) -> None:
        """Append one line and hand it to the system."""
        if runtime.rank():
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def show(self, step: int, model: Tokenizer, validation: Sequence[Tensor], pixels: Pixels) -> None:
        """Show an evaluation: there is nothing to see in a text file."""

    def close(self) -> None:
        """Write what is still in memory: nothing is."""


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


@dataclass(frozen=True)
class Passed:
    """What one forward and backward pass gave.

    Attributes:
        loss: () of the reconstructions and the quantizer.
        error: () mean squared error, images in [-1, 1].
        tokens: (B, h, w, C), or None before the codebook is placed.
    """

    loss: Tensor
    error: Tensor
    tokens: Tensor | None


class Meter:
    """Sums over the steps since the last report, kept on the device until they are asked for."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self._sizes = list(sizes)
        self._starts = torch.tensor([0, *sizes[:-1]], device=device).cumsum(0)
        self.counts = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        self._sums = torch.zeros(2, device=device)
        self._began = time.perf_counter()
        self._waited = 0.0
        self._images = self._steps = 0

    def next_batch(self, feed: Iterator[Tensor]) -> Tensor:
        """Return the next batch and note how long it took to come."""
        began = time.perf_counter()
        batch = next(feed)
        self._waited += time.perf_counter() - began
        return batch

    def add(self, passed: Passed, images: int) -> None:
        """Note one step on that many images."""
        self._sums += torch.stack([passed.loss, passed.error])
        if passed.tokens is not None:
            index = (passed.tokens + self._starts).flatten()
            self.counts.index_add_(0, index, torch.ones_like(index))
        self._images += images
        self._steps += 1

    def report(self) -> dict[str, float]:
        """Return the means since the last report, over all ranks, and begin anew; codes are counted on."""
        sums = runtime.sum_over_ranks(self._sums) / runtime.world_size()
        loss, squared_error = (sums / max(1, self._steps)).tolist()
        elapsed = time.perf_counter() - self._began
        counts = runtime.sum_over_ranks(self.counts)
        slots = torch.split(counts.double(), self._sizes)
        entropies = [torch.special.entr(slot / slot.sum().clamp_min(1)).sum() for slot in slots]
        figures = {
            "loss": loss,
            "psnr": float(10 * torch.log10(torch.tensor(4 / max(squared_error, 1e-12)))),
            "used": float((counts > 0).double().mean()),
            "perplexity": float(torch.stack(entropies).mean().exp()),
            "images_per_second": runtime.world_size() * self._images / elapsed,
            "waiting": self._waited / elapsed,
        }
        self._sums.zero_()
        self._began, self._waited, self._images, self._steps = time.perf_counter(), 0.0, 0, 0
        return figures
