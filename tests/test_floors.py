"""The house: who imports whom, what importing costs, and that the library never prints."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("errors", "contexts", "profiles", "tensor_files", "_version"),
    ("files", "shipped", "colors", "opening", "settings", "runtime", "memory", "search", "weight_files"),
    ("config", "images", "file_names", "losses", "perceptual"),
    ("inputs", "placement", "metrics", "pages", "network", "quantizers"),
    ("token_files", "model"),
    ("checkpoint", "data", "datasets", "token_folders", "token_images", "pictures"),
    ("train", "codec", "export", "loading"),
    ("evaluate", "compare", "outputs"),
    ("__init__",),  # the front door of the library
    ("cli",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(file for folder in ("tokenizer", "cli") for file in (ROOT / folder).rglob("*.py"))
WITHOUT_TORCH = [
    f"tokenizer.{name}" for name in ("token_files", "token_images", "images", "inputs", "metrics", "checkpoint")
]


def room(parts: tuple[str, ...]) -> str:
    """The module or package directly under `tokenizer`, or `cli`."""
    return parts[0] if parts[0] == "cli" else parts[1]


def imported(file: Path) -> Iterator[tuple[str, ...]]:
    """Yield the dotted parts of every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            base = tuple((node.module or "").split("."))
            # `from tokenizer import codec` names a module, `from tokenizer.codec import encode` does not.
            yield from ((*base, alias.name) for alias in node.names) if base == ("tokenizer",) else [base]


def parts_of(file: Path) -> tuple[str, ...]:
    return file.relative_to(ROOT).with_suffix("").parts


def show(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_every_module_has_a_floor() -> None:
    assert {room(parts_of(file)) for file in FILES} == set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=show)
def test_imports_go_down(file: Path) -> None:
    here = room(parts_of(file))
    for parts in imported(file):
        if parts[0] not in ("tokenizer", "cli"):
            continue
        there = room(parts)
        assert there == here or FLOOR[there] < FLOOR[here], f"{here} imports {there}, which is not on a lower floor"


@pytest.mark.parametrize("file", FILES, ids=show)
def test_only_the_command_line_knows_its_libraries(file: Path) -> None:
    if parts_of(file)[0] == "tokenizer":
        assert not {parts[0] for parts in imported(file)} & {"typer", "rich", "click", "argparse"}


@pytest.mark.parametrize("file", FILES, ids=show)
def test_the_library_never_prints(file: Path) -> None:
    if parts_of(file)[0] == "cli":
        return
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        assert not (isinstance(node, ast.Name) and node.id in ("print", "input")), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr not in ("stdout", "stderr", "stdin", "exit"), f"line {node.lineno}"


def loaded_by(modules: list[str]) -> set[str]:
    """The modules that a fresh Python holds after importing these."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_torch_is_loaded_when_it_is_needed() -> None:
    loaded = loaded_by([*WITHOUT_TORCH, "tokenizer.report", "cli.app"])
    assert {"tokenizer.report", "cli.app"} <= loaded
    assert not loaded & {"torch", "torchvision", "torchmetrics"}
