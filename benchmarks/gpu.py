"""What has to be seen on a CUDA machine, in one table: search, training, encoding, compiling, precision, NCCL, memory.

    python -m benchmarks.gpu photos/                          # within ten minutes, on CUDA where there is one
    python -m benchmarks.gpu photos/ -m photo-f8 photo-f16 --only encoding
    python -m benchmarks.gpu --small                          # drawn pictures, small sizes: a minute of a processor

Each row says what was compared with what, what was found, and whether it passes; `-` is a figure of which nothing is
asked. A row that raises is a row that fails, with its error, and the next one goes on. Rows that only CUDA can answer
say `no CUDA` elsewhere; those for which no time is left, `no time`. The exit code is 1 where a row fails.
`python -m benchmarks.packed` makes of many photographs a folder that is small enough to carry there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu_encoding import (
    MOST_DIFFERING,
    MOST_LOST,
    batches,
    commands,
    compiled,
    decoded,
    encoded_in,
    encoding_memory,
    machine,
    one_rank,
    too_little_memory,
)
from benchmarks.gpu_search import (
    equal_codes,
    every_method,
    other_searches,
    scan_fused,
    scan_tiles,
    search_speed,
    searched,
)
from benchmarks.gpu_setting import Found, Setting
from benchmarks.gpu_training import (
    compiled_training,
    deterministic_training,
    resumed_training,
    trained_as_on_the_cpu,
    trained_in,
)
from tokenizer.models import DEFAULT_CHECKPOINT
from tokenizer.runtime import choose_device

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
CUDA_PRECISIONS = ("tf32", "float16")


@dataclass(frozen=True)
class Row:
    """One line of the table, before it is known what it finds.

    Attributes:
        group: what `--only` names.
        title: what is looked at.
        compared: what is compared with what, and what passes.
        find: does it.
        needs_cuda: it says nothing elsewhere.
    """

    group: str
    title: str
    compared: str
    find: Callable[[Setting], Found]
    needs_cuda: bool = False


def rows(setting: Setting) -> Iterator[Row]:
    """Yield every row of the table."""
    yield Row("machine", "machine", "", machine)
    yield from _search_rows(setting)
    yield Row("quantizers", "every method", "tokens of the CPU: 99.9 % alike; gradients finite", every_method)
    yield from _training_rows()
    for name in setting.models:
        yield from _encoding_rows(name)
    yield Row("memory", "too little", "DeviceError in one line, then work as before", too_little_memory, True)
    yield Row("ranks", "collectives, one rank", "what was sent; NCCL on CUDA, else gloo", one_rank)
    yield Row("commands", "train, encode, decode, report", "no error; torchrun of one rank to train", commands)


def _search_rows(setting: Setting) -> Iterator[Row]:
    alike = "codes, of the CPU: all alike"
    for size in setting.search_sizes:
        named = "{}x{}x{}".format(*size)
        yield Row("search", f"tiles {named}", alike, partial(searched, size, scan_tiles))
        yield Row("search", f"Triton {named}", alike, partial(searched, size, scan_fused), True)
        yield Row("search", f"speed {named}", "kernel, tiles, cdist and argmin", partial(search_speed, size), True)
    yield Row("search", "equal codes", "the lowest of equals, as on the CPU", equal_codes)
    yield Row("search", "products, several nearest", alike, other_searches)


def _training_rows() -> Iterator[Row]:
    falls = "loss of the last quarter of the steps: below the first's"
    for precision in PRECISIONS:
        way = partial(trained_in, precision=precision)
        yield Row("training", precision, falls, partial(_trained, way), precision in CUDA_PRECISIONS)
    same = "weights of a run that was not: the same bits"
    for title, compared, other, needs_cuda in (
        ("as on the CPU", "losses in float32: 1 % apart at most", trained_as_on_the_cpu, False),
        ("--deterministic", "weights of two runs: the same bits", deterministic_training, False),
        ("stopped, resumed", same, resumed_training, False),
        ("--compile", "losses without: 5 % apart at most", compiled_training, True),
    ):
        yield Row("training", title, compared, partial(_trained, other), needs_cuda)


def _encoding_rows(name: str) -> Iterator[Row]:
    short = Path(name).name
    for precision, most in MOST_DIFFERING.items():
        compared = f"tokens of the CPU in float32: {100 * most:g} % differ at most, {MOST_LOST} dB lost"
        find = partial(encoded_in, name, precision)
        yield Row("encoding", f"{short}, {precision}", compared, find, precision in CUDA_PRECISIONS)
    few = "tokens: 0.2 % differ at most"
    yield Row("encoding", f"{short}, batches of 1, 3, 16", few, partial(batches, name))
    yield Row("encoding", f"{short}, --compile", "tokens without: 1 % differ at most", partial(compiled, name), True)
    yield Row("encoding", f"{short}, decoding", "pictures of the CPU: 50 dB or more", partial(decoded, name))
    peaks = "peak of 16 pictures, and of 16 megapixels in tiles"
    yield Row("memory", f"{short}, encoding", peaks, partial(encoding_memory, name), True)


def _trained(way: Callable[[Path, Path, str, bool], tuple[str, bool]], setting: Setting) -> Found:
    folder = setting.scratch / f"run{len(list(setting.scratch.iterdir()))}"
    return Found(*way(setting.folder, folder, setting.device.type, setting.small))


@dataclass(frozen=True)
class Outcome:
    """A line of the table: `verdict` is `pass`, `FAIL`, `-`, `no CUDA` or `no time`."""

    row: Row
    found: str
    verdict: str
    seconds: float = 0.0


def outcomes(wanted: Sequence[Row], setting: Setting, seconds: float) -> Iterator[Outcome]:
    """Yield what each row finds; no row begins once `seconds` are over."""
    end = time.monotonic() + seconds
    for row in wanted:
        began = time.monotonic()
        if row.needs_cuda and setting.device.type != "cuda":
            yield Outcome(row, "", "no CUDA")
        elif began > end:
            yield Outcome(row, "", "no time")
        else:
            found, verdict = _found(row, setting)
            yield Outcome(row, found, verdict, time.monotonic() - began)


def _found(row: Row, setting: Setting) -> tuple[str, str]:
    try:
        found = row.find(setting)
    except Exception as error:  # noqa: BLE001  # whatever a driver or a compiler raises: the next row is still of use
        reason = str(error).strip().partition("\n")[0]
        return f"{type(error).__name__}: {reason:.200}", "FAIL"
    finally:
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    return found.text, "-" if found.passed is None else "pass" if found.passed else "FAIL"


def line(outcome: Outcome) -> str:
    """Return one line of the table in Markdown."""
    row = outcome.row
    cells = (row.group, row.title, row.compared, outcome.found, outcome.verdict, f"{outcome.seconds:.1f}")
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="folder of photographs; drawn pictures without")
    parser.add_argument("-m", "--model", nargs="+", default=[DEFAULT_CHECKPOINT], help="names, or folders")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=540, help="no row begins later than that")
    parser.add_argument("--small", action="store_true", help="small sizes, for a processor")
    parser.add_argument("--only", nargs="+", help="groups of rows")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(choose_device(given.device), given.photos, given.model, Path(scratch), small=given.small)
        wanted = [row for row in rows(setting) if not given.only or row.group in given.only]
        print("| | what | compared | found | | s |\n" + "| --- " * 6 + "|", flush=True)
        failed = 0
        for outcome in outcomes(wanted, setting, given.seconds):
            print(line(outcome), flush=True)
            failed += outcome.verdict == "FAIL"
    print(f"\n{len(wanted)} rows, {failed} failed, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
