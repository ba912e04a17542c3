"""Whole comparisons from Python: what they yield and write, resuming, refusals, a generator that is closed."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from torch import Tensor

from tests.compare.conftest import Prepare
from tokenizer import compare
from tokenizer.compare import (
    Comparison,
    ComparisonReport,
    EntryBegun,
    EntryEvent,
    EntryFailed,
    EntryFinished,
    EntryKept,
    EntryResult,
    EntryStep,
)
from tokenizer.compare.entry import validation_images
from tokenizer.compare.measures import measure_lite0
from tokenizer.errors import ConfigError, InputError, OutputError, TrainingError, UsageError
from tokenizer.models import load_checkpoint
from tokenizer.train.metrics_log import Passed
from tokenizer.train.step import Learner

pytestmark = pytest.mark.slow

Finished = tuple[Comparison, list[EntryResult]]
COSTS = {"seconds_per_step": None, "cpu_seconds_per_step": None, "peak_memory_mb": None}


def split(events: Iterable[EntryEvent | ComparisonReport]) -> tuple[list[EntryEvent], ComparisonReport]:
    """Return the events but those of steps, and the report, which is the last."""
    *told, report = events
    assert isinstance(report, ComparisonReport)
    return [event for event in told if not isinstance(event, ComparisonReport | EntryStep)], report


def failing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the quantizers of these names fail in training."""
    plain = Learner.step

    def step(learner: Learner, batch: Tensor, progress: float) -> Passed | None:
        if learner.state.model.quantizer.settings["name"] in names:
            raise TrainingError("the gradient was not finite")
        return plain(learner, batch, progress)

    monkeypatch.setattr(Learner, "step", step)


def test_everything_is_trained_ranked_and_written(prepare: Prepare, finished: Finished, tmp_path: Path) -> None:
    comparison = prepare(tmp_path / "out", ["ema", "gumbel"])
    events = list(
        compare.run_comparison(comparison, csv=tmp_path / "c.csv", html=tmp_path / "c.html", command="vqtok <x>")
    )
    steps = [event.step.step for event in events if isinstance(event, EntryStep) and event.number == 1]
    assert sorted(set(steps)) == list(range(1, 13))
    told, report = split(events)
    assert [type(event) for event in told] == [EntryBegun, EntryFinished] * 2
    assert [(event.number, event.entry.label) for event in told[::2]] == [(0, "ema"), (1, "gumbel")]
    for event, before in zip(told[1::2], finished[1][:2], strict=True):
        assert isinstance(event, EntryFinished)
        assert event.seconds > 0
        assert dataclasses.replace(event.result.figures, **COSTS) == dataclasses.replace(before.figures, **COSTS)
    written = json.loads((tmp_path / "out/comparison.json").read_text())
    assert (written["command"], written["version"]) == ("vqtok <x>", 2)
    assert written["ranking"] == [row.label for row in report.ranking.ranked]
    with (tmp_path / "c.csv").open() as file:
        assert [row["quantizer"] for row in csv.DictReader(file)][:2] == written["ranking"]
    assert "<pre>vqtok &lt;x&gt;</pre>" in (tmp_path / "c.html").read_text()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"comparison.json", "curves.png", "reconstructions.png", "runs"}


@pytest.mark.parametrize("close", [lambda event: event.step.step == 7, lambda event: event.number == 1])
def test_a_closed_generator_leaves_everything_saved(
    prepare: Prepare, finished: Finished, tmp_path: Path, close: Callable[[EntryStep], bool]
) -> None:
    """Within the first entry, and at the first step of the second."""
    comparison = prepare(tmp_path / "out", ["ema", "gumbel"], [0])
    events = compare.run_comparison(comparison)
    last = next(event for event in events if isinstance(event, EntryStep) and close(event))
    events.close()
    assert not (tmp_path / "out/.lock").exists()
    resumed = compare.run_comparison(comparison, existing="resume")
    told, report = split(resumed)
    assert [isinstance(event, EntryKept) for event in told].count(True) == last.number
    assert not (tmp_path / "out/runs/ema/seed0/.lock").exists()
    by_label = {row.label: row for row in report.ranking.ranked}
    for before in finished[1][:2]:
        (result,) = by_label[before.quantizer].results
        assert dataclasses.replace(result.figures, **COSTS) == dataclasses.replace(before.figures, **COSTS)


def test_a_run_goes_on_at_the_step_where_it_was_closed(prepare: Prepare, tmp_path: Path) -> None:
    comparison = prepare(tmp_path / "out", ["ste"])
    events = compare.run_comparison(comparison)
    assert next(event for event in events if isinstance(event, EntryStep) and event.step.step == 5)
    events.close()
    begun, step, *_ = compare.run_comparison(comparison, existing="resume")
    assert isinstance(begun, EntryBegun)
    assert isinstance(step, EntryStep)
    assert step.step.step == 6


def test_what_is_finished_is_kept_or_replaced(prepare: Prepare, finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished[0].folder / "runs", tmp_path / "out/runs")
    comparison = prepare(tmp_path / "out", ["ema", "gumbel"], [0, 4])
    with pytest.raises(OutputError, match="out exists: pass --overwrite"):
        next(compare.run_comparison(comparison))
    told, report = split(compare.run_comparison(comparison, existing="resume"))
    assert [type(event) for event in told] == [EntryKept] * 4
    assert report.comparison is comparison
    other = prepare(tmp_path / "out", ["ema"], [0], steps=20)
    with pytest.raises(InputError, match=r"steps was 12, now 20 \(ema with seed 0\)"):
        next(compare.run_comparison(other, existing="resume"))
    told, _ = split(compare.run_comparison(prepare(tmp_path / "out", ["ste"], steps=4), existing="overwrite"))
    assert [type(event) for event in told] == [EntryBegun, EntryFinished]
    assert [path.name for path in (tmp_path / "out/runs").iterdir() if any(path.iterdir())] == ["ste"]


