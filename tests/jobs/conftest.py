"""Encoding jobs on the drawn photographs, with a network that was hardly trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tokenizer import codec, inputs
from tokenizer.errors import ImageError
from tokenizer.images import Source
from tokenizer.jobs import EncodeJob, Outcome
from tokenizer.models import LoadedModel, Tokenizer, load_checkpoint, load_model


@pytest.fixture(scope="session")
def model(run: Path) -> Tokenizer:
    return load_checkpoint(run)


@pytest.fixture(scope="session")
def loaded(run: Path) -> LoadedModel:
    return load_model(run, "cpu")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchrun outside."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def job(model: Tokenizer) -> Callable[..., EncodeJob]:
    """Make a job: `options` of the encoding, and anything else that a job has."""

    def make(file_format: str = "safetensors", options: dict[str, Any] | None = None, **rest: Any) -> EncodeJob:
        chosen = codec.EncodeOptions(**(options or {}))
        return EncodeJob(model, chosen, codec.token_header(model, "f" * 64, chosen), file_format, **rest)

    return make


@pytest.fixture
def sources(photos: Path) -> inputs.Listing:
    return inputs.find_images([photos])


def stopped(outcomes: Generator[Outcome], after: int) -> None:
    """Take some outcomes, and leave then."""
    assert len(list(itertools.islice(outcomes, after))) == after
    outcomes.close()


def broken(name: str = "broken.png") -> Source:
    """An image that cannot be read."""

    def read() -> bytes:
        raise ImageError("it is broken")

    return Source(name, read)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
