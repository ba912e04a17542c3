"""What each choice of the default recipe is worth: variants trained alike, for the same processor time.

    python -m benchmarks.recipe --train photos/ --kodak kodak/ --minutes 2

Each variant differs from the defaults of `vqtok train` in one thing. It trains in a process of its own on one
processor; the budget counts that process's processor time, reading included, so that other load on the machine gives
nobody an advantage. Figures are PSNR and SSIM on the validation photographs and on Kodak, decoded from the tokens
alone.
A variant whose figures lie in --work already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.quality import measure
from tokenizer import train
from tokenizer.config import PRESETS, TrainConfig, merge_settings, parse_settings
from tokenizer.inputs import find_images
from tokenizer.models import load_checkpoint, network
from tokenizer.train import loop, optimizers
from tokenizer.train import run_budget as budget


class LayerNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block of any layers; the last one starts at 0."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        for parameter in layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w)."""
        return x + self.layers(x)


def conv(channels: int, size: int, groups: int = 1, out: int | None = None) -> nn.Conv2d:
    """Return a convolution that keeps height and width."""
    return nn.Conv2d(channels, out or channels, size, padding=size // 2, groups=groups)


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "silu": lambda c: Block(conv(c, 3), nn.SiLU(), conv(c, 3)),
    "groupnorm": lambda c: Block(nn.GroupNorm(8, c), nn.SiLU(), conv(c, 3), nn.GroupNorm(8, c), nn.SiLU(), conv(c, 3)),
    "layernorm": lambda c: Block(LayerNorm(c), conv(c, 3), nn.ReLU(), conv(c, 3)),
    "convnext-3": lambda c: Block(conv(c, 3, c), LayerNorm(c), conv(c, 1, out=4 * c), nn.GELU(), conv(4 * c, 1, out=c)),
    "convnext-7": lambda c: Block(conv(c, 7, c), LayerNorm(c), conv(c, 1, out=4 * c), nn.GELU(), conv(4 * c, 1, out=c)),
}


def use_block(name: str) -> Callable[[], None]:
    """Return a change that builds networks of another block."""

    def change() -> None:
        network.ResidualBlock = BLOCKS[name]  # type: ignore[assignment,misc]

    return change


def use_adamw() -> None:
    """Leave no kernel to Muon."""
    optimizers._SMALLEST_KERNEL = 10**9  # noqa: SLF001


def start_on_random_codes() -> None:
    """Leave the codebook where the constructor put it."""
    loop.place_codebook = lambda state, *_: setattr(state, "quantizing", True)  # type: ignore[assignment]


Variant = tuple[dict[str, Any], Callable[[], None] | None]

VARIANTS: dict[str, Variant] = {
    "defaults": ({}, None),
    "defaults, another seed": ({"seed": 1}, None),
    "SiLU in place of ReLU": ({}, use_block("silu")),
    "GroupNorm + SiLU blocks": ({}, use_block("groupnorm")),
    "LayerNorm blocks": ({}, use_block("layernorm")),
    "ConvNeXt blocks, 3x3": ({}, use_block("convnext-3")),
    "ConvNeXt blocks, 7x7": ({}, use_block("convnext-7")),
    "AdamW alone, lr 1e-3": ({"lr": 1e-3}, use_adamw),
    "AdamW alone, lr 2e-3": ({"lr": 2e-3}, use_adamw),
    "lr 1e-3": ({"lr": 1e-3}, None),
    "lr 4e-3": ({"lr": 4e-3}, None),
    "float32": ({"precision": "float32"}, None),
    "latents 4 wide": ({"network": {"latent_dim": 4}}, None),
    "latents 16 wide": ({"network": {"latent_dim": 16}}, None),
    "latents 32 wide": ({"network": {"latent_dim": 32}}, None),
    "quantized from the start": ({"quantize_after": 0.0}, None),
    "quantized after 40 %": ({"quantize_after": 0.4}, None),
    "codes at random, not by k-means": ({}, start_on_random_codes),
    "no dead-code replacement": ({"quantizer": {"dead_code_patience": 0}}, None),
    "diveq-detach": ({"quantizer": {"name": "diveq-detach"}}, None),
    "loss l1": ({"loss": {"l2": 0, "l1": 1}}, None),
    "loss l2 + l1": ({"loss": {"l2": 1, "l1": 0.3}}, None),
    "loss multiscale": ({"loss": {"l2": 0, "multiscale": 1}}, None),
    "loss l2 + frequency": ({"loss": {"l2": 1, "frequency": 0.1}}, None),
    "crops all shrunk": ({"native_crops": 0.0, "smallest_crop": 0.5}, None),
    "smallest crop 0.25": ({"native_crops": 0.0, "smallest_crop": 0.25}, None),
    "smallest crop 0.8": ({"native_crops": 0.0, "smallest_crop": 0.8}, None),
    "half of the crops native": ({"native_crops": 0.5}, None),
    "all crops native": ({"native_crops": 1.0}, None),
    "batches of 8": ({"batch_size": 8}, None),
    "batches of 32": ({"batch_size": 32}, None),
    "crops of 96 px": ({"image_size": 96, "batch_size": 16}, None),
    "crops of 160 px": ({"image_size": 160, "batch_size": 16}, None),
    "no weight average": ({"ema_decay": 0.0}, None),
    "folders balanced by half": ({"balance": 0.5}, None),
    "folders alike": ({"balance": 1.0}, None),
    "loss log_l2": ({"loss": {"l2": 0, "log_l2": 1}}, None),
    "loss l2 + log_l2": ({"loss": {"l2": 0.5, "log_l2": 0.5}}, None),
    "linear path": ({"network": {"linear": True}}, None),
    "linear path, latents 32 wide": ({"network": {"linear": True, "latent_dim": 32}}, None),
    "f8: decoder 96-160 x 2-5": ({"network": {"decoder_widths": (96, 160), "decoder_depths": (2, 5)}}, None),
    "ema": ({"quantizer": {"name": "ema"}}, None),
    "transform bridge": ({"quantizer": {"transform": "bridge"}}, None),
    "f8: 128-192 x 3-3": ({"network": {"widths": (128, 192), "depths": (3, 3)}}, None),
    "f8: 96-256 x 2-4": ({"network": {"widths": (96, 256), "depths": (2, 4)}}, None),
    "f8: 96-256 x 2-4, batches of 32": ({"network": {"widths": (96, 256), "depths": (2, 4)}, "batch_size": 32}, None),
    "f8: 64-256 x 2-6": ({"network": {"widths": (64, 256), "depths": (2, 6)}}, None),
    "f16: 64-192-256 x 1-2-4": ({"network": {"widths": (64, 192, 256), "depths": (1, 2, 4)}}, None),
}


