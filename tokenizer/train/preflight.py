"""What a run will meet and what it will cost, before it starts; nothing is written."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tokenizer import runtime
from tokenizer.errors import ImageError
from tokenizer.images import probe_image
from tokenizer.runtime import PeakMemory
from tokenizer.train.crops import Crops
from tokenizer.train.planning import Plan
from tokenizer.train.start import prepare_run
from tokenizer.train.step import Learner

_LOOKED_AT = 200
_READING_SECONDS = 4.0
_TRAINING_SECONDS = 10.0
_STEPS = 4
_LESS_MEMORY = "pass a smaller --batch-size, --image-size or --preset"

Size = tuple[int, int]


@dataclass(frozen=True)
class ImageSample:
    """A sample of the training images.

    Attributes:
        looked_at: how many.
        sizes: (height, width) of the smallest, the median and the largest, by number of pixels, as the files'
            headers name them; empty where none of them can be read.
        unreadable: (name, reason) of those that cannot be read.
    """

    looked_at: int
    sizes: tuple[Size, ...]
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CostEstimate:
    """What a run takes on this machine, about; evaluations and checkpoints are not counted.

    Attributes:
        seconds_per_step: of reading and training.
        steps: the budget, or what fits into it.
        epochs: how many times each training image comes in these steps.
        seconds: wall-clock time of these steps.
        peak_memory_mb: in 2^20 bytes, of the device on CUDA and of the process elsewhere; None where the system does
            not tell.
    """

    seconds_per_step: float
    steps: int
    epochs: float
    seconds: float
    peak_memory_mb: float | None


def look_at_images(plan: Plan, *, thoroughly: bool) -> ImageSample:
    """Look at a sample of the training images: at their headers, or `thoroughly` at their pixels, for some seconds."""
    sizes: list[Size] = []
    unreadable: list[tuple[str, str]] = []
    end = time.perf_counter() + _READING_SECONDS
    sample = plan.train[:: max(1, len(plan.train) // _LOOKED_AT)]
    crops = Crops(sample, plan.config)
    for source in sample:
        try:
            sizes.append(probe_image(source.file))
            if thoroughly and time.perf_counter() < end:
                crops.read(source)
        except ImageError as error:
            unreadable.append((source.name, str(error)))
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    found = (sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1]) if sizes else ()
    return ImageSample(len(sample), found, tuple(unreadable))


@contextlib.contextmanager
def explained_memory() -> Iterator[None]:
    """Turn torch's errors for want of memory, and others that a person can cause, into a DeviceError."""
    try:
        yield
    except RuntimeError as error:
        raise runtime.explain_error(error, _LESS_MEMORY) or error from error


@explained_memory()
def estimate_cost(plan: Plan) -> CostEstimate | None:
    """Take a few steps of the run in memory, for about 10 s at most; None where no image can be read.

    The random numbers of this process are left as they were.

    Raises:
        DeviceError: the device has not enough memory.
    """
    config = plan.config
    device = torch.device(config.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        memory = PeakMemory(device)
        seconds = _seconds_per_step(plan)
        peak = memory.megabytes
    if seconds is None:
        return None
    steps = config.steps or max(1, int(60 * (config.minutes or 0) / seconds))
    crops = (config.batch_size or 1) * config.grad_accum * runtime.world_size()
    return CostEstimate(seconds, steps, steps * crops / len(plan.train), steps * seconds, peak)


def _seconds_per_step(plan: Plan) -> float | None:
    """Return the time of a step: of training, or of reading its images where that takes longer."""
    config = plan.config
    crops = Crops(plan.train, config)
    state = prepare_run(plan)
    state.quantizing = True  # where the codes lie changes no figure
    learner = Learner(state, config)
    size = (config.batch_size or 1) * config.grad_accum
    reading: list[float] = []
    training: list[float] = []
    end = time.perf_counter() + _TRAINING_SECONDS
    for number in range(_STEPS):
        began = time.perf_counter()
        batch = crops.batch(range(number * size, (number + 1) * size))
        read_by = time.perf_counter()
        if not len(batch):
            break
        learner.step(batch, 0.5)
        next(state.model.parameters()).sum().item()  # waits for the device
        reading.append(read_by - began)
        training.append(time.perf_counter() - read_by)
        if runtime.object_from_first_rank(time.perf_counter() > end):  # ranks must take as many steps
            break
    if not training:
        return None
    # The first step pays for what the others find ready.
    step, waiting = statistics.median(training[1:] or training), statistics.median(reading)
    return max(step, waiting / config.workers) if config.workers else step + waiting
