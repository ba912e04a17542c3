"""Imports: what they cost, which door they take; and what is read in one place.

That they go down is in `pyproject.toml`, for import-linter; that the library writes to no stream there too, for ruff.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, loaded_by

FILES = {
    file.relative_to(ROOT): ast.parse(file.read_text("utf-8"))
    for package in ("tokenizer", "cli")
    for file in sorted((ROOT / package).rglob("*.py"))
}
WITHOUT_TORCH = [
    *("tokenizer.tokens", "tokenizer.images", "tokenizer.inputs", "tokenizer.metrics", "tokenizer.report"),
    "cli.app",
]
ONE_READER = {
    "sys.argv": "cli/command_line.py",
    "RANK": "tokenizer/runtime/launcher.py",
    "WORLD_SIZE": "tokenizer/runtime/launcher.py",
    "LOCAL_RANK": "tokenizer/runtime/launcher.py",
    "TORCHELASTIC_RUN_ID": "tokenizer/runtime/launcher.py",
    "TORCHELASTIC_RESTART_COUNT": "tokenizer/runtime/launcher.py",
}


def own_imports(tree: ast.Module) -> Iterator[tuple[str, ast.alias]]:
    """Yield the module and the name of each import of ours, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and is_ours(node.module or ""):
            yield from ((node.module or "", alias) for alias in node.names)


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("tokenizer", "cli")


def test_torch_is_loaded_when_it_is_needed() -> None:
    loaded = loaded_by(WITHOUT_TORCH)
    assert set(WITHOUT_TORCH) <= loaded
    assert not loaded & {"torch", "torchvision", "torchmetrics"}


@pytest.mark.parametrize("package", ["tokenizer", "cli"])
def test_a_room_is_entered_by_its_door(package: str) -> None:
    past = set()
    for file, tree in FILES.items():
        for module, _ in own_imports(tree):
            there = module.split(".")
            inside = there[0] == "tokenizer" and len(there) > 2 and tuple(there[:2]) != file.with_suffix("").parts[:2]
            if file.parts[0] == package and inside:
                past.add(f"{file.as_posix()}: {module}")
    assert not past


def test_our_names_keep_their_names() -> None:
    assert not {
        f"{file.as_posix()}: {module} {alias.name} as {alias.asname}"
        for file, tree in FILES.items()
        for module, alias in own_imports(tree)
        if alias.asname is not None
    }


@pytest.mark.parametrize("word", ONE_READER)
def test_one_place_reads(word: str) -> None:
    readers = set()
    for file, tree in FILES.items():
        for node in ast.walk(tree):
            said = node.value if isinstance(node, ast.Constant) else None
            if said == word or (isinstance(node, ast.Attribute) and ast.unparse(node) == word):
                readers.add(file.as_posix())
    assert readers == {ONE_READER[word]}


def test_the_library_hands_on_no_builtin_that_prints_or_asks() -> None:
    """`print` as a value, and `input`, are what ruff does not see."""
    for file, tree in FILES.items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert file.parts[0] == "cli" or not names & {"print", "input"}, file
