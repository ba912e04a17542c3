"""What a checkout is made of, in counts: doors, rooms, arrows, names used twice, files that a command enters.

    python -m benchmarks.structure                     # the checkout that this file lies in
    python -m benchmarks.structure ../before --json    # another one, with the files that each command enters

A room is a module or package directly under `tokenizer/` with all that lies in it, `tokenizer/__init__`, or all of one
of the folders beside it (`cli/`, `vqtok/`, `benchmarks/`, `robustness/`; those that there are). Imports are read from
the source, those in functions, under TYPE_CHECKING and in a stub beside a file too; `from tokenizer import x` names the
room `x` where there is one.

doors: rooms under `tokenizer/` without `__init__` and `_version`. arrows: pairs of a room and another one that it
imports. circles: rooms that import each other, at any distance. modules of cli: its files but `__init__`.

Only of `tokenizer/`, `cli/` and `vqtok/`: names twice or more, which are public functions and classes at the top of a
module, and files but `__init__` and `__main__`, with the number of files that have them. aliases: names of the project
that an import binds to another name. past `__init__`: names that a file imports from a module within a package of
`tokenizer/` that is another room, or such a module that the package's `__init__` does not bind or list in `__all__`.

A command enters a file when it calls a function that the file defines, from any file and in any thread; what runs
before `cli.__main__.main` does not count. climbs: pairs of a file and one it calls, itself or by way of a library, in a
room that imports the caller's, at any distance, while the caller's does not import that one. steps up: in the order in
which files are first entered, how often the next one lies in a higher room than the last, by the longest chain of
imports below it.
"""

from __future__ import annotations

import argparse
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
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
from PIL import Image

SHIPPED = ("tokenizer", "cli", "vqtok")
BESIDE = ("benchmarks", "robustness")
Arrows = Mapping[str, set[str]]

_SIDE, _IMAGES = 64, 8
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINED = (*_FUNCTIONS, ast.ClassDef)


