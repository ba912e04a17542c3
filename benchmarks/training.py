"""What does training cost beside the network? Images a second of `vqtok train` against a bare loop on the same network.

    python -m benchmarks.training photos/                       # 2 threads or all that there are
    torchrun --nproc-per-node 2 -m benchmarks.training photos/  # the same on two ranks: the sum over both

The bare loop holds its crops in memory and does forward pass, squared error, backward pass and optimizer steps, and
nothing else: no reading of images, no moving average, no clipping, no figures, no dead-code replacement. Both take
turns of some steps each, a ratio is that of two neighboring turns, and the median is printed. Evaluations and
checkpoints are left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from tokenizer import runtime, train
from tokenizer.config import PRESETS, NetworkConfig, TrainConfig
from tokenizer.models import to_unit_range
from tokenizer.train import Plan
from tokenizer.train.crops import Crops, crop_batches


def ours(plan: Plan, folder: Path) -> Iterator[int]:
    """Yield after every step of `vqtok train`."""
    for step in train.train(plan, train.begin_run(plan), folder):
        yield step.step


def bare(plan: Plan) -> Iterator[int]:
    """Yield after every step of the bare loop."""
    config, device = plan.config, torch.device(plan.config.device)
    state = train.begin_run(plan)
    size = config.batch_size or 1
    feed = crop_batches(Crops(plan.train, config), size, 0, 0)
    held = [to_unit_range(batch).to(device) for batch in islice(feed, 8)]
    step = 0
    while True:
        images = held[step % len(held)]
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with runtime.autocast(device, config.precision):
            output = state.model(images)
        loss = torch.nn.functional.mse_loss(output.images, images) + output.loss
        loss.backward()
        for optimizer in state.optimizers:
            optimizer.step()
        step += 1
        yield step


def seconds(steps: Iterator[int], count: int) -> float:
    """Return how long that many steps take."""
    start = time.perf_counter()
    for _ in islice(steps, count):
        pass
    return time.perf_counter() - start


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--downsample", type=int, default=8)
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--precision", nargs="+", default=["auto"])
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument(
        "--warm-up", type=int, default=3, help="steps before; an epoch of them fills the cache of images"
    )
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    widths, depths = PRESETS[arguments.preset][arguments.downsample]
    network = NetworkConfig(downsample=arguments.downsample, widths=widths, depths=depths)
    with runtime.process_group(), tempfile.TemporaryDirectory() as folder:
        for precision in arguments.precision:
            config = TrainConfig(
                network=network, steps=10**6, quantize_after=0.0, eval_every=10**6, save_every=1e6,
                precision=precision, batch_size=arguments.batch_size, device=arguments.device,
            )  # fmt: skip
            plan = train.plan_run(config, [arguments.data])
            measure(plan, Path(folder) / precision, arguments)


def measure(plan: Plan, folder: Path, arguments: argparse.Namespace) -> None:
    """Print images a second of both, and the ratio."""
    # The bare loop knows of no other rank: it is timed alone, on each of them.
    contestants = {"bare": bare(plan), "vqtok train": ours(plan, folder)}
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for steps in contestants.values():
        seconds(steps, arguments.warm_up)
    for _ in range(arguments.turns):
        for name, steps in contestants.items():
            spent[name].append(seconds(steps, arguments.steps))
    images = arguments.steps * (plan.config.batch_size or 1) * runtime.world_size()
    if runtime.rank() == 0:
        rates = {name: images / statistics.median(times) for name, times in spent.items()}
        pairs = zip(spent["bare"], spent["vqtok train"], strict=True)
        ratio = statistics.median(alone / trained for alone, trained in pairs)
        ranks = f"{runtime.world_size()} ranks of {torch.get_num_threads()} threads"
        where = f"{plan.config.device}, {plan.config.precision}, {ranks}"
        shown = ", ".join(f"{name} {rate:.1f} images/s" for name, rate in rates.items())
        print(f"{where}: {shown}, ratio {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
