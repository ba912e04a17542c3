"""kill -9 at random moments of `vqtok encode`, again and again: what is resumed is what an undisturbed run writes.

    python -m robustness.killed -m run --images 2000 --kills 20

Images are drawn. For each kind of output (one file, a tree, shards) the command is started with `--resume` and killed
after a random time, until it was killed that often, from the start again whenever it came to its end; every end is
compared byte for byte with an undisturbed run.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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
            run([*command, "-o", f"{root}/whole/{name}", *extra])
            seconds = time.perf_counter() - began
            wanted, killed, ends = files_of(root / "whole"), 0, 0
            resume = [*command, "-o", f"{root}/killed/{name}", "--resume", *extra]
            while killed < arguments.kills:
                # From the loading of the model on, and so short that there are several kills before the end.
                if is_killed(resume, dice.uniform(1.5, 3 + seconds / 4)):
                    killed += 1
                    continue
                ends += compare(root / "killed", wanted)
                shutil.rmtree(root / "killed")
            run(resume)
            ends += compare(root / "killed", wanted)
            print(f"{kind}: killed {killed} times in {ends} runs; {len(wanted)} files, equal each time", flush=True)
            for folder in ("whole", "killed"):
                shutil.rmtree(root / folder)


def run(command: Sequence[str | Path]) -> None:
    """Run a command to its end; 3 says that some images were unreadable."""
    done = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"exit {done.returncode}")


def is_killed(command: Sequence[str | Path], after: float) -> bool:
    """Kill a command after some seconds; return False where it had ended before."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    if process.returncode not in (0, 3):
        raise SystemExit(f"exit {process.returncode}")
    return False


def compare(folder: Path, wanted: dict[str, bytes]) -> int:
    """Return 1 where a folder holds what it should, byte for byte; stop where it does not."""
    made = files_of(folder)
    if made != wanted:
        odd = sorted(name for name in made.keys() | wanted.keys() if made.get(name) != wanted.get(name))
        raise SystemExit(f"they differ: {odd[:9]}")
    return 1


if __name__ == "__main__":
    main()
