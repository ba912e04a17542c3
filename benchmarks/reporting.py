"""How long `vqtok report` takes for many tokens, and how much memory.

    python -m benchmarks.reporting                     # 1, 10 and 100 million tokens, of one grid and of three
    python -m benchmarks.reporting --millions 1 10 --scratch /scratch

The tokens are drawn from a law of ranks, 16,384 codes, 256 or 384 for an image, and lie in one `.safetensors` with
their manifest. `own` is the most memory that the process held apart from the file, which is mapped: its pages are the
system's to drop.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenizer.images import placement_of
from tokenizer.tokens import Header, ImageRecord, manifest_line
from tokenizer.tokens.serialization import Stack, Stored
from tokenizer.tokens.token_files import write_stored

CODES, FACTOR = 16_384, 16
GRIDS = ((16, 16), (16, 24), (24, 16))
_ROWS = 4096


def write(path: Path, tokens: int, grids: Sequence[tuple[int, int]]) -> int:
    """Write about so many tokens, evenly over the grids; return the number of images."""
    shares = np.arange(1, CODES + 1) ** -1.0
    drawn = np.random.default_rng(0).choice(CODES, 2**22, p=shares / shares.sum()).astype(np.uint16)
    stacks = []
    for height, width in grids:
        rows, size = tokens // len(grids) // (height * width), 2 * height * width
        stacks.append(Stack((height, width), rows, Stored(rows * size, lambda n=rows * size: pieces(drawn, n))))
    lines = b"".join(
        manifest_line(row, record(f"images/{stack.grid[0]}x{stack.grid[1]}/{row:08d}.jpg", stack.grid))
        for stack in stacks
        for row in range(stack.rows)
    )
    header = Header(codebook_sizes=(CODES,), downsample=FACTOR)
    write_stored(path, header, stacks, Stored(len(lines), lambda: [lines]))
    return sum(stack.rows for stack in stacks)


def record(name: str, grid: tuple[int, int]) -> ImageRecord:
    """Return an image that fills its grid."""
    return ImageRecord(name, grid, placement_of((grid[0] * FACTOR, grid[1] * FACTOR), "none", None, FACTOR))


def pieces(drawn: np.ndarray, size: int) -> Iterator[bytes]:
    """Yield that many bytes of tokens, from another place in `drawn` each time."""
    random = np.random.default_rng(1)
    while size:
        piece = np.roll(drawn, random.integers(len(drawn))).tobytes()[:size]
        size -= len(piece)
        yield piece


@dataclass(frozen=True)
class Cost:
    """Seconds, and 2^20 bytes: the most held without the mapped file, and with it."""

    seconds: float
    own: float
    whole: float


def cost(path: Path) -> Cost:
    """Return what `vqtok report` of a file costs."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "cli", "report", str(path), "--json", "-q"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        own = whole = 0
        while running.poll() is None:
            status = dict(row.split(":", 1) for row in Path(f"/proc/{running.pid}/status").read_text().splitlines())
            own = max(own, int(status.get("RssAnon", "0").split()[0]))
            whole = max(whole, int(status.get("VmHWM", "0").split()[0]))
            time.sleep(0.01)
    if running.returncode:
        raise SystemExit(f"vqtok report ended with {running.returncode}")
    return Cost(time.perf_counter() - began, own / 2**10, whole / 2**10)


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--scratch", type=Path, help="where the files go; the system's temporary folder unless said")
    arguments = parser.parse_args()
    print(f"{'tokens':>12} {'images':>8} {'grids':>5} {'seconds':>8} {'own MiB':>8} {'with the file':>13}")
    for millions in arguments.millions:
        for grids in (GRIDS[:1], GRIDS):
            with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
                path = Path(folder, "tokens.safetensors")
                images = write(path, millions * 10**6, grids)
                found = cost(path)
            set_of = f"{millions:>8} 10^6 {images:8} {len(grids):5}"
            print(f"{set_of} {found.seconds:8.1f} {found.own:8.0f} {found.whole:13.0f}", flush=True)


if __name__ == "__main__":
    main()