@dataclass(frozen=True)
class Module:
    """A source file with its stub: its dotted name, that of the package for `__init__`, its path in the checkout."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The name of its room; that of `tokenizer/__init__` is `tokenizer`."""
        return room_of(self.name)

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__`."""
        return self.path.stem == "__init__"

    @functools.cached_property
    def bound(self) -> set[str]:
        """The names that its statements bind, and those in `__all__`."""
        return {name for node in outer(self.tree) for name in bound_by(node)}


@dataclass(frozen=True)
class Import:
    """A name that a file imports: from which module of the project, and what it is called there and here."""

    here: Module
    there: Module
    name: str
    alias: str | None

    def __str__(self) -> str:
        """Return the file, what it imports, and the other name."""
        name = ".".join(filter(None, [self.there.name, self.name]))
        return f"{self.here.path.as_posix()}: {name}" + (f" as {self.alias}" if self.alias else "")


def room_of(name: str) -> str:
    """Return the room of a module."""
    first, *rest = name.split(".")
    return ".".join([first, *rest[:1]]) if first == "tokenizer" else first


def outer(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and those in it, but not what lies in functions and classes."""
    yield node
    if not isinstance(node, _DEFINED):
        for child in ast.iter_child_nodes(node):
            yield from outer(child)


def bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node of an `__init__` makes part of it."""
    if isinstance(node, _DEFINED):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets):
        yield from (str(word.value) for word in ast.walk(node.value) if isinstance(word, ast.Constant))


def modules_of(checkout: Path) -> dict[str, Module]:
    """Return the modules of a checkout by name."""
    found = {}
    for path in sorted(file for package in (*SHIPPED, *BESIDE) for file in (checkout / package).rglob("*.py")):
        short = path.relative_to(checkout)
        name = ".".join((short.parent if short.stem == "__init__" else short.with_suffix("")).parts)
        texts = [file.read_text("utf-8") for file in (path, path.with_suffix(".pyi")) if file.exists()]
        found[name] = Module(name, short, ast.parse("\n".join(texts)))
    return found


def imports_of(here: Module, modules: Mapping[str, Module]) -> Iterator[Import]:
    """Yield each name of the project that a file imports."""
    for node in ast.walk(here.tree):
        if isinstance(node, ast.Import):
            yield from (Import(here, modules[a.name], "", a.asname) for a in node.names if a.name in modules)
        elif isinstance(node, ast.ImportFrom) and (base := modules.get(origin(here, node))):
            for alias in node.names:
                module = modules.get(f"{base.name}.{alias.name}")
                if module and (base.name == "tokenizer" or alias.name not in base.bound):
                    yield Import(here, module, "", alias.asname)
                else:
                    yield Import(here, base, alias.name, alias.asname)


def origin(here: Module, node: ast.ImportFrom) -> str:
    """Return the full name of the module that `from ... import` names."""
    parts = here.name.split(".") + ["__init__"] * here.is_package
    return ".".join([*parts[: -node.level], *filter(None, [node.module])]) if node.level else node.module or ""


def is_past(one: Import) -> bool:
    """Return whether an import reaches past the `__init__` of another room."""
    inside = one.there.name.startswith("tokenizer.") and one.there.name != one.there.room
    return inside and one.here.room != one.there.room


def is_renamed(one: Import) -> bool:
    """Return whether an import gives another name."""
    return one.alias not in (None, one.name or one.there.name.rpartition(".")[2])


def arrows_of(imports: Iterable[Import], rooms: Iterable[str]) -> Arrows:
    """Return for each room the others that it imports."""
    arrows: dict[str, set[str]] = {room: set() for room in rooms}
    for one in imports:
        arrows[one.here.room] |= {one.there.room} - {one.here.room}
    return arrows


def repeated(modules: Iterable[Module], names: Callable[[Module], Iterable[str]]) -> list[str]:
    """Return the names that several modules have, each with the number of modules, the most frequent first."""
    counts = Counter(name for module in modules for name in set(names(module)))
    return [f"{name} x{n}" for name, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if n > 1]


def public(module: Module, *kinds: type[ast.AST]) -> list[str]:
    """Return the public names that such statements at the top of a module define."""
    found = (node.name for node in module.tree.body if isinstance(node, _DEFINED) and isinstance(node, kinds))
    return [name for name in found if not name.startswith("_")]


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


@dataclass(frozen=True)
class Found:
    """Counts, and the lists behind them."""

    counts: dict[str, int]
    lists: dict[str, list[str]]

    def add(self, name: str, entries: list[str]) -> None:
        """Take a list, and the number of its entries as a count."""
        self.lists[name], self.counts[name] = entries, len(entries)


def source(modules: Mapping[str, Module], imports: Sequence[Import], arrows: Arrows, reach: Arrows) -> Found:
    """Return what is read from the source alone."""
    doors = {room for room in reach if room.startswith("tokenizer.") and room != "tokenizer._version"}
    alone = sum(room in modules and not modules[room].is_package for room in doors)
    shipped = [module for module in modules.values() if module.path.parts[0] in SHIPPED]
    circles = {frozenset(there for there in reach[room] if room in reach[there]) for room in reach} - {frozenset()}
    counts: dict[str, int] = {
        "doors": len(doors),
        "doors that are modules": alone,
        "doors that are packages": len(doors) - alone,
        "rooms": len(reach),
        "arrows": sum(map(len, arrows.values())),
        "rooms in circles": sum(map(len, circles)),
        "modules of cli": sum(module.room == "cli" and not module.is_package for module in shipped),
    }
    found, own = Found(counts, {}), [one for one in imports if one.here.path.parts[0] in SHIPPED]
    found.add("circles", sorted(" <> ".join(sorted(circle)) for circle in circles))
    found.add("function names twice or more", repeated(shipped, lambda it: public(it, *_FUNCTIONS)))
    found.add("class names twice or more", repeated(shipped, lambda it: public(it, ast.ClassDef)))
    found.add("file names twice or more", repeated(shipped, lambda it: {it.path.stem} - {"__init__", "__main__"}))
    found.add("aliases on import", sorted(str(one) for one in own if is_renamed(one)))
    found.add("imports past a package's __init__", sorted(str(one) for one in own if is_past(one)))
    return found


def measure(checkout: Path) -> Found:
    """Return all counts of a checkout."""
    modules = modules_of(checkout)
    imports = [one for module in modules.values() for one in imports_of(module, modules)]
    arrows = arrows_of(imports, sorted({module.room for module in modules.values()}))
    reach, runs = reach_of(arrows), runs_of(checkout)
    found = source(modules, imports, arrows, reach)
    for name, run in runs.items():
        found.add(f"files entered by {name}", run.entered)
    room = {module.path.as_posix(): module.room for module in modules.values()}
    decode = runs["decode"]
    found.add("climbs back up in decode", climbs(decode.pairs, room, reach))
    found.counts["steps up in decode"] = steps_up(decode.entered, room, heights_of(reach))
    return found


def show(found: Found) -> None:
    """Print the counts as a table, then the lists but those of entered files."""
    width = max(map(len, found.counts))
    for name, count in found.counts.items():
        print(f"{name:{width}}  {count:>5}")
    for name, entries in found.lists.items():
        if entries and not name.startswith("files entered"):
            short = name.endswith("twice or more")
            text = textwrap.fill(", ".join(entries), 116, break_on_hyphens=False) if short else "\n".join(entries)
            print(f"\n{name}:\n{textwrap.indent(text, '    ')}")


def main() -> None:
    """Print what a checkout is made of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true", help="one object: counts and lists")
    arguments = parser.parse_args()
    found = measure(arguments.checkout.resolve())
    if arguments.json:
        print(json.dumps({"counts": found.counts, "lists": found.lists}, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
