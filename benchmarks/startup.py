"""What it costs to start `vqtok`: processor time, over that of an empty Typer program.

    python -m benchmarks.startup                       # the checkout that this file lies in
    python -m benchmarks.startup ../before --repeat 5  # another one

Each command is run in turn with the empty program's `--help`, both as `python -m` with this interpreter, and the ratio
of the two is taken: user and system time of the process. All ran once before, so that bytecode is there; it lies in a
temporary folder, not in the checkout.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("--help", "--version", "list", "info photo-f8")
HEAVY = ("numpy", "PIL", "torch")
EMPTY = '''\
import typer

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def nothing() -> None:
    """Do nothing."""


if __name__ == "__main__":
    app()
'''


@dataclass(frozen=True)
class Program:
    """A module, its arguments, the folder it lies in, and the environment to run it in."""

    module: str
    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]

    def run(self, *options: str) -> str:
        """Run it with options of the interpreter, and return what it says on stderr."""
        command = [sys.executable, *options, "-m", self.module, *self.words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{self.module} {' '.join(self.words)} ended with {done.returncode}: {done.stderr}")
        return done.stderr

    def seconds(self) -> float:
        """Run it, and return the processor time it takes."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def imported(self) -> set[str]:
        """Run it, and return the modules that it imports."""
        lines = self.run("-X", "importtime").splitlines()
        return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def pairs(program: Program, empty: Program, repeat: int) -> list[tuple[float, float]]:
    """Return the seconds of the two, run in turn, each pair in the other order than the last."""
    found = []
    for number in range(repeat):
        first, second = (empty, program) if number % 2 else (program, empty)
        one, other = first.seconds(), second.seconds()
        found.append((other, one) if number % 2 else (one, other))
    return found


def line(name: str, program: Program, empty: Program, repeat: int) -> str:
    """Return the row of one command."""
    loaded = program.imported() & set(HEAVY)
    empty.run()
    times = pairs(program, empty, repeat)
    ratios = [seconds / least for seconds, least in times]
    seconds, least = (statistics.median(column) for column in zip(*times, strict=True))
    heavy = ", ".join(module for module in HEAVY if module in loaded) or "none"
    spread = f"{statistics.median(ratios):6.2f} {min(ratios):6.2f} {max(ratios):6.2f}"
    return f"{'vqtok ' + name:20} {seconds:8.3f} {least:8.3f} {spread}   {heavy}"


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=Path(__file__).parents[1])
    parser.add_argument("--repeat", type=int, default=15, help="pairs of runs for each command")
    arguments = parser.parse_args()
    print("seconds: medians; ratio: to the empty program; imports: which of", ", ".join(HEAVY))
    print(f"{'':20} {'seconds':>8} {'empty':>8} {'ratio':>6} {'min':>6} {'max':>6}   imports", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty.py").write_text(EMPTY, "utf-8")
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("VQTOK_", "PYTHON"))}
        environment = plain | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        empty = Program("empty", ["--help"], folder, environment)
        for words in COMMANDS:
            program = Program("cli", words.split(), arguments.checkout.resolve(), environment)
            print(line(words, program, empty, arguments.repeat), flush=True)


if __name__ == "__main__":
    main()
