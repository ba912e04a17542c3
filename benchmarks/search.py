"""How fast is the nearest code found, and at what cost in memory? Against public layers, FAISS and a bare product.

    python -m benchmarks.search                    # all parts
    python -m benchmarks.search --part layer       # one training step of the layer
    python -m benchmarks.search --part search      # the search alone
    python -m benchmarks.search --part memory      # peak memory of the step
    python -m benchmarks.search --part growth -o search.png

Contestants take turns within each round, and a ratio is the median over rounds of that round's ratio. Latents and codes
are Gaussian noise. `bare` is the matrix product `z @ C.T` in the blocks that our search uses, its result overwritten
block by block. FAISS (package faiss-cpu) takes part where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tokenizer.quantizers.diveq import DiVeQ
from tokenizer.quantizers.search import nearest
from tokenizer.quantizers.search.scores import CodeGroups
from tokenizer.quantizers.search.tiles import latents_per_block
from tokenizer.runtime import PeakMemory

SIZES = ((4096, 1024, 64), (4096, 8192, 32), (4096, 16384, 8), (8192, 16384, 64), (2048, 65536, 8), (2048, 100_000, 64))
LAYERS = ("vqtok", "diveq", "vector-quantize-pytorch")
MEMORY_SIZE = (4096, 16384, 64)
Work = Callable[[], object]


def layer(name: str, codes: int, dim: int) -> nn.Module:
    """Return one public layer that trains by DiVeQ."""
    if name == "vqtok":
        return DiVeQ(dim, codebook_size=codes)
    if name == "diveq":
        from diveq import DIVEQ

        return DIVEQ(codes, dim, verbose=False, allow_warning=False)
    from vector_quantize_pytorch import VectorQuantize

    return VectorQuantize(dim, codes, directional_reparam=True, threshold_ema_dead_code=2)


def training_step(name: str, rows: int, codes: int, dim: int, device: str = "cpu") -> Work:
    """Return a forward and backward pass of one layer over (rows, dim) latents."""
    torch.manual_seed(0)
    module = layer(name, codes, dim).to(device).train()
    z = torch.randn(rows, dim, device=device, requires_grad=True)

    def step() -> None:
        result = module(z)
        vectors = result.vectors if name == "vqtok" else result[0]
        vectors.square().mean().backward()

    return step


def searches(rows: int, codes: int, dim: int, device: str) -> dict[str, Work]:
    """Return ways to search, and the bare product."""
    torch.manual_seed(0)
    z, codebook = torch.randn(rows, dim, device=device), torch.randn(codes, dim, device=device)
    found: dict[str, Work] = {
        "bare": bare_product(z, codebook),
        "vqtok": partial(nearest, z, codebook),
        "cdist.argmin": lambda: torch.cdist(z, codebook).argmin(dim=1),
    }
    if device == "cpu" and importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        found["faiss"] = partial(faiss.knn, z.numpy(), codebook.numpy(), 1)
    return found


def bare_product(z: Tensor, codebook: Tensor) -> Work:
    """Return `z @ C.T` in the search's own blocks."""
    layout = CodeGroups.of(len(codebook))
    size = min(len(z), latents_per_block(layout, z.device))
    values = torch.empty(size * layout.width, device=z.device)

    def product() -> None:
        for rows in z.split(size):
            for part in codebook.split(layout.width):
                torch.mm(rows, part.t(), out=values[: len(rows) * len(part)].view(len(rows), len(part)))

    return product


def milliseconds(work: Work, device: str) -> float:
    """Return how long it takes once."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return 1e3 * (time.perf_counter() - start)


def in_turns(works: dict[str, Work], rounds: int, device: str) -> dict[str, list[float]]:
    """Return the times of each, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = milliseconds(work, device)
            if number:
                times[name].append(spent)
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    """Return the median over rounds of how many times as long `name` took as `base`."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def part_layer(arguments: argparse.Namespace) -> None:
    """Print the training step of each layer."""
    print("| N, K, D | vqtok ms | diveq ms | ratio | vector-quantize-pytorch ms | ratio |\n" + "| --- " * 6 + "|")
    for size in SIZES:
        works = {name: training_step(name, *size, arguments.device) for name in LAYERS}
        times = in_turns(works, arguments.rounds, arguments.device)
        cells = [f"{statistics.median(times['vqtok']):.1f}"]
        for name in LAYERS[1:]:
            cells += [f"{statistics.median(times[name]):.0f}", f"{ratio(times, name, 'vqtok'):.1f}"]
        print(f"| {size[0]}, {size[1]}, {size[2]} | {' | '.join(cells)} |", flush=True)


def part_search(arguments: argparse.Namespace) -> None:
    """Print the search alone, as times and as multiples of the bare product."""
    print("| N, K, D | bare ms | vqtok ms | / bare | cdist.argmin / vqtok | faiss / vqtok |\n" + "| --- " * 6 + "|")
    for size in ((4096, 1024, 8), *SIZES):
        times = in_turns(searches(*size, arguments.device), arguments.rounds, arguments.device)
        cells = [f"{statistics.median(times[name]):.1f}" for name in ("bare", "vqtok")]
        cells.append(f"{ratio(times, 'vqtok', 'bare'):.2f}")
        cells += [f"{ratio(times, name, 'vqtok'):.2f}" if name in times else "" for name in ("cdist.argmin", "faiss")]
        print(f"| {size[0]}, {size[1]}, {size[2]} | {' | '.join(cells)} |", flush=True)


def peak(work: Work) -> float:
    """Return by how many MiB a piece of work raises this process's peak memory."""
    memory = PeakMemory(torch.device("cpu"))
    before = memory.megabytes or 0.0
    work()
    return (memory.megabytes or 0.0) - before


