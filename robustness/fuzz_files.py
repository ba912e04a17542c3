"""Files that mean harm: all that is read of them ends in a named error, in little memory, and writes nowhere else.

    python -m robustness.fuzz_files tokens --inputs 100000
    python -m robustness.fuzz_files checkpoint --inputs 100000
    python -m robustness.fuzz_files config --inputs 100000
    python -m robustness.fuzz_files manifest --inputs 100000

Inputs are sound files of the project's own making, changed. With `atheris` installed, what is changed next follows from
which lines of the readers the last inputs reached; without it, or with `--blind`, changes are drawn. The first input
that breaks a promise is kept in a file `crash-...`, and ends the run.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.fuzz_targets import Target

# Of addresses, above those that the imported libraries take.
_ROOM = 2**30
# What breaks readers, wherever it is put.
_ODD = [
    *(b"0", b"-1", b"1", b"0.5", b"1e999", b"-1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"[[1]]"),
    *(str(number).encode() for number in (2**31, 2**32, 2**53, 2**63, 2**64, 10**12, 10**40)),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"../", b"/etc/x", b"\0", b"C:\\\\", b"A" * 300, b"\n"),
    *(b"256*", b"residual(", b"a.a.", b"\xff\xfe", b"\r\n", b"\x80\x04", b"PK\x03\x04", b"ustar"),
]


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
    from robustness.fuzz_targets import TARGETS

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


def changed(dice: random.Random, data: bytes) -> bytes:
    """Return bytes with one to four changes: of bytes, of pieces, of numbers, of values in JSON."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        data = dice.choice(_CHANGES)(dice, data)
    return data


def _flip(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]


def _cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _drop(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + data[at + dice.choice((1, 2, 8, 100)) :]


def _repeat(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + data[at : at + dice.choice((1, 8, 100, 600))] * dice.choice((2, 3, 50)) + data[at:]


def _insert(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(_ODD) + data[at + dice.choice((0, 1, 4)) :]


def _replace(pattern: bytes) -> Callable[[random.Random, bytes], bytes]:
    def replace(dice: random.Random, data: bytes) -> bytes:
        found = list(re.finditer(pattern, data))
        if not found:
            return _flip(dice, data)
        spot = dice.choice(found)
        return data[: spot.start()] + dice.choice(_ODD) + data[spot.end() :]

    return replace


_CHANGES = (
    *(_flip, _flip, _cut, _drop, _repeat, _insert),
    *(
        _replace(rb"-?[0-9][0-9.]*"),
        _replace(rb'"[^"\n]{0,80}"'),
        _replace(rb"\[[^\[\]\n]*\]"),
        _replace(rb"[a-z_]{3,}"),
    ),
)


if __name__ == "__main__":
    main()
