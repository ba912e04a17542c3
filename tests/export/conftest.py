"""A trained tokenizer and its graphs, exported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenizer import export
from tokenizer.export import Exported
from tokenizer.models import Tokenizer, load_checkpoint


@pytest.fixture(scope="session")
def trained(run: Path) -> Tokenizer:
    return load_checkpoint(run)


@pytest.fixture(scope="session")
def exported(trained: Tokenizer) -> Exported:
    return export.to_onnx(trained, "f" * 64)
