"""The cost of the steps of one entry, and the codes that they reach, noted while it trains.

The notes are lines of `metrics.jsonl`. An entry that was stopped and goes on has the notes of all its sessions.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.errors import InputError
from tokenizer.metrics import mean_or_none
from tokenizer.quantizers import CodebookQuantizer, PlainTable, Quantizer
from tokenizer.runtime import PeakMemory
from tokenizer.train import METRICS_FILE, MetricsLog, Step, TrainingState

_KEY = "watched"
_SAMPLED = 20


class StepWatch:
    """Watches the steps of one session.

    Args:
        state: what trains.
        folder: of the entry.
        steps: the budget, where it is one of steps.
        device: that it trains on.
    """

    def __init__(self, state: TrainingState, folder: Path, steps: int | None, device: torch.device) -> None:
        self._state = state
        self._every = _SAMPLED if steps is None else max(1, min(_SAMPLED, steps // _SAMPLED))
        self._log = MetricsLog(folder, state.step)
        self._reach = GradientCoverage(state.model.quantizer)
        self._memory = PeakMemory(device)
        self._wall: list[float] = []
        self._cpu: list[float] = []

    def watch(self, steps: Iterator[Step]) -> Generator[Step]:
        """Yield the steps, timed."""
        try:
            while True:
                quantizing = self._state.quantizing
                wall, cpu = time.perf_counter(), time.process_time()
                step = next(steps, None)
                if step is None:
                    return
                if quantizing and step.figures and not step.evaluation:
                    self._wall.append(time.perf_counter() - wall)
                    self._cpu.append(time.process_time() - cpu)
                # Gradients of this step are still there; one that was not finite moved nothing.
                if self._state.quantizing and step.figures and step.step % self._every == 0:
                    self._note(None if self._state.skipped_in_a_row else self._reach.share())
                yield step
        finally:
            self._note(None)
            self._reach.close()

    def _note(self, reached: float | None) -> None:
        values = {
            "reached": reached,
            "wall": self._wall,
            "cpu": self._cpu,
            "peak_memory_mb": self._memory.megabytes,
        }
        self._log.write({"step": self._state.step, _KEY: values})
        self._wall, self._cpu = [], []


class GradientCoverage:
    """Which share of the codes of a quantizer a training step reaches.

    Code vectors with a gradient count where that is not zero. Code vectors that are moving averages (ema) have none:
    there the codes count that the step chose. These are noted right after the forward pass, before dead codes are
    replaced, as a replaced code looks like a chosen one. Where several grids share a table, those of the last grid.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self._books = [module for module in quantizer.modules() if isinstance(module, CodebookQuantizer)]
        self._chosen: dict[CodebookQuantizer, Tensor] = {}
        self._hook = quantizer.register_forward_hook(self._note_chosen)

    def _note_chosen(self, module: nn.Module, *_: Any) -> None:
        if module.training:
            for book in self._books:
                if not _learned(book):
                    self._chosen[book] = book.dead_codes.idle_steps == 0

    def share(self) -> float | None:
        """Return the mean share over all codebooks, right after a step; None without a codebook."""
        return mean_or_none(
            [_with_gradient(book) if _learned(book) else self._share_chosen(book) for book in self._books]
        )

    def _share_chosen(self, book: CodebookQuantizer) -> float:
        return float(self._chosen[book].double().mean()) if book in self._chosen else 0.0

    def close(self) -> None:
        """Leave the quantizer as it was."""
        self._hook.remove()


def _learned(book: CodebookQuantizer) -> bool:
    return any(parameter.requires_grad for parameter in book.table.parameters())


def _with_gradient(book: CodebookQuantizer) -> float:
    gradients = [parameter.grad for parameter in book.table.parameters() if parameter.grad is not None]
    if isinstance(book.table, PlainTable):
        return float((gradients[0] != 0).any(dim=1).double().mean()) if gradients else 0.0
    # The parameters of any other table are shared by all codes.
    return float(any(bool(gradient.any()) for gradient in gradients))


def read_watched(folder: Path) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    """Return the lines of `metrics.jsonl`, and the figures that the watched ones make.

    Raises:
        InputError: it cannot be read.
    """
    try:
        lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {folder / METRICS_FILE}: {error}") from error
    notes = [line[_KEY] for line in lines if _KEY in line]
    wall = [value for note in notes for value in note["wall"]]
    peaks = [note["peak_memory_mb"] for note in notes if note["peak_memory_mb"] is not None]
    return lines, {
        "reached": mean_or_none(note["reached"] for note in notes),
        "seconds_per_step": statistics.median(wall) if wall else None,
        "cpu_seconds_per_step": mean_or_none(value for note in notes for value in note["cpu"]),
        "peak_memory_mb": max(peaks) if peaks else None,
    }
