"""Photographs made small enough to carry to another machine: cropped, not shrunk, so that their scale stays.

    python -m benchmarks.packed photos/ photos_large/ -o packed/ --mib 60 --leave-out heldout.txt

Each folder gets the same share of the bytes (`--shares` sets others). Where its photographs do not fit as WebP of
`--quality`, those larger than `--least` pixels are cropped at a place drawn from their name; where that is not
enough, some are left out, of its sub-folders with the most bytes first. `packed/` is ignored by git.
"""

from __future__ import annotations

import argparse
import io
import math
import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tokenizer.files import write_bytes
from tokenizer.images import Source, read_image
from tokenizer.inputs import find_images

# Photographs from which is told how much must be cropped, and how often it is tried.
_SAMPLED, _ROUNDS = 96, 4


def cropped(pixels: np.ndarray, share: float, least: int, name: str) -> np.ndarray:
    """Return the (H, W, 3) pixels cropped to `share` of each side, no side shorter than `least` but for short ones."""
    drawn = random.Random(name)
    for axis in (0, 1):
        side = pixels.shape[axis]
        length = min(side, max(least, round(share * side)))
        first = drawn.randint(0, side - length)
        pixels = pixels.take(range(first, first + length), axis)
    return pixels


def packed(source: Source, share: float, least: int, quality: int) -> bytes:
    """Return a photograph, cropped, as a WebP file."""
    file = io.BytesIO()
    pixels = cropped(read_image(source.file), share, least, source.name)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=quality)
    return file.getvalue()


def pack(sources: Sequence[Source], most: int, least: int = 160, quality: int = 90) -> dict[str, bytes]:
    """Return files by name, `most` bytes of them at most."""
    share = fitting_share(sources[:: max(1, len(sources) // _SAMPLED)], most / max(1, len(sources)), least, quality)
    with ThreadPoolExecutor() as threads:
        files = threads.map(partial(packed, share=share, least=least, quality=quality), sources)
        return thinned({source.name: file for source, file in zip(sources, files, strict=True)}, most)


def fitting_share(sample: Sequence[Source], most_each: float, least: int, quality: int) -> float:
    """Return the share of each side at which a sample takes at most `most_each` bytes a file, or comes near it."""
    share = 1.0
    for _ in range(_ROUNDS):
        total = sum(len(packed(source, share, least, quality)) for source in sample)
        if total <= most_each * len(sample):
            break
        share *= 0.99 * math.sqrt(most_each * len(sample) / total)
    return share


def thinned(files: dict[str, bytes], most: int) -> dict[str, bytes]:
    """Return as many of the files as fit; one of the sub-folder that holds most bytes goes, again and again."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(files):
        folders[str(Path(name).parent)].append(name)
    for names in folders.values():
        random.Random(0).shuffle(names)
    sizes = {folder: sum(len(files[name]) for name in names) for folder, names in folders.items()}
    while sum(sizes.values()) > most:
        largest = max(sizes, key=lambda folder: sizes[folder])
        sizes[largest] -= len(files[folders[largest].pop()])
    kept = {name for names in folders.values() for name in names}
    return {name: file for name, file in files.items() if name in kept}


def chosen(folder: Path, left_out: Collection[str]) -> list[Source]:
    """Return the photographs of a folder but those left out by name."""
    return [source for source in find_images([folder]) if source.name not in left_out]


def main() -> None:
    """Parse, pack, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of photographs, of different names")
    parser.add_argument("-o", "--output", type=Path, default=Path("packed"))
    parser.add_argument("--mib", type=float, default=60, help="of all files together")
    parser.add_argument("--shares", type=float, nargs="+", help="of the bytes, one for each folder")
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--least", type=int, default=160, help="no side is cropped below that")
    parser.add_argument("--leave-out", type=Path, nargs="*", default=[], help="files of names, one a line")
    given = parser.parse_args()
    left_out = {name for file in given.leave_out for name in file.read_text("utf-8").splitlines()}
    shares = given.shares or [1.0] * len(given.folders)
    for folder, own in zip(given.folders, shares, strict=True):
        sources = chosen(folder, left_out)
        most = int(given.mib * 2**20 * own / sum(shares))
        files = pack(sources, most, given.least, given.quality)
        for name, file in files.items():
            write_bytes(given.output / folder.name / Path(name).with_suffix(".webp"), file)
        size = sum(map(len, files.values())) / 2**20
        print(f"{given.output / folder.name}: {len(files)} of {len(sources)} photographs, {size:.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
