"""Damaged image files by the hundred thousand: each is read, or refused with an ImageError of one line.

    python -m robustness.fuzz_images --inputs 100000 --seed 0

Small files of every format, mode and compression that Pillow writes are cut, flipped, spliced and given extreme
numbers (`robustness.damaged_images`); input n follows from the seed and n. Each is read as training reads it, every
third as encoding does, every fifth from disk. Counted are those that were read, refused, and escaped with another
exception or killed the process; and what reached stderr, the slowest input, and the one that memory grew most for.
"""

from __future__ import annotations

import argparse
import collections
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from robustness.damaged_images import damaged, drawn_files
from tokenizer.errors import ImageError
from tokenizer.images import probe_image, read_image, read_scaled

WHITE = (255, 255, 255)


def make(files: list[bytes], seed: int, number: int) -> bytes:
    """Return the damaged file of that number."""
    return damaged(files, np.random.default_rng([seed, number]))


def look(data: bytes, number: int, path: Path) -> str:
    """Read one input in the way that its number says; return what came of it."""
    file: Path | io.BytesIO = io.BytesIO(data)
    if number % 5 == 0:
        path.write_bytes(data)
        file = path
    try:
        if number % 3 == 0:
            pixels = read_scaled(file, WHITE, lambda opened: opened.scales[-1]).pixels
        else:
            pixels = read_image(file, shrink_to=16)
        probe_image(file)
    except ImageError as error:
        return "refused" if len(str(error).splitlines()) == 1 else f"escaped: a reason of several lines: {error!r}"
    except BaseException as error:  # noqa: BLE001  # what escapes is what is looked for
        return f"escaped: {type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[-1]}"
    good = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size and pixels.dtype == np.uint8
    return "read" if good else f"escaped: pixels {pixels.shape} {pixels.dtype}"


def work(pipe: Connection, first: int, count: int, seed: int, noise: str) -> None:
    """Read inputs from `first` on, and send the number, what came of it, seconds and MiB of growth of each."""
    os.dup2(os.open(noise, os.O_WRONLY | os.O_APPEND), 2)
    files = drawn_files()
    path = Path(noise).with_name(f"{first}.png")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, count):
        data = make(files, seed, number)
        pipe.send((number, "begun", 0.0, 0.0))
        began = time.perf_counter()
        result = look(data, number, path)
        seconds = time.perf_counter() - began
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send((number, result, seconds, (now - most) / 2**10))
        most = max(most, now)


def main() -> None:
    """Read them all, in a process that is started again where it dies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Write the inputs that escaped to this folder.")
    arguments = parser.parse_args()
    files = drawn_files()
    print(f"{len(files)} files of {min(map(len, files))} to {max(map(len, files))} bytes", flush=True)
    counts: collections.Counter[str] = collections.Counter()
    slowest, largest = (0.0, 0), (0.0, 0)
    began, number = time.perf_counter(), arguments.first
    with tempfile.TemporaryDirectory() as scratch:
        noise = Path(scratch, "stderr")
        noise.touch()
        while number < arguments.inputs:
            mine, theirs = multiprocessing.Pipe(duplex=False)
            context = multiprocessing.get_context("spawn")
            child = context.Process(target=work, args=(theirs, number, arguments.inputs, arguments.seed, str(noise)))
            child.start()
            theirs.close()
            while True:
                try:
                    number, result, seconds, grown = mine.recv()
                except EOFError:
                    child.join()
                    break
                if result == "begun":
                    continue
                slowest, largest = max(slowest, (seconds, number)), max(largest, (grown, number))
                tell(result, number, files, arguments, counts)
            if child.exitcode:
                tell(f"escaped: exit code {child.exitcode}", number, files, arguments, counts)
            number += 1
        said = noise.read_bytes()
    print(f"{sum(counts.values())} inputs in {time.perf_counter() - began:.0f} s: {dict(counts)}")
    print(f"{len(said)} bytes on stderr: {said[:300]!r}")
    print(
        f"slowest: {slowest[0]:.2f} s, input {slowest[1]}; memory grew most by {largest[0]:.0f} MiB, input {largest[1]}"
    )
    sys.exit(1 if counts["escaped"] or said else 0)


def tell(
    result: str, number: int, files: list[bytes], arguments: argparse.Namespace, counts: collections.Counter[str]
) -> None:
    """Count a result, and show one that escaped."""
    counts[result.partition(":")[0]] += 1
    if sum(counts.values()) % 10_000 == 0:
        print(dict(counts), flush=True)
    if result.startswith("escaped"):
        print(f"input {number}: {result}", flush=True)
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{number}.bin").write_bytes(make(files, arguments.seed, number))


if __name__ == "__main__":
    main()
