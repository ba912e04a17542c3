"""One entry: its result, its resumption, its failures."""

from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.compare.conftest import Prepare, run
from tests.conftest import draw, save
from tokenizer import compare
from tokenizer.compare import Comparison, EntryResult
from tokenizer.compare.entry import validation_images
from tokenizer.compare.entry_result import read_result
from tokenizer.compare.measures import measure_model
from tokenizer.errors import CheckpointError, InputError, TrainingError
from tokenizer.models import load_checkpoint
from tokenizer.train.step import Learner

Finished = tuple[Comparison, list[EntryResult]]
COSTS = {"seconds_per_step": None, "cpu_seconds_per_step": None, "peak_memory_mb": None}


@pytest.fixture
def copied(finished: Finished, prepare: Prepare, tmp_path: Path) -> Comparison:
    """The finished comparison, in a folder of this test's own."""
    shutil.copytree(finished[0].folder / "runs", tmp_path / "out/runs")
    return prepare(tmp_path / "out", ["ema", "gumbel"], [0, 4])


def test_a_result_says_what_was_measured(finished: Finished) -> None:
    comparison, results = finished
    entry, result = comparison.entries[0], results[0]
    assert (result.quantizer, result.seed, result.steps) == ("ema", 0, 12)
    assert result.figures.bits_per_position == 5
    assert result.figures.bits_per_pixel == pytest.approx(5 / 64)
    assert result.codebook_sizes == (32,)
    assert result.settings["quantizer"]["codebook_size"] == 32
    assert result.soft is None
    assert results[1].soft is not None
    measured = measure_model(load_checkpoint(entry.folder), validation_images(entry))
    assert result.figures.psnr == pytest.approx(measured.psnr)
    assert result.figures.used == measured.used
    flat = measured.flat.figures()
    assert {key: getattr(result.figures, key) for key in flat} == pytest.approx(flat)
    assert 0 < (result.figures.reached or 0) <= 1
    assert results[1].figures.reached == 1
    assert all(result.figures.cpu_seconds_per_step for result in results)


def test_what_an_entry_leaves(finished: Finished) -> None:
    for entry in finished[0].entries:
        names = {path.name for path in entry.folder.iterdir()}
        assert names == {
            "best",
            "config.json",
            "validation.txt",
            "metrics.jsonl",
            "model.safetensors",
            "pictures",
            "result.json",
        }
    assert json.loads((finished[0].entries[0].folder / "result.json").read_text())["version"] == 2


def test_seeds_differ_and_are_repeatable(finished: Finished, prepare: Prepare, tmp_path: Path) -> None:
    _, results = finished
    again = run(prepare(tmp_path, ["ema"], [4]).entries[0])
    assert dataclasses.replace(again.figures, **COSTS) == dataclasses.replace(results[2].figures, **COSTS)
    assert again.curves == results[2].curves
    assert results[0].figures.psnr != results[2].figures.psnr


@pytest.mark.parametrize("stop_at", [2, 9])
def test_interrupted_then_resumed_equals_uninterrupted(
    finished: Finished, prepare: Prepare, tmp_path: Path, stop_at: int
) -> None:
    """Stopped before and after the codebook is placed."""
    whole = finished[1][1]
    entry = prepare(tmp_path, ["gumbel"]).entries[0]
    steps = compare.train_entry(entry)
    assert list(islice(steps, stop_at))[-1].step == stop_at
    steps.close()
    assert read_result(entry.folder) is None
    torch.manual_seed(77)
    parts = run(entry)
    assert dataclasses.replace(parts.figures, **COSTS) == dataclasses.replace(whole.figures, **COSTS)
    assert (parts.curves, parts.soft, parts.steps) == (whole.curves, whole.soft, whole.steps)


def test_finished_entries_are_reused(copied: Comparison, finished: Finished) -> None:
    found = compare.finished_entries(copied)
    assert [found[entry.folder] for entry in copied.entries] == finished[1]
    (copied.entries[1].folder / "result.json").unlink()
    (copied.entries[2].folder / "model.safetensors").unlink()
    assert list(compare.finished_entries(copied)) == [copied.entries[0].folder, copied.entries[3].folder]


def test_threads_and_savings_may_differ(copied: Comparison, prepare: Prepare) -> None:
    other = prepare(copied.folder, ["ema"], [0], workers=2, save_every=9.0)
    assert len(compare.finished_entries(other)) == 1


def test_other_settings_are_named_with_both_values(copied: Comparison, prepare: Prepare) -> None:
    other = prepare(copied.folder, ["ema", "gumbel", "ste"], [0, 4, 5], steps=40, lr=0.5)
    with pytest.raises(InputError) as refused:
        compare.finished_entries(other)
    assert str(refused.value) == (
        "cannot resume with other settings: steps was 12, now 40 (ema with seed 0 and 3 more); lr was 0.002, now 0.5 "
        "(ema with seed 0 and 3 more): pass those of before, or another output"
    )


def test_the_quantizer_s_settings_count_too(copied: Comparison, prepare: Prepare, photos: Path) -> None:
    config = copied.entries[0].plan.config
    other = compare.prepare_comparison(config, [photos], [{"name": "ema"}], [0], copied.folder, 64)
    with pytest.raises(InputError, match=r"quantizer\.codebook_size was 32, now 64 \(ema with seed 0\)"):
        compare.finished_entries(other)


