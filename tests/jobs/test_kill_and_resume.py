"""kill -9 at random moments, again and again: what is resumed is what an undisturbed run writes, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.conftest import draw, save
from tests.jobs.conftest import files_of
from tests.killing import is_killed
from tokenizer import codec, inputs
from tokenizer.jobs import EncodeJob, Outcome, encode_to_file, encode_to_shards, encode_to_tree, shard_pieces
from tokenizer.models import load_checkpoint
from tokenizer.tokens import journal

pytestmark = pytest.mark.slow

KILLS = 20


def outcomes(kind: str, run: Path, images: Path, folder: Path) -> Generator[Outcome]:
    """Encode, or go on encoding, to one kind of output."""
    model, options = load_checkpoint(run), codec.EncodeOptions(batch_size=2)
    job = EncodeJob(model, options, codec.token_header(model, "f" * 64, options), "safetensors", existing="resume")
    sources = inputs.find_images([images])
    if kind == "shards":
        return encode_to_shards(job, shard_pieces(sources, 13), folder)
    return (
        encode_to_file(job, sources, folder / "t.safetensors")
        if kind == "file"
        else encode_to_tree(job, sources, folder)
    )


def work(kind: str, run: str, images: str, folder: str, tell: Connection) -> None:
    """Encode in a process of its own, and tell each image that was not there before."""
    journal._SECONDS = 0.02
    for outcome in outcomes(kind, Path(run), Path(images), Path(folder)):
        if not outcome.kept:
            tell.send(outcome.name)


@pytest.mark.parametrize("kind", ["file", "tree", "shards"])
def test_killed_twenty_times_and_resumed(run: Path, tmp_path: Path, kind: str) -> None:
    for number in range(300):
        save(tmp_path / "images" / f"{number:03d}.png", draw(24 + 8 * (number % 3), 32, number))
    (tmp_path / "images/050.png").write_bytes(b"no image")
    list(outcomes(kind, run, tmp_path / "images", tmp_path / "whole"))
    dice = random.Random(0)
    arguments = (kind, str(run), str(tmp_path / "images"), str(tmp_path / "killed"))
    preload = ("tokenizer.jobs", "tokenizer.models.checkpoint")
    assert sum(is_killed(work, arguments, preload, dice, (0, 3), 0.02) for _ in range(KILLS)) == KILLS
    rest = list(outcomes(kind, run, tmp_path / "images", tmp_path / "killed"))
    assert len(rest) == 300
    assert any(outcome.kept for outcome in rest)
    made = files_of(tmp_path / "killed")
    # Of one file, what was being written beside it may lie there still, under a hidden name.
    left = [name for name in made if kind == "file" and name.endswith(".tmp")]
    assert {name: data for name, data in made.items() if name not in left} == files_of(tmp_path / "whole")
