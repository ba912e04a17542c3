"""Which files of a checkout a command enters, and who calls whom, for `benchmarks.structure`.

A command enters a file when it calls a function that the file defines, from any file and in any thread; what runs
before `cli.__main__.main` does not count.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
from PIL import Image

SHIPPED = ("tokenizer", "cli", "vqtok")
Arrows = Mapping[str, set[str]]

_SIDE, _IMAGES = 64, 8


@dataclass
class Watch:
    """A profile function that keeps the files whose functions are called, in order, and the pairs of files that call.

    `entered` and `pairs` are dictionaries for their order; the paths are relative to the checkout.
    """

    checkout: Path
    entered: dict[str, None] = field(default_factory=dict)
    pairs: dict[tuple[str, str], None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Remember for each file where it lies in the checkout: nowhere, for those of others."""
        self.file = functools.cache(self._file)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Look at one event."""
        if event != "call" or not (file := self.file(frame.f_code.co_filename)) or not is_function(frame.f_code):
            return
        self.entered.setdefault(file)
        caller = frame.f_back
        while caller and not self.file(caller.f_code.co_filename):
            caller = caller.f_back
        if caller:
            self.pairs.setdefault((self.file(caller.f_code.co_filename), file))

    def _file(self, name: str) -> str:
        path = Path(name)
        short = path.relative_to(self.checkout) if path.is_relative_to(self.checkout) else Path()
        return short.as_posix() if short.parts[:1] and short.parts[0] in SHIPPED else ""


def is_function(code: CodeType) -> bool:
    """Return whether code is that of a function, not of a module, a class or a comprehension."""
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and (code.co_name[0] != "<" or code.co_name == "<lambda>")


def watched(checkout: str, out: str, words: Sequence[str]) -> None:
    """Run `vqtok` in this process, and write down as JSON what the calls enter."""
    watch, main = Watch(Path(checkout)), importlib.import_module("cli.__main__").main
    sys.argv = ["vqtok", *words]
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        main()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        Path(out).write_text(json.dumps([list(watch.entered), list(watch.pairs)]), "utf-8")


@dataclass(frozen=True)
class Run:
    """What a command entered, in order, and who called whom."""

    entered: list[str]
    pairs: list[tuple[str, str]]


def run(checkout: Path, folder: Path, *words: str) -> Run:
    """Run `vqtok` of a checkout in a process of its own."""
    out = folder / "calls.json"
    code = f"import runpy; runpy.run_path({__file__!r})['watched']({str(checkout)!r}, {str(out)!r}, {words!r})"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VQTOK_")}
    environment |= {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"vqtok {words[0]} ended with {done.returncode}: {done.stderr}")
    entered, pairs = json.loads(out.read_text("utf-8"))
    if not entered:
        raise SystemExit(f"vqtok {words[0]} entered no file of {checkout}")
    return Run(entered, [(caller, callee) for caller, callee in pairs])


def runs_of(checkout: Path) -> dict[str, Run]:
    """Encode one image, decode its tokens, train for three steps."""
    with tempfile.TemporaryDirectory() as name:
        folder, random = Path(name), np.random.default_rng(0)
        images, tokens = folder / "images", str(folder / "tokens.safetensors")
        images.mkdir()
        for number in range(_IMAGES):
            Image.fromarray(random.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)).save(images / f"{number}.png")
        model, device = ("-m", "photo-f8"), ("--device", "cpu")
        budget = ("--steps", "3", "--image-size", "32", "--batch-size", "4", "--workers", "1")
        return {
            "encode": run(checkout, folder, "encode", str(images / "0.png"), "-o", tokens, *model, *device),
            "decode": run(checkout, folder, "decode", tokens, "-o", str(folder / "back"), *model, *device),
            "train": run(checkout, folder, "train", str(images), "-o", str(folder / "run"), *budget, *device),
        }


def reach_of(arrows: Arrows) -> Arrows:
    """Return for each room those that it imports at any distance: itself, where it lies in a circle."""
    reach = {room: set(there) for room, there in arrows.items()}
    for middle, room in itertools.product(reach, reach):
        if middle in reach[room]:
            reach[room] |= reach[middle]
    return reach


def heights_of(reach: Arrows) -> dict[str, int]:
    """Return for each room the length of the longest chain of imports below it; a circle is one link."""

    @functools.cache
    def height(room: str) -> int:
        return max((1 + height(there) for there in reach[room] if room not in reach[there]), default=0)

    return {room: height(room) for room in reach}


def floors_of(checkout: Path, rooms: Iterable[str]) -> dict[str, int] | None:
    """Return the floor of each room in `tests/test_floors.py`; None where it does not say them all."""
    file = checkout / "tests" / "test_floors.py"
    for node in ast.parse(file.read_text("utf-8")).body if file.exists() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            floors = {name: number for number, names in enumerate(ast.literal_eval(node.value)) for name in names}
            found = {room: floors.get(room.removeprefix("tokenizer.")) for room in rooms if room != "benchmarks"}
            found["tokenizer"] = floors.get("__init__")
            said = {room: floor for room, floor in found.items() if floor is not None}
            return said if said.keys() == found.keys() else None
    return None


def climbs(pairs: Iterable[tuple[str, str]], room: Mapping[str, str], reach: Arrows) -> list[str]:
    """Return the pairs of files that call back up."""
    return sorted(
        f"{caller} > {callee}"
        for caller, callee in pairs
        if room[caller] in reach[room[callee]] and room[callee] not in reach[room[caller]] | {room[caller]}
    )


def steps_up(entered: Sequence[str], room: Mapping[str, str], heights: Mapping[str, int]) -> int:
    """Return how often the next file entered first lies higher than the last."""
    return sum(heights[room[after]] > heights[room[before]] for before, after in itertools.pairwise(entered))
