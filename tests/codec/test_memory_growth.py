"""What is held while millions of images go through."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from tokenizer import codec
from tokenizer.images import Source
from tokenizer.models import load_checkpoint

pytestmark = pytest.mark.slow


def test_memory_does_not_grow_with_the_images(run: Path, photos: Path) -> None:
    """What is kept of a batch takes 2 kB: of 1,000 of them 2 MB."""
    many = (Source(f"{number:04d}.png", photos / "a/00.png") for number in range(1300))
    options = codec.EncodeOptions(image_size=16, resize_mode="crop", batch_size=1)
    held: list[int] = []
    tracemalloc.start()
    for number, _ in enumerate(codec.encode_images(load_checkpoint(run), many, options)):
        if number in (200, 1200):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 200_000