def test_what_a_classifier_sees_is_added_to_what_is_finished(
    prepare: Prepare, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0].folder / "runs", tmp_path / "out/runs")
    plain = prepare(tmp_path / "out", ["ema"], [0])
    entries = tuple(dataclasses.replace(entry, perceptual=True) for entry in plain.entries)
    _, report = split(compare.run_comparison(dataclasses.replace(plain, entries=entries), existing="resume"))
    (row,) = report.ranking.ranked
    figures = row.results[0].figures
    assert figures.lite0_distance is not None
    assert figures.lite0_distance > 0
    assert figures.recognized_alike is not None
    assert (row.figures["lite0_distance"].mean, figures.psnr) == (
        figures.lite0_distance,
        finished[1][0].figures.psnr,
    )
    assert "Lite0 distance" in [column.title for column in compare.shown_columns(report.ranking)]
    # It is kept, and not measured again.
    monkeypatch.setattr("tokenizer.compare.entry.measure_lite0", None)
    for comparison in (plain, dataclasses.replace(plain, entries=entries)):
        _, again = split(compare.run_comparison(comparison, existing="resume"))
        assert again.ranking.ranked[0].results[0].figures == figures


def test_an_entry_is_seen_by_a_classifier_as_it_finishes(prepare: Prepare, tmp_path: Path) -> None:
    plain = prepare(tmp_path / "out", ["ema"], [0], steps=2)
    entries = tuple(dataclasses.replace(entry, perceptual=True) for entry in plain.entries)
    _, report = split(compare.run_comparison(dataclasses.replace(plain, entries=entries)))
    figures = report.ranking.ranked[0].results[0].figures
    model = load_checkpoint(entries[0].folder)
    seen = dataclasses.asdict(measure_lite0(model, validation_images(entries[0])))
    assert {name: getattr(figures, name) for name in seen} == pytest.approx(seen, rel=1e-3)


def test_an_older_result_is_told_in_one_line(prepare: Prepare, finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished[0].folder / "runs", tmp_path / "out/runs")
    comparison = prepare(tmp_path / "out", ["ema"], [0])
    path = comparison.entries[0].folder / "result.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match=r"^[^\n]*has format version 1, this vqtok reads 2: an older vqtok[^\n]*$"):
        next(compare.run_comparison(comparison, existing="resume"))


def test_one_that_fails_does_not_stop_the_others(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "ste")
    comparison = prepare(tmp_path / "out", ["ste", "ema"], steps=4)
    told, report = split(compare.run_comparison(comparison))
    assert [type(event) for event in told] == [EntryBegun, EntryFailed, EntryBegun, EntryFinished]
    assert [row.kind for row in report.ranking.rows] == ["ranked", "failed"]
    failing(monkeypatch, "ste", "ema")
    events = compare.run_comparison(prepare(tmp_path / "none", ["ste", "ema"], steps=4))
    with pytest.raises(TrainingError, match="0 of 2 entries finished, the first failed: ste: the gradient was not"):
        list(events)
    assert not (tmp_path / "none/comparison.json").exists()


def test_an_unreadable_image_is_told_once(prepare: Prepare, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "in")
    (tmp_path / "in/bad.png").write_text("text")
    config = dataclasses.replace(prepare(tmp_path / "out", ["ste"]).entries[0].plan.config, val_data=str(photos / "a"))
    comparison = compare.prepare_comparison(
        config, [tmp_path / "in"], compare.parse_quantizers("ste, ema"), [0], tmp_path / "out", 32
    )
    unreadable = [
        one for event in compare.run_comparison(comparison) if isinstance(event, EntryStep) for one in event.unreadable
    ]
    assert unreadable == [("bad.png", "not an image, or of an unknown format")]


def test_outputs_are_looked_at_before_work(prepare: Prepare, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(OutputError, match="there exists: pass --overwrite"):
        compare.check_comparison_outputs(tmp_path / "out", [None, tmp_path / "there"])
    compare.check_comparison_outputs(tmp_path / "out", [None, tmp_path / "there"], existing="overwrite")
    with pytest.raises(OutputError, match="is not a folder"):
        compare.check_comparison_outputs(tmp_path / "there", existing="resume")
    with pytest.raises(UsageError, match="its pictures would be trained on, name another folder"):
        prepare(photos / "a/out", ["ste"])
    assert (tmp_path / "there").read_text() == "mine"


def test_quantizers_and_seeds_of_a_text() -> None:
    assert compare.parse_quantizers("ste(beta=1), ema") == [{"name": "ste", "beta": "1"}, {"name": "ema"}]
    with pytest.raises(ConfigError) as faults:
        compare.parse_quantizers("ste(x)y, a(b")
    assert faults.value.faults
    with pytest.raises(UsageError, match="--quantizers names none"):
        compare.parse_quantizers(" , ")
    assert (compare.parse_seeds("3"), compare.parse_seeds("0,4, 7"), compare.parse_seeds("9,")) == (
        [0, 1, 2],
        [0, 4, 7],
        [9],
    )
    for text in ("two", "0", "-1", ""):
        with pytest.raises(UsageError, match="expected how many, such as 3"):
            compare.parse_seeds(text)


def test_a_plan_is_plain_values(prepare: Prepare, tmp_path: Path) -> None:
    values = prepare(tmp_path, ["ste", "ema"], [0, 3]).to_json()
    assert [(one["quantizer"], one["seed"]) for one in values["entries"]][::3] == [("ste", 0), ("ema", 3)]
    assert values["entries"][0]["settings"]["steps"] == 12
    json.dumps(values)
