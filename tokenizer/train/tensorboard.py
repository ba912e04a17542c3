"""TensorBoard, for a run that asks for it; nothing of it is imported otherwise."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.errors import InputError, OutputError
from tokenizer.images import Pixels
from tokenizer.metrics import add_counts
from tokenizer.models import Tokenizer, to_unit_range
from tokenizer.quantizers import CodebookQuantizer
from tokenizer.train.metrics_log import MetricsLog

FOLDER = "tensorboard"
_FLUSH_SECONDS = 10


def check_log_to(config: TrainConfig) -> None:
    """Raise InputError when the run asks for TensorBoard, and it is not installed."""
    if config.log_to and importlib.util.find_spec("tensorboard") is None:
        raise InputError("tensorboard is not installed: pip install 'vqtok[tensorboard]', or leave --log-to out")


def open_log(config: TrainConfig, folder: Path, step: int) -> MetricsLog:
    """Return the log of a run that goes on after `step`; of several ranks, the first one's alone holds more."""
    return TensorBoardLog(folder, step) if config.log_to and runtime.rank() == 0 else MetricsLog(folder, step)


class TensorBoardLog(MetricsLog):
    """`metrics.jsonl`, and its figures with pictures and histograms in `tensorboard/`.

    Both lose what came after `step`, left by a run that was killed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder, step)
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder / FOLDER
        with self._explained():
            self._writer: Any = SummaryWriter(str(self._folder), purge_step=step + 1, flush_secs=_FLUSH_SECONDS)

    def write(self, values: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`; its numbers become scalars, of `{"validation": ...}` those of that name."""
        super().write(values)
        tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
        with self._explained():
            for table, figures in (tables or {"train": values}).items():
                for name, value in figures.items():
                    if isinstance(value, (int, float)) and name != "step":
                        self._writer.add_scalar(f"{table}/{name}", value, values["step"])

    def show(self, step: int, model: Tokenizer, validation: Sequence[Tensor], pixels: Pixels) -> None:
        """Write the (H, W, 3) picture of an evaluation, and histograms of latents, codes, and the use of each code.

        The use is on `validation`, (P, T, H, W, 3) uint8 batches: how often a code was chosen, over how often each is
        when all are used alike.
        """
        latents, counts = _look(model, validation)
        books = [module for module in model.quantizer.modules() if isinstance(module, CodebookQuantizer)]
        with self._explained():
            self._writer.add_image("validation/originals_over_reconstructions", pixels, step, dataformats="HWC")
            self._writer.add_histogram("latents", latents, step)
            for slot, count in enumerate(counts):
                self._writer.add_histogram(f"use/{slot}", count * len(count) / max(1, count.sum()), step)
            for number, book in enumerate(books):
                self._writer.add_histogram(f"codes/{number}", book.code_vectors().detach().float().cpu().numpy(), step)
            self._writer.flush()

    def close(self) -> None:
        """Write what is still in memory."""
        with self._explained():
            self._writer.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write {self._folder}: {error.strerror or error}") from error


@torch.inference_mode()
def _look(model: Tokenizer, batches: Sequence[Tensor]) -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    """Return all numbers in the latents of (P, T, H, W, 3) uint8 batches, and how often codes are chosen, by slot."""
    device = next(model.parameters()).device
    counts = [np.zeros(size, np.int64) for size in model.codebook_sizes]
    numbers = []
    for batch in batches:
        latents = model.latents(to_unit_range(batch.flatten(0, 1).to(device)))
        add_counts(counts, model.quantizer.encode(latents).cpu().numpy())
        numbers.append(latents.flatten().float().cpu())
    return torch.cat(numbers).numpy(), counts
