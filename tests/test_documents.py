"""The documents: every file, test and command that they name exists, and their Python imports what there is."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "checkpoints/*/*.md")
    for path in ROOT.glob(pattern)
)
PLACES = "tokenizer|cli|tests|benchmarks|robustness|examples|docs|checkpoints"


def text_of(document: Path) -> str:
    return (ROOT / document).read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_files_exist(document: Path) -> None:
    named = re.findall(rf"(?<![\w/.])(?:{PLACES})/[\w/.*-]*\w", text_of(document))
    assert not [path for path in named if not [*ROOT.glob(path)]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_exist(document: Path) -> None:
    named = re.findall(r"-m ((?:benchmarks|robustness)\.\w+)", text_of(document))
    assert not [name for name in named if not (ROOT / f"{name.replace('.', '/')}.py").exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_tests_exist(document: Path) -> None:
    """A test is `path::name` or `path::Class::name`; `::name` alone is one of the path before it."""
    missing, path = [], ""
    for place, names in re.findall(r"(tests/[\w/]+\.py)?((?:::\w+)+)", text_of(document)):
        path = place or path
        text = (ROOT / path).read_text("utf-8")
        missing += [
            f"{path}::{name}" for name in names.split("::")[1:] if not re.search(rf"(def|class) {name}\b", text)
        ]
    assert not missing


def test_python_in_the_readme_imports_what_there_is() -> None:
    for block in re.findall(r"```python\n(.*?)```", text_of(Path("README.md")), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("tokenizer", "cli"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")
