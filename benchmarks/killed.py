"""kill -9 at random moments of `vqtok encode`, again and again: what is resumed is what an undisturbed run writes.

    python -m benchmarks.killed -m run --images 2000 --kills 20

Images are drawn. For each kind of output (one file, a tree, shards) the command is started with `--resume` and killed
after a random time, until it was killed that often; then it runs to its end, and every file is compared byte for byte.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

OUTPUTS = {"one file": ["t.safetensors"], "a tree": ["tree/"], "shards": ["shards/", "--shard-size", "300"]}


def draw(folder: Path, count: int) -> None:
    """Draw JPEG files of three sizes, and some that are no images."""
    dice = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number % 97 == 5:
            path.write_bytes(b"no image")
            continue
        pixels = dice.integers(0, 256, (5, 7, 3), np.uint8)
        size = [(160, 240), (240, 160), (200, 200)][number % 3]
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        draw(root / "images", arguments.images)
        command = [sys.executable, "-m", "cli", "encode", root / "images", "-m", arguments.model, "-q"]
        for kind, (name, *extra) in OUTPUTS.items():
            began = time.perf_counter()
            subprocess.run([*command, "-o", f"{root}/whole/{name}", *extra], stderr=subprocess.DEVNULL, check=False)
            seconds = time.perf_counter() - began
            killed = 0
            while killed < arguments.kills:
                process = subprocess.Popen(
                    [*command, "-o", f"{root}/killed/{name}", "--resume", *extra], stderr=subprocess.DEVNULL
                )
                try:
                    # From the loading of the model on; at least one of the kills must not wait for the end.
                    process.wait(dice.uniform(1.5, 3 + 2 * seconds / arguments.kills))
                    if process.returncode not in (0, 3):
                        raise SystemExit(f"{kind}: exit {process.returncode}")
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    killed += 1
            last = subprocess.run(
                [*command, "-o", f"{root}/killed/{name}", "--resume", *extra], stderr=subprocess.DEVNULL, check=False
            )
            made, wanted = files_of(root / "killed"), files_of(root / "whole")
            same = made == wanted
            print(
                f"{kind}: killed {killed} times, then exit {last.returncode}; {len(wanted)} files, equal: {same}",
                flush=True,
            )
            if not same:
                raise SystemExit(
                    f"they differ: {sorted(k for k in made.keys() | wanted.keys() if made.get(k) != wanted.get(k))[:9]}"
                )
            for folder in ("whole", "killed"):
                for path in sorted((root / folder).rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
