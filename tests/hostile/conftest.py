"""Shared by the tests of files that mean harm."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nothing may be written to, with a file in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "rows").write_bytes(b"mine")
    return folder


def untouched(folder: Path) -> bool:
    """Return whether it holds what it did."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} == {"rows": b"mine"}
