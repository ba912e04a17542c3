"""Files that mean harm: all that is read of them ends in a named error, in little memory, and writes nowhere else.

    python -m benchmarks.fuzzing tokens --inputs 100000
    python -m benchmarks.fuzzing checkpoint --inputs 100000
    python -m benchmarks.fuzzing config --inputs 100000
    python -m benchmarks.fuzzing manifest --inputs 100000

Inputs are sound files of the project's own making, changed. With `atheris` installed, what is changed next follows from
which lines of the readers the last inputs reached; without it, or with `--blind`, changes are drawn. The first input
that breaks a promise is kept in a file `crash-...`, and ends the run.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.fuzzing_promises import Target

# Of addresses, above those that the imported libraries take.
_ROOM = 2**30


def main() -> None:
    """Feed a target, and tell how many inputs were refused and how many were read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("tokens", "checkpoint", "config", "manifest"))
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="do not look at the coverage")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    try:
        (_blind if arguments.blind else _guided)(arguments.target, arguments.inputs, arguments.seed, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _made(name: str, folder: Path) -> Target:
    """Return a target after one sound input, when all that it imports is there, and little more memory for the rest."""
    from benchmarks.fuzzing_targets import TARGETS

    folder.mkdir()
    target = TARGETS[name](folder)
    for data in target.seeds:
        target.check(data)
    target.tried = target.refused = 0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ROOM, resource.RLIM_INFINITY))
    return target


def _told(target: Target, how: str, began: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    read = target.tried - target.refused
    print(f"{target.name}, {how}: {target.tried} inputs, {target.refused} refused, {read} read, none escaped", end="; ")
    print(f"{time.perf_counter() - began:.0f} s, at most {peak:.0f} MiB", flush=True)


def _blind(name: str, inputs: int, seed: int, scratch: Path) -> None:
    from benchmarks.fuzzing_changes import changed

    target, dice, began = _made(name, scratch / "target"), random.Random(seed), time.perf_counter()
    for _ in range(inputs):
        data = changed(dice, dice.choice(target.seeds))
        try:
            target.check(data)
        except BaseException:
            Path(f"crash-{name}").write_bytes(data)
            raise
    _told(target, f"blind, seed {seed}", began)


def _guided(name: str, inputs: int, seed: int, scratch: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["tokenizer", "cli"]):
        from benchmarks.fuzzing_changes import changed

        target = _made(name, scratch / "target")
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / f"{number:03d}").write_bytes(data)
    began = time.perf_counter()

    def check(data: bytes) -> None:
        target.check(data)
        if target.tried == inputs:
            _told(target, f"guided by coverage, seed {seed}", began)
            shutil.rmtree(scratch, ignore_errors=True)
            os._exit(0)  # the engine does not come back

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        return changed(random.Random(seed), data)[:longest]

    longest = 2 * max(map(len, target.seeds))
    options = [
        f"-seed={seed}",
        f"-max_len={longest}",
        f"-artifact_prefix=crash-{name}-",
        "-timeout=60",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
