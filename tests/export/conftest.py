"""A trained tokenizer and its graphs, exported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenizer import checkpoint, export
from tokenizer.export import Exported
from tokenizer.model import Tokenizer


@pytest.fixture(scope="session")
def trained(run: Path) -> Tokenizer:
    return checkpoint.load(run)


@pytest.fixture(scope="session")
def exported(trained: Tokenizer) -> Exported:
    return export.to_onnx(trained, "f" * 64)
