"""The checkpoints that ship: making one of a run, and every figure of their model cards.

    python -m benchmarks.shipped pack run/ -o checkpoints/photo-f8 --images kodak/
    python -m benchmarks.shipped measure --kodak kodak/ --photos photos/ --sprites sprites/
    python -m benchmarks.shipped measure -m photo-f8 --kodak kodak/

`pack` writes encoder and decoder as float16, the codes as float32, and says how many tokens of the images that changes.
`measure` runs `vqtok encode`, `decode` and `report` as anyone would: pictures are decoded from the tokens alone. What
the figures are, `vqtok report` says below its table; those of Lite0 take `pip install 'vqtok[perceptual]'`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from benchmarks.quality import measure as quality_of
from tokenizer.files import write_bytes
from tokenizer.images import Source, placement_of, read_image
from tokenizer.inputs import find_images
from tokenizer.metrics import psnr
from tokenizer.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Tokenizer,
    describe_checkpoint,
    load_checkpoint,
    locate_checkpoint,
    shipped_names,
    to_unit_range,
)


def pack(run: Path, output: Path, images: Path) -> None:
    """Write the checkpoint in `run` with half the bytes, and print what that changes on the images."""
    tensors = halve(run, output)
    before, after = load_checkpoint(run), load_checkpoint(output)
    sources = find_images([images])
    pairs = [(tokens_of(before, source), tokens_of(after, source)) for source in sources]
    changed = sum(int((a != b).sum()) for a, b in pairs)
    total = sum(a.numel() for a, _ in pairs)
    print(f"{(output / WEIGHTS_FILE).stat().st_size / 1e6:.1f} MB, {tensors} tensors")
    print(f"float16 changes {changed} of {total} tokens ({100 * changed / total:.3f} %) of {len(sources)} images")
    for name, model in (("float32", before), ("float16", after)):
        figures = quality_of(model, list(sources), model.downsample, max(model.codebook_sizes))
        print(f"{name}: {figures['psnr']:.3f} dB, SSIM {figures['ssim']:.4f}")


def halve(run: Path, output: Path) -> int:
    """Write a checkpoint with half the bytes, and return how many tensors it has."""
    weights = safetensors.torch.load_file(run / WEIGHTS_FILE)
    halved = {name: value if name.startswith("quantizer.") else value.half() for name, value in weights.items()}
    write_bytes(output / WEIGHTS_FILE, safetensors.torch.save(halved))
    shutil.copyfile(run / CONFIG_FILE, output / CONFIG_FILE)
    return len(weights)


def tokens_of(model: Tokenizer, source: Source) -> torch.Tensor:
    """Return the (1, h, w, C) tokens of an image at its own size."""
    pixels = read_image(source.file)
    canvas = placement_of(pixels.shape[:2], "none", None, model.downsample).apply(pixels)
    return model.encode(to_unit_range(torch.from_numpy(canvas)[None]))


def vqtok(*arguments: object) -> Any:
    """Run a command and return the object that it prints, if it does."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output) if output else None


def rows(name: str, arguments: argparse.Namespace, scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield the title and the value of each figure of one checkpoint."""
    description = describe_checkpoint(locate_checkpoint(name))
    side = 256 // description.downsample
    yield "codes", " + ".join(map(str, description.codebook_sizes))
    yield "bits a pixel", f"{description.bits_per_pixel:.4f}"
    yield "tokens of 256x256", f"{side}x{side}" + (f"x{n}" if (n := len(description.codebook_sizes)) > 1 else "")
    yield "MB", f"{(locate_checkpoint(name) / WEIGHTS_FILE).stat().st_size / 1e6:.1f}"
    tokens = scratch / f"{name}.safetensors"
    for title, folder in (("Kodak", arguments.kodak), ("photos", arguments.photos), ("sprites", arguments.sprites)):
        if folder is None:
            continue
        vqtok("encode", folder, "-m", name, "-o", tokens, "-f", "-q")
        compared = [] if title == "photos" else ["-m", name, "--images", folder]
        more = ["--baselines", "--perceptual"] if title == "Kodak" else []
        report = vqtok("report", tokens, *compared, *more, "--json", "-q")
        if compared:
            quality = report["quality"]
            yield f"{title} PSNR, SSIM, MS-SSIM", " ".join(_shown(quality[key]) for key in ("psnr", "ssim", "ms_ssim"))
            if title == "Kodak":
                seen = f"{quality['lite0_distance']:.3f} {quality['lite0_frechet']:.2f}"
                yield "Kodak Lite0 distance, Lite0 Frechet", seen
                yield "Kodak recognized alike", f"{100 * quality['recognized_alike']:.1f} %"
            flat = " ".join(_shown(quality[key]) for key in ("flat_psnr", "blocking", "patchwork"))
            yield f"{title} PSNR of flat areas, blocking, patchwork", flat
            for baseline in quality["baselines"]:
                note = "" if baseline["reached"] else f" ({baseline['larger']} files larger than the tokens)"
                figures = (
                    f"{baseline['psnr']:.2f} {baseline['ssim']:.3f} at {baseline['bits_per_pixel']:.3f} bits a pixel"
                )
                yield f"{title} {baseline['name']}", figures + note
        yield f"{title} used, perplexity", f"{100 * report['used']:.2f} % {report['perplexity']:.0f}"
        if title == "Kodak" and len(description.codebook_sizes) > 1:
            yield from prefixes(name, tokens, arguments.kodak, scratch)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value > 1 else f"{value:.3f}"


def prefixes(name: str, tokens: Path, images: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield the PSNR of what the first codes of each position decode to."""
    for count in range(1, len(describe_checkpoint(locate_checkpoint(name)).codebook_sizes) + 1):
        back = scratch / f"{name}-{count}"
        vqtok("decode", tokens, "-m", name, "--codes", count, "-o", f"{back}/", "-f", "-q")
        pairs = [
            (read_image(source.file), read_image(back / f"{Path(source.name).stem}.png"))
            for source in find_images([images])
        ]
        yield f"Kodak PSNR of {count} codes", f"{np.mean([psnr(a, b) for a, b in pairs]):.2f}"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("run", type=Path)
    packing.add_argument("-o", "--output", type=Path, required=True)
    packing.add_argument("--images", type=Path, required=True, help="folder of images to compare on")
    measuring = commands.add_parser("measure")
    measuring.add_argument("-m", "--model", nargs="+", default=shipped_names(), help="names, or folders")
    for folder in ("kodak", "photos", "sprites"):
        measuring.add_argument(f"--{folder}", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "pack":
        pack(arguments.run, arguments.output, arguments.images)
        return
    for name in arguments.model:
        print(f"\n## {Path(name).name}\n\n| | |\n| --- | --- |")
        with tempfile.TemporaryDirectory() as scratch:
            for title, value in rows(name, arguments, Path(scratch)):
                print(f"| {title} | {value} |", flush=True)


if __name__ == "__main__":
    main()