def figures_of(name: str, arguments: argparse.Namespace) -> Path:
    """Return where a variant's figures lie once it is measured."""
    folder = f"f{arguments.downsample}-{arguments.minutes:g}min-{name.replace(' ', '_')}"
    return Path(arguments.work) / folder / "figures.json"


def compete(name: str, processor: int, arguments: argparse.Namespace) -> None:
    """Train and measure one variant on one processor; write its figures."""
    os.sched_setaffinity(0, [processor])
    torch.set_num_threads(1)
    settings, change = VARIANTS[name]
    if change:
        change()
    budget.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    widths, depths = PRESETS["tiny"][arguments.downsample]
    base = {
        "network": {"downsample": arguments.downsample, "widths": widths, "depths": depths},
        "quantizer": {"name": "diveq", "codebook_size": arguments.codebook_size},
        "loss": {"l2": 1.0},
        "minutes": arguments.minutes,
        "device": "cpu",
        "workers": 1,
    }
    plan = train.plan_run(parse_settings(TrainConfig, merge_settings(base, settings)), [arguments.train])
    path = figures_of(name, arguments)
    steps = 0
    for step in train.train(plan, train.begin_run(plan), path.parent):
        steps = step.step
    model = load_checkpoint(path.parent)
    figures: dict[str, Any] = {
        "variant": name,
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    for key, sources in {"validation": list(plan.validation), "kodak": find_images([arguments.kodak])}.items():
        figures[key] = measure(model, sources, arguments.downsample, arguments.codebook_size)
    path.write_text(json.dumps(figures))


def run_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the variants, one on each processor at a time, and return their figures."""
    context = multiprocessing.get_context("spawn")
    free = sorted(os.sched_getaffinity(0))
    running: dict[int, Any] = {}
    for name in arguments.variants:
        if figures_of(name, arguments).exists():
            continue
        while not free:
            time.sleep(1)
            done = [processor for processor, process in running.items() if not process.is_alive()]
            free += done
            for processor in done:
                running.pop(processor)
        processor = free.pop(0)
        running[processor] = context.Process(target=compete, args=(name, processor, arguments))
        running[processor].start()
    for process in running.values():
        process.join()
    return [json.loads(figures_of(name, arguments).read_text()) for name in arguments.variants]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder of photographs to train on")
    parser.add_argument("--kodak", type=Path, required=True, help="folder of images to measure on")
    parser.add_argument("--minutes", type=float, default=2, help="processor time of each variant")
    parser.add_argument("--downsample", type=int, default=16)
    parser.add_argument("--codebook-size", type=int, default=1024)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    parser.add_argument("--work", type=Path, default=Path("/tmp/vqtok-recipe"))
    arguments = parser.parse_args()
    results = run_all(arguments)
    print(f"{arguments.minutes:g} processor minutes each, {platform.machine()}, torch {torch.__version__}\n")
    columns = ["PSNR", "SSIM", "used", "perplexity"]
    titles = ["variant", "parameters", "steps", *(f"{where} {c}" for where in ("validation", "Kodak") for c in columns)]
    print(f"| {' | '.join(titles)} |\n" + "| --- " * len(titles) + "|")
    for r in results:
        cells = [r["variant"], f"{r['parameters'] / 1e6:.1f} M", str(r["steps"])]
        for key in ("validation", "kodak"):
            cells += [f"{r[key]['psnr']:.2f}", f"{r[key]['ssim']:.3f}", f"{100 * r[key]['used']:.1f} %"]
            cells.append(f"{r[key]['perplexity']:.0f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