def peak_in_child(name: str, rows: int, codes: int, dim: int) -> float:
    """Return the same for one layer's step, or `search`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.search", "--peak-of", name, str(rows), str(codes), str(dim)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str, rows: int, codes: int, dim: int) -> None:
    """Print the peak of the first step at that size, in a process that took a small step before."""
    if name == "search":
        searches(8, 16, dim, "cpu")["vqtok"]()
        print(peak(searches(rows, codes, dim, "cpu")["vqtok"]))
        return
    training_step(name, 8, 16, dim)()
    print(peak(training_step(name, rows, codes, dim)))


def part_memory(_: argparse.Namespace) -> None:
    """Print the peak memory of each layer's step."""
    found = {name: peak_in_child(name, *MEMORY_SIZE) for name in LAYERS}
    print("| layer | extra peak MiB | of ours |\n| --- | --- | --- |")
    for name, size in found.items():
        print(f"| {name} | {size:.0f} | {size / found['vqtok']:.1f} |", flush=True)


def part_growth(arguments: argparse.Namespace) -> None:
    """Print and draw time and peak memory of the search as N and K grow."""
    codes = [(2048, 2**power, 8) for power in range(10, 19)]
    rows = [(2**power, 16384, 8) for power in range(9, 16)]
    print("| N, K, D | ms | extra peak MiB |\n| --- | --- | --- |")
    points = {"K": [growth(size, arguments) for size in codes], "N": [growth(size, arguments) for size in rows]}
    if arguments.output:
        draw(points, arguments.output)


def growth(size: tuple[int, int, int], arguments: argparse.Namespace) -> tuple[int, int, float, float]:
    """Return N, K, the median time, and the peak memory."""
    work = searches(*size, arguments.device)["vqtok"]
    spent = statistics.median(in_turns({"": work}, arguments.rounds, arguments.device)[""])
    memory = peak_in_child("search", *size)
    print(f"| {size[0]}, {size[1]}, {size[2]} | {spent:.1f} | {memory:.1f} |", flush=True)
    return size[0], size[1], spent, memory


def draw(points: dict[str, list[tuple[int, int, float, float]]], file: Path) -> None:
    """Draw time and memory over K and over N."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, (name, column) in zip(panels, (("K", 1), ("N", 0)), strict=True):
        sizes = [point[column] for point in points[name]]
        times, memory = [point[2] for point in points[name]], [point[3] for point in points[name]]
        panel.loglog(sizes, times, "o-", label="time, ms")
        panel.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], "k:", label="linear")
        panel.loglog(sizes, [max(value, 0.1) for value in memory], "s-", label="extra peak memory, MiB")
        matrix = [4 * point[0] * point[1] / 2**20 for point in points[name]]
        panel.loglog(sizes, matrix, "--", color="gray", label="an (N, K) float32 matrix, MiB")
        panel.set_xlabel("K, codes, for 2048 latents" if name == "K" else "N, latents, for 16384 codes")
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.suptitle("Nearest code of D = 8 numbers, CPU")
    figure.savefig(file, dpi=90)


PARTS = {"layer": part_layer, "search": part_search, "memory": part_memory, "growth": part_growth}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, help="write the plot of --part growth here")
    parser.add_argument("--peak-of", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print_peak(arguments.peak_of[0], *map(int, arguments.peak_of[1:]))
        return
    for part in arguments.part or PARTS:
        print(f"\n{part}, {arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
        PARTS[part](arguments)


if __name__ == "__main__":
    main()
