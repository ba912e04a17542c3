"""A finished comparison, small enough to share: two methods, two seeds, 12 steps each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tokenizer import compare
from tokenizer.compare import Comparison, Entry, EntryResult
from tokenizer.compare.measures import EntryCurves, EntryFigures, Points, SoftFigures
from tokenizer.config import TrainConfig
from tokenizer.quantizers import read_spec

Prepare = Callable[..., Comparison]


@pytest.fixture(scope="session")
def prepare(photos: Path, quick: TrainConfig) -> Prepare:
    """Make the comparison of some quantizers on drawn pictures, 32 codes each."""

    def make(folder: Path, names: Sequence[str], seeds: Sequence[int] = (0,), **settings: Any) -> Comparison:
        config = dataclasses.replace(quick, **{"eval_every": 4, **settings})
        return compare.prepare_comparison(config, [photos], [read_spec(name) for name in names], seeds, folder, 32)

    return make


def run(entry: Entry) -> EntryResult:
    """Train an entry to its end."""
    for _ in compare.train_entry(entry):
        pass
    return compare.result_of_entry(entry)


@pytest.fixture(scope="session")
def finished(prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[EntryResult]]:
    """The comparison of `ema` and `gumbel` with seeds 0 and 4, and the results of its entries."""
    comparison = prepare(tmp_path_factory.mktemp("compare") / "out", ["ema", "gumbel"], [0, 4])
    return comparison, [run(entry) for entry in comparison.entries]


def made(
    label: str,
    seed: int,
    psnr: float | None,
    *,
    curve: Points = ((4.0, 10.0), (12.0, 20.0)),
    soft: SoftFigures | None = None,
    **figures: Any,
) -> EntryResult:
    """A result written by hand."""
    values = {
        "ssim": 0.5,
        "bits_per_position": 5.0,
        "bits_per_pixel": 5 / 64,
        "used": 0.75,
        "perplexity": 20.0,
        "tokens": 10_000,
        "effective_rank": 3.0,
        "loss_steadiness": 0.1,
        "reached": 0.5,
        "seconds_per_step": 0.01,
        "cpu_seconds_per_step": 0.02,
        "peak_memory_mb": None,
    }
    return EntryResult(
        quantizer=label,
        seed=seed,
        settings={"quantizer": {"name": label}, "network": {"latent_dim": 4}},
        train_images="",
        validation_images="",
        multiple=8,
        steps=12,
        seconds=1.0,
        skipped=0,
        codebook_sizes=(32,),
        figures=EntryFigures(psnr=psnr, **(values | figures)),
        soft=soft,
        curves=EntryCurves(curve, curve, curve, curve),
        machine={"torch": "2"},
    )
