"""Quality after equal wall-clock: `vqtok train` with its defaults against the DiVeQ authors' recipe.

    python -m benchmarks.quality --train photos/ --kodak kodak/ --minutes 20 --downsample 16 --downsample 8

For each downsampling, every contestant trains at the same time in a process of its own, on an equal share of the
processors, on the same crops in the same order, for the same wall-clock minutes, reading and evaluating included.
Then each encodes the Kodak images and the validation photographs at their own size in float32 and is measured on what
it decodes from the tokens alone. Nobody sees either set in training.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.authors import LEARNING_RATE, Authors
from tokenizer import train
from tokenizer.config import PRESETS, NetworkConfig, TrainConfig
from tokenizer.images import Source, placement_of, read_image
from tokenizer.inputs import find_images
from tokenizer.metrics import Usage, psnr, ssim
from tokenizer.models import load_checkpoint, to_pixels, to_unit_range
from tokenizer.train.crops import Crops, crop_batches

CONTESTANTS = {
    "vqtok": "`vqtok train` with its defaults",
    "authors": "the authors' recipe: Adam 5.5e-4, batch 16",
    "authors-fast": "the same network with our DiVeQ layer, bfloat16, our schedule and weight average",
}


def make_plan(photos: Path, downsample: int, minutes: float, codebook_size: int) -> train.Plan:
    """Return the plan that all contestants share: images, split, crops."""
    network = NetworkConfig(downsample, *PRESETS["tiny"][downsample])
    quantizer = {"name": "diveq", "codebook_size": codebook_size}
    return train.plan_run(TrainConfig(network=network, quantizer=quantizer, minutes=minutes, device="cpu"), [photos])


def train_ours(plan: train.Plan, folder: Path) -> tuple[Any, int]:
    """Train as the command does, and return the saved model and its steps."""
    steps = 0
    for step in train.train(plan, train.begin_run(plan), folder):
        steps = step.step
    return load_checkpoint(folder), steps


def train_authors(plan: train.Plan, *, fast: bool) -> tuple[Authors, int]:
    """Train the authors' recipe for the plan's minutes, and return the model and its steps.

    `fast` takes our layer, bfloat16, cosine schedule and weight average: what is left is their network.
    """
    config = plan.config
    torch.manual_seed(config.seed)
    model = Authors(config.network.downsample, config.quantizer["codebook_size"], our_layer=fast)
    model = model.to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    feed = crop_batches(Crops(plan.train, config), config.batch_size, 0, config.workers)
    began, steps = time.perf_counter(), 0
    while (progress := (time.perf_counter() - began) / (60 * config.minutes)) < 1:
        if fast:
            rate = 0.5 * LEARNING_RATE * (1 + np.cos(np.pi * progress)) * min(1, progress / config.warmup)
            optimizer.param_groups[0]["lr"] = rate
        images = to_unit_range(next(feed))
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            output = model(images)
        loss = torch.nn.functional.mse_loss(output.float(), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if fast and progress < config.replace_dead_until:
            model.quantizer.layer.replace_dead_codes()
        average.update_parameters(model)
        steps += 1
    feed.close()
    return (average.module if fast else model).eval(), steps


def measure(model: Any, sources: list[Source], downsample: int, codebook_size: int) -> dict[str, float]:
    """Return PSNR, SSIM, used and perplexity over whole images, decoded from the tokens."""
    decibels, similarities, counts = [], [], np.zeros(codebook_size, np.int64)
    for source in sources:
        pixels = read_image(source.file)
        placement = placement_of(pixels.shape[:2], "none", None, downsample)
        canvas = torch.from_numpy(placement.apply(pixels))[None]
        tokens: Tensor = model.encode(to_unit_range(canvas))
        decoded = placement.content_of(to_pixels(model.decode(tokens))[0].numpy())
        decibels.append(psnr(pixels, decoded))
        similarities.append(ssim(pixels, decoded))
        counts += np.bincount(tokens.flatten().numpy(), minlength=codebook_size)
    usage = Usage(counts)
    return {
        "psnr": round(float(np.mean(decibels)), 3),
        "ssim": round(float(np.mean(similarities)), 4),
        "used": round(usage.used, 4),
        "perplexity": round(usage.perplexity, 1),
        "tokens": usage.tokens,
    }


def contest(name: str, processors: list[int], arguments: argparse.Namespace, downsample: int, folder: Path) -> None:
    """Train and measure one contestant on its share of the processors; write its figures to `folder`."""
    os.sched_setaffinity(0, processors)
    torch.set_num_threads(len(processors))
    plan = make_plan(arguments.train, downsample, arguments.minutes, arguments.codebook_size)
    if name == "vqtok":
        model, steps = train_ours(plan, folder / "run")
    else:
        model, steps = train_authors(plan, fast=name == "authors-fast")
    sets = {"kodak": find_images([arguments.kodak]), "validation": list(plan.validation)}
    figures: dict[str, Any] = {key: measure(model, s, downsample, arguments.codebook_size) for key, s in sets.items()}
    parameters = sum(p.numel() for p in model.parameters())
    figures |= {"contestant": name, "downsample": downsample, "steps": steps, "parameters": parameters}
    (folder / "figures.json").write_text(json.dumps(figures))


def rounds(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every downsampling, its contestants side by side, and return their figures."""
    mine = sorted(os.sched_getaffinity(0))
    results = []
    for downsample in arguments.downsample:
        share = max(1, len(mine) // len(arguments.contestants))
        processes = []
        for number, name in enumerate(arguments.contestants):
            folder = arguments.work / f"f{downsample}-{name}"
            folder.mkdir(parents=True, exist_ok=True)
            processors = [mine[(number * share + i) % len(mine)] for i in range(share)]
            processes.append(
                multiprocessing.get_context("spawn").Process(
                    target=contest, args=(name, processors, arguments, downsample, folder)
                )
            )
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        for name in arguments.contestants:
            results.append(json.loads((arguments.work / f"f{downsample}-{name}" / "figures.json").read_text()))  # noqa: PERF401
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    figures = "PSNR | SSIM | used | perplexity"
    lines = [f"| f | contestant | parameters | steps | Kodak {figures} | validation {figures} |", "| --- " * 12 + "|"]
    for r in results:
        cells = [str(r["downsample"]), CONTESTANTS[r["contestant"]], f"{r['parameters'] / 1e6:.1f} M", str(r["steps"])]
        for key in ("kodak", "validation"):
            f = r[key]
            cells += [f"{f['psnr']:.2f}", f"{f['ssim']:.3f}", f"{100 * f['used']:.1f} %", f"{f['perplexity']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder of photographs to train on")
    parser.add_argument("--kodak", type=Path, required=True, help="folder of images to measure on")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--downsample", type=int, action="append")
    parser.add_argument("--codebook-size", type=int, default=1024)
    parser.add_argument("--contestants", nargs="+", default=["vqtok", "authors"], choices=CONTESTANTS)
    parser.add_argument("--work", type=Path, default=Path("/tmp/vqtok-quality"))
    arguments = parser.parse_args()
    arguments.downsample = arguments.downsample or [16, 8]
    results = rounds(arguments)
    print(
        f"{arguments.minutes:g} minutes each, {platform.processor() or platform.machine()}, torch {torch.__version__}"
    )
    print(table(results))


if __name__ == "__main__":
    main()
