"""Tokens and pictures made in memory, one image at a time: what the commands must agree with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokenizer.images import placement_of
from tokenizer.models import Tokenizer, fingerprint_of, load_checkpoint, to_pixels, to_unit_range
from tokenizer.tokens import Header, ImageRecord, TokenSet


@lru_cache
def model_of(run: Path) -> Tokenizer:
    """Return the tokenizer of a run."""
    return load_checkpoint(run)


@lru_cache
def tokens_of(run: Path, photos: Path) -> TokenSet:
    """Return the tokens of all images of a folder, at their own sizes, sorted by name."""
    model, records, grids = model_of(run), [], []
    for path in sorted(photos.rglob("*.png"), key=lambda path: path.parts):
        original = pixels(path)
        placement = placement_of(original.shape[:2], "none", None, model.downsample)
        canvas = torch.from_numpy(placement.apply(original)[None])
        with torch.inference_mode():
            grids.append(model.encode(to_unit_range(canvas))[0].numpy())
        records.append(ImageRecord(path.relative_to(photos).as_posix(), grids[-1].shape[:2], placement))
    header = Header(fingerprint_of(run), model.codebook_sizes, model.downsample, {"device": "cpu"})
    return TokenSet(header, tuple(records), tuple(grids))


def decoded(run: Path, grid: np.ndarray) -> np.ndarray:
    """Return the (H, W, 3) picture of one (h, w, C) grid."""
    twice = np.stack([grid, grid]).astype(np.int64)  # torch rounds one small image alone differently
    with torch.inference_mode():
        return to_pixels(model_of(run).decode(torch.from_numpy(twice)))[0].numpy()


@lru_cache
def pictures_of(run: Path, photos: Path) -> dict[str, np.ndarray]:
    """Return what must come back of each image of a folder."""
    tokens = tokens_of(run, photos)
    made = {}
    for record, grid in zip(tokens.images, tokens.grids, strict=True):
        height, width = pixels(photos / record.name).shape[:2]
        made[record.name] = decoded(run, grid)[:height, :width]
    return made


def pixels(path: Path) -> np.ndarray:
    """Return the (H, W, 3) pixels of an image file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def tree(folder: Path) -> dict[str, np.ndarray]:
    """Return the pixels of each image below a folder, by its relative path."""
    return {path.relative_to(folder).as_posix(): pixels(path) for path in folder.rglob("*.*") if path.is_file()}


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    """Return whether two sets of pictures have the same names and pixels."""
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
