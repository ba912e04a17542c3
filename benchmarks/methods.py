"""Every method against every other, at about one rate, ours and the candidates that claim more.

    python -m benchmarks.methods photos/ -o methods --codebook-size 1024 --seeds 2
    python -m benchmarks.methods photos/ -o methods-16k --codebook-size 16384 --seeds 1 --part 1/2

Runs `vqtok compare` with the settings below; further flags are that command's. Contestants of several codes share
the bits of one code among them. With `--part I/N` only every N-th contestant runs, for N processes that share an output
(all with `--resume`); a last call without it prints the whole table.

    python -m benchmarks.methods --table methods

prints what lies in an output so far as Markdown, whatever seeds each contestant has; those below 20 dB have collapsed
and do not set the PSNR that all must reach.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import mean

import benchmarks.candidates  # noqa: F401  # registers them
from cli.__main__ import main as vqtok
from tokenizer.compare import RUNS_FOLDER, EntryResult, rank_entries, read_result, shown_columns

_COLLAPSED = 20.0

# Above this, methods that hold a weight for every latent and code in memory are left out.
_ALL_CODES_AT_ONCE = 4096
SETTINGS = ["--downsample", "8", "--steps", "400", "-b", "8", "--image-size", "128", "--set", "val_images=64"]


def contestants(size: int) -> list[str]:
    """Return the contestants at `size` codes, or as many bits."""
    half = 2 ** (int(math.log2(size)) // 2)
    shared = [
        "diveq",
        "ste",
        "ema",
        "rotation",
        "fsq",
        "sf-diveq",
        "diveq(transform=linear)",
        "ste(transform=linear-frozen)",
        f"residual(2*diveq(codebook_size={half}))",
        f"product(2*diveq(codebook_size={half}))",
        "lfq",
        "bsq",
        "diveq(transform=bridge)",
        "ste(transform=bridge)",
    ]
    if size > _ALL_CODES_AT_ONCE:
        return [*shared, "gumbel(top_k=64)"]
    return [
        *shared,
        "diveq-detach",
        "nsvq",
        "ibq",
        "gumbel",
        "gumbel(temperature_decay=0.99)",
        "sf-diveq-detach",
        "sfvq",
        f"multiscale(2*diveq(codebook_size={2 ** (4 * int(math.log2(size)) // 5)}))",
        f"sf-diveq(codebook_size={size // 2 + 1}, points=2)",
        "optvq",
        "diveq(transform=mlp)",
        "lfq(entropy_weight=0.003, commitment=0.01)",
        "ibq(entropy_weight=0.05)",
        "stablevq",
        "wasserstein",
        "fsq(learn_step=true)",
        "rotation(update=ema)",
        "gumbel(noise=false)",
    ]


def table(output: Path) -> None:
    """Print the results in an output as Markdown, best first."""
    found = [
        result for path in sorted((output / RUNS_FOLDER).glob("*/seed*")) if (result := read_result(path)) is not None
    ]
    means = {label: mean([r.figures.psnr or 0.0 for r in found if r.quantizer == label]) for label in _labels(found)}
    alive = rank_entries([label for label, value in means.items() if value >= _COLLAPSED], found, [])
    rest = rank_entries([label for label, value in means.items() if value < _COLLAPSED], found, [])
    columns = shown_columns(alive)
    print(f"| quantizer | seeds | {' | '.join(column.title for column in columns)} |\n{'| --- ' * (len(columns) + 2)}|")
    for row in [*alive.rows, *rest.rows]:
        cells = [column.show(row.figures.get(column.key)) for column in columns]
        print(f"| `{row.label}` | {len(row.results)} | {' | '.join(cells)} |")


def _labels(results: list[EntryResult]) -> list[str]:
    return list(dict.fromkeys(result.quantizer for result in results))


def main() -> None:
    """Fill in the contestants and hand over to `vqtok compare`."""
    if sys.argv[1:] in ([], ["--help"], ["-h"]):
        print(__doc__)
        return
    arguments = sys.argv[1:]
    if arguments[0] == "--table":
        table(Path(arguments[1]))
        return
    part, parts = 1, 1
    if "--part" in arguments:
        place = arguments.index("--part")
        part, parts = map(int, arguments[place + 1].split("/"))
        del arguments[place : place + 2]
    size = int(arguments[arguments.index("--codebook-size") + 1]) if "--codebook-size" in arguments else 1024
    chosen = ", ".join(contestants(size)[part - 1 :: parts])
    sys.argv = ["vqtok", "compare", *SETTINGS, "--codebook-size", str(size), "--quantizers", chosen, *arguments]
    vqtok()


if __name__ == "__main__":
    main()
