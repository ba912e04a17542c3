"""Training's 3x3 convolutions by Winograd's algorithm, against torch's own, and what a whole step gains.

    python -m benchmarks.convolutions

Forward and backward in float32 on one thread, in processor time, in turns. A row each for a layer; then whole optimizer
steps of the networks that ship. Ratios say how much longer torch's own takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer import train
from tokenizer.config import TrainConfig, parse_settings
from tokenizer.images import Source
from tokenizer.inputs import dataset_sources
from tokenizer.models import winograd
from tokenizer.train.step import Learner

_ROUNDS = 3
_BATCH = 16
# Channels, and side in positions: of 128 px crops at a quarter, an eighth and a sixteenth.
LAYERS = ((64, 32), (96, 32), (112, 32), (128, 32), (128, 16), (160, 16), (192, 16), (256, 16), (192, 8), (256, 8))
NETWORKS: dict[str, dict[str, Any]] = {
    "photo-f8": {"downsample": 8, "widths": [128, 192], "depths": [3, 3]},
    "tiny f16": {"downsample": 16},
}


def processor_seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def in_turns(*calls: Callable[[], object]) -> list[float]:
    """Return the median seconds of each call, made in turns."""
    for call in calls:
        call()
    rounds = [[processor_seconds(call) for call in calls] for _ in range(_ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def layer_times(channels: int, side: int) -> list[float]:
    """Return seconds of forward and backward by Winograd and by torch."""
    x = torch.randn(_BATCH, channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = winograd.Conv3x3(channels, channels).to(memory_format=torch.channels_last)

    def by_winograd() -> Tensor:
        return winograd.Winograd.apply(x.movedim(1, -1), layer.weight, layer.bias).movedim(-1, 1)  # type: ignore[no-any-return]

    def by_torch() -> Tensor:
        return nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)

    return in_turns(lambda: by_winograd().sum().backward(), lambda: by_torch().sum().backward())  # type: ignore[no-untyped-call]


def sources() -> list[Source]:
    """Return noise as images: what a step takes does not depend on what they show."""
    random = np.random.default_rng(0)
    return list(dataset_sources([random.integers(0, 256, (128, 128, 3), np.uint8) for _ in range(_BATCH + 1)]))


def step_times(network: dict[str, Any]) -> list[float]:
    """Return seconds of a step with Winograd's algorithm and without."""
    settings = {"network": network, "steps": 1, "batch_size": _BATCH, "image_size": 128, "workers": 0, "device": "cpu"}
    plan = train.plan_run(parse_settings(TrainConfig, {**settings, "precision": "float32", "val_images": 1}), sources())
    state = train.begin_run(plan)
    state.quantizing = True
    learner = Learner(state, plan.config)
    batch = torch.randint(0, 256, (_BATCH, 128, 128, 3), dtype=torch.uint8)
    least = winograd._LEAST_CHANNELS  # noqa: SLF001

    def step(channels: int) -> None:
        winograd._LEAST_CHANNELS = channels  # noqa: SLF001
        learner.step(batch, 0.5)

    return in_turns(lambda: step(least), lambda: step(10**6))


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("| layer or step | Winograd, s | torch, s | ratio |\n| --- | --- | --- | --- |")
    for channels, side in LAYERS:
        ours, theirs = layer_times(channels, side)
        print(f"| {channels} channels, {side}x{side} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.2f} |", flush=True)
    for name, network in NETWORKS.items():
        ours, theirs = step_times(network)
        print(f"| a step of {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