def test_an_unfinished_entry_keeps_its_settings(prepare: Prepare, tmp_path: Path) -> None:
    steps = compare.train_entry(prepare(tmp_path, ["residual(2*ste)"]).entries[0])
    next(steps)
    steps.close()
    assert compare.finished_entries(prepare(tmp_path, ["residual(2*ste)"])) == {}
    with pytest.raises(InputError, match="batch_size was 8, now 4"):
        compare.finished_entries(prepare(tmp_path, ["residual(2*ste)"], batch_size=4))


def test_other_images_are_refused(copied: Comparison, photos: Path, tmp_path: Path) -> None:
    config = copied.entries[0].plan.config
    for data, said in (([photos / "a", photos / "b"], "training"), ([photos], "validation")):
        other = compare.prepare_comparison(config, data, [{"name": "ema"}], [0], copied.folder, 32)
        if said == "validation":
            plan = dataclasses.replace(other.entries[0].plan, validation=other.entries[0].plan.validation[1:])
            other = dataclasses.replace(other, entries=(dataclasses.replace(other.entries[0], plan=plan),))
        with pytest.raises(InputError, match=f"the {said} images are not those of before"):
            compare.finished_entries(other)
    plan = dataclasses.replace(copied.entries[0].plan, multiple=16)
    other = dataclasses.replace(copied, entries=(dataclasses.replace(copied.entries[0], plan=plan),))
    with pytest.raises(InputError, match="sides of multiples of 8, now of 16"):
        compare.finished_entries(other)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot read .*result.json: .*: delete it to train this entry again"),
        ("[]", "cannot read"),
        ('{"version": 2, "seed": 0}', "cannot read"),
        (
            '{"version": 1, "seed": 0}',
            "format version 1, this vqtok reads 2: an older vqtok finished this entry: delete",
        ),
        ('{"version": 3}', "format version 3, this vqtok reads 2: upgrade vqtok"),
    ],
)
def test_a_damaged_result(copied: Comparison, text: str, said: str) -> None:
    (copied.entries[0].folder / "result.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        compare.finished_entries(copied)


def test_an_entry_that_has_not_finished_has_no_result(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this entry has not finished"):
        compare.result_of_entry(prepare(tmp_path, ["ste"]).entries[0])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: pass a smaller --batch-size"),
        (MemoryError(), "out of memory"),
        (torch.linalg.LinAlgError("linalg.svd: did\n not converge"), "linalg.svd: did not converge"),  # type: ignore[attr-defined]
        (TrainingError("not finite"), "not finite"),
    ],
)
def test_an_entry_that_cannot_go_on_says_why(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def learn(*_: Any, **__: Any) -> None:
        raise error

    entry = prepare(tmp_path, ["ste"]).entries[0]
    monkeypatch.setattr(Learner, "step", learn)
    with pytest.raises(TrainingError, match=said):
        run(entry)
    assert read_result(entry.folder) is None


def test_a_mistake_of_ours_is_not_hidden(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Learner, "step", learn)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(prepare(tmp_path, ["ste"]).entries[0])


def test_clearing_removes_entries_and_nothing_else(copied: Comparison) -> None:
    (copied.folder / "runs/mine").mkdir()
    (copied.folder / "runs/mine/seed1").mkdir()
    (copied.folder / "runs/mine/seed1/notes.txt").write_text("mine")
    (copied.folder / "notes.txt").write_text("mine")
    compare.clear_entries(copied.folder)
    left = sorted(path.relative_to(copied.folder).as_posix() for path in copied.folder.rglob("*") if path.is_file())
    assert left == ["notes.txt", "runs/mine/seed1/notes.txt"]
    compare.clear_entries(copied.folder / "nowhere")


def test_held_out_pictures_are_spread_over_the_set(finished: Finished) -> None:
    entry = finished[0].entries[0]
    every = validation_images(entry)
    assert sum(map(len, every)) == 4
    assert sum(map(len, validation_images(entry, 9))) == 4
    two = np.concatenate([batch.numpy().ravel() for batch in validation_images(entry, 2)])
    sources = entry.plan.validation
    chosen = dataclasses.replace(entry, plan=dataclasses.replace(entry.plan, validation=(sources[0], sources[2])))
    assert np.array_equal(two, np.concatenate([b.numpy().ravel() for b in validation_images(chosen)]))


def test_unreadable_images_are_told_once_and_left_out(prepare: Prepare, tmp_path: Path, photos: Path) -> None:
    shutil.copytree(photos, tmp_path / "in")
    (tmp_path / "in/bad.png").write_text("no image")
    save(tmp_path / "val/good.png", draw(32, 32, 1))
    (tmp_path / "val/bad.png").write_text("no image")
    config = prepare(tmp_path, ["ste"]).entries[0].plan.config
    config = dataclasses.replace(config, val_data=str(tmp_path / "val"), val_images=None, steps=4)
    entry = compare.prepare_comparison(config, [tmp_path / "in"], [{"name": "ste"}], [0], tmp_path / "out", 8).entries[
        0
    ]
    told = [name for step in compare.train_entry(entry) for name, _ in step.unreadable]
    assert sorted(told) == ["bad.png", "bad.png"] or told == ["bad.png"]
    assert compare.result_of_entry(entry).figures.tokens == 16
