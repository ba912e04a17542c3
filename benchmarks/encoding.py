"""How fast `vqtok encode` is beside what bounds it, and how much memory it takes.

    python -m benchmarks.encoding speed photos/ -m run               # images/s, in turns
    python -m benchmarks.encoding memory -m run                      # peak memory at 1,000, 10,000, 100,000 images

`speed` measures, in one process and in turns: the network alone on pixels in memory (with torch's own threads, and with
one thread a core; the faster counts); decoding and fitting the files alone; the encoding of the files into one token
file; and what people write instead: Pillow, one image at a time, one `.npy` each. The ratio asked for is encoding
against the slower of the first two. Both need the same processors here, so the next one is against both after another.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokenizer import codec
from tokenizer.images import Source, placement_of, read_image
from tokenizer.inputs import find_images
from tokenizer.jobs import EncodeJob, encode_to_file
from tokenizer.models import Tokenizer, fingerprint_of, load_checkpoint, to_unit_range
from tokenizer.runtime import processor_count

COUNTS = (1_000, 10_000, 100_000)


def network_alone(model: Tokenizer, batches: Sequence[torch.Tensor], threads: int) -> None:
    """Encode (B, H, W, 3) uint8 batches in that many threads, one operator thread each; 0 for torch's own."""
    before = torch.get_num_threads()
    try:
        if not threads:
            for batch in batches:
                model.encode(to_unit_range(batch))
            return
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda batch: model.encode(to_unit_range(batch)), batches))
    finally:
        torch.set_num_threads(before)


def decoding_alone(sources: Sequence[Source], options: codec.EncodeOptions, multiple: int) -> None:
    """Decode and fit every file, in as many threads as there are processors."""

    def one(source: Source) -> None:
        pixels = read_image(source.file)
        placement_of(pixels.shape[:2], options.mode, options.image_size, multiple).apply(pixels)

    with ThreadPoolExecutor(processor_count()) as pool:
        list(pool.map(one, sources))


def script(model: Tokenizer, sources: Sequence[Source], size: int | None, folder: Path) -> None:
    """Encode one image at a time into one `.npy` each, as people write it."""
    f = model.downsample
    for number, source in enumerate(sources):
        image = Image.open(source.file).convert("RGB")  # type: ignore[arg-type]
        width, height = (size, size) if size else (image.width // f * f, image.height // f * f)
        pixels = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.BICUBIC)))
        np.save(folder / f"{number}.npy", model.encode(to_unit_range(pixels[None]))[0].numpy())


def batches_of(sources: Sequence[Source], options: codec.EncodeOptions, multiple: int) -> list[torch.Tensor]:
    """Return the canvases of all sources, in batches of one size."""
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for source in sources:
        pixels = read_image(source.file)
        canvas = placement_of(pixels.shape[:2], options.mode, options.image_size, multiple).apply(pixels)
        groups.setdefault(canvas.shape, []).append(canvas)
    size = options.batch_size
    return [
        torch.from_numpy(np.stack(group[start : start + size]))
        for group in groups.values()
        for start in range(0, len(group), size)
    ]


def speed(arguments: argparse.Namespace) -> None:
    """Print images/s of each, medians over rounds, and the medians of the ratios."""
    model = load_checkpoint(arguments.model)
    sources = find_images([arguments.images])[: arguments.count]
    size = arguments.image_size
    options = codec.EncodeOptions(
        image_size=size, resize_mode="crop" if size else "none", workers=processor_count(), batch_size=16
    )
    batches = batches_of(sources, options, model.downsample)
    header = codec.token_header(model, fingerprint_of(arguments.model), options)
    with tempfile.TemporaryDirectory() as folder:
        job = EncodeJob(model, options, header, "safetensors", existing="overwrite")

        def encode() -> None:
            list(encode_to_file(job, sources, Path(folder, "t.safetensors")))

        work: dict[str, Callable[[], None]] = {
            "network, torch's threads": lambda: network_alone(model, batches, 0),
            "network, a thread a core": lambda: network_alone(model, batches, processor_count()),
            "decoding alone": lambda: decoding_alone(sources, options, model.downsample),
            "vqtok encode": encode,
            "script": lambda: script(model, sources, size, Path(folder)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(arguments.rounds + 1):
            for name, run in work.items():
                began = time.perf_counter()
                run()
                if turn:  # the first warms up
                    seconds[name].append(time.perf_counter() - began)
    print(f"{len(sources)} images, {processor_count()} processors, {'native sizes' if size is None else f'{size} px'}")
    for name, times in seconds.items():
        print(f"{name:26} {len(sources) / statistics.median(times):8.1f} images/s")
    network = [min(pair) for pair in zip(*list(seconds.values())[:2], strict=True)]
    rest = [seconds[name] for name in ("decoding alone", "vqtok encode", "script")]
    rounds = list(zip(network, *rest, strict=True))
    bound = statistics.median(max(net, dec) / enc for net, dec, enc, _ in rounds)
    shared = statistics.median((net + dec) / enc for net, dec, enc, _ in rounds)
    faster = statistics.median(own / enc for _, _, enc, own in rounds)
    binds = "network" if statistics.median(network) > statistics.median(rest[0]) else "decoding"
    print(f"of the slower ({binds}): {bound:.2f}; of both sharing the processors: {shared:.2f}")
    print(f"times as fast as the script: {faster:.2f}")


def memory(arguments: argparse.Namespace) -> None:
    """Print the peak memory of the command for more and more images: hard links to a few small drawn JPEG files."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        root = Path(scratch)
        for number in range(50):
            pixels = random.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(root / f"{number}.jpg")
        for count in COUNTS:
            folder = root / str(count)
            for number in range(count):
                parent = folder / f"{number // 1000:03d}"
                parent.mkdir(parents=True, exist_ok=True)
                os.link(root / f"{number % 50}.jpg", parent / f"image {number:06d}.jpg")
            for kind, output in (
                ("npy", f"{count}.npy"),
                ("safetensors", f"{count}.safetensors"),
                ("shards", f"s{count}"),
            ):
                extra = ["--shard-size", "5000"] if kind == "shards" else []
                command = [
                    "encode",
                    folder,
                    "-m",
                    arguments.model,
                    "-o",
                    root / output,
                    "--image-size",
                    32,
                    "-q",
                    *extra,
                ]
                began = time.perf_counter()
                peak = peak_of([str(word) for word in command])
                print(
                    f"{count:7} images to {kind:12} {peak:7.1f} MiB  {time.perf_counter() - began:7.1f} s", flush=True
                )


def peak_of(command: Sequence[str]) -> float:
    """Return the most memory that `vqtok` held, in 2^20 bytes."""
    code = (
        "import resource, sys; from cli.__main__ import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    return int(done.stdout) / 2**10


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("speed")
    one.add_argument("images", type=Path)
    one.add_argument("--image-size", type=int)
    one.add_argument("--count", type=int, default=1000)
    one.add_argument("--rounds", type=int, default=3)
    one.set_defaults(run=speed)
    two = commands.add_parser("memory")
    two.add_argument("--scratch", type=Path, help="where the images go; the system's temporary folder unless said")
    two.set_defaults(run=memory)
    for each in (one, two):
        each.add_argument("-m", "--model", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
