"""Short trainings for `benchmarks.gpu`. Each returns what it found, and whether that passes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenizer import train
from tokenizer.models import WEIGHTS_FILE


def settings(device: str, steps: int, small: bool, **changes: Any) -> dict[str, Any]:
    """Return settings of a short run that writes down every step."""
    shape = {"downsample": 8, "widths": (16, 16), "depths": (1, 1), "latent_dim": 4} if small else {"downsample": 8}
    sizes = {"image_size": 32, "batch_size": 4} if small else {"image_size": 128, "batch_size": 16}
    quantizer = {"name": "diveq", "codebook_size": 64 if small else 4096}
    shared = {"network": shape, "quantizer": quantizer, "steps": steps, "device": device, "seed": 0, "val_images": 2}
    return {**shared, **sizes, "log_every": 1, "eval_every": 10**6, "precision": "float32", **changes}


def losses_of(folder: Path, run: Path, given: dict[str, Any]) -> tuple[list[float], float]:
    """Train, and return the loss of each step and the median of images a second, the first half left out."""
    figures = [step.figures for step in train.run_training(given, folder, run, existing="overwrite") if step.figures]
    rates = [each.get("images_per_second", 0.0) for each in figures[len(figures) // 2 :]]
    return [each["loss"] for each in figures], float(np.median(rates))


def trained_in(folder: Path, run: Path, device: str, small: bool, *, precision: str) -> tuple[str, bool]:
    """Train at a precision: the loss falls."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    given = settings(device, 16 if small else 200, small, precision=precision)
    losses, rate = losses_of(folder, run, given)
    quarter = len(losses) // 4
    first, last = float(np.mean(losses[:quarter])), float(np.mean(losses[-quarter:]))
    memory = f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if device == "cuda" else ""
    return f"{first:.4f} to {last:.4f}, {rate:.0f} images/s{memory}", last < first


def trained_as_on_the_cpu(folder: Path, run: Path, device: str, small: bool) -> tuple[str, bool]:
    """Take the first steps on both."""
    given = settings(device, 4 if small else 10, small, quantize_after=0.0)
    there, _ = losses_of(folder, run, given)
    here, _ = losses_of(folder, run, {**given, "device": "cpu"})
    apart = float(np.max(np.abs(np.array(there) / here - 1)))
    return f"{100 * apart:.4f} % apart at most over {len(here)} steps", apart <= 0.01


def deterministic_training(folder: Path, run: Path, device: str, small: bool) -> tuple[str, bool]:
    """Train twice."""
    given = settings(device, 6 if small else 20, small, deterministic=True, precision="auto")
    weights = []
    for _ in range(2):
        losses_of(folder, run, given)
        weights.append((run / WEIGHTS_FILE).read_bytes())
    return f"{'the same' if weights[0] == weights[1] else 'other'} bits", weights[0] == weights[1]


def resumed_training(folder: Path, run: Path, device: str, small: bool) -> tuple[str, bool]:
    """Stop half way, go on, and compare with a run that was not stopped."""
    given = settings(device, 6 if small else 20, small, deterministic=True)
    losses_of(folder, run, given)
    whole = (run / WEIGHTS_FILE).read_bytes()
    steps = iter(train.run_training(given, folder, run, existing="overwrite"))
    for _ in islice(steps, given["steps"] // 2):
        pass
    steps.close()
    for _ in train.run_training(given, folder, run, existing="resume"):
        pass
    same = (run / WEIGHTS_FILE).read_bytes() == whole
    return f"{'the same' if same else 'other'} bits, stopped half way", same


def compiled_training(folder: Path, run: Path, device: str, small: bool) -> tuple[str, bool]:
    """Train with a compiled network."""
    given = settings(device, 60, small, precision="auto")
    plain, slow = losses_of(folder, run, given)
    compiled, fast = losses_of(folder, run, {**given, "compile": True})
    apart = abs(float(np.mean(compiled[-15:]) / np.mean(plain[-15:])) - 1)
    return f"{100 * apart:.2f} % apart, {slow:.0f} to {fast:.0f} images/s", apart <= 0.05
