"""What `vqtok train` tells before and while it trains, and runs that end early."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cli.console import Console
from cli.train import Teller, _clock
from tests.cli.conftest import Vqtok
from tests.cli.test_train import TINY
from tests.conftest import draw, save
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.train import Evaluation, Step, loop, preflight
from tokenizer.train.tensorboard import importlib

FIGURES = {
    "loss": 0.01234,
    "psnr": 21.2,
    "used": 0.97,
    "perplexity": 640.2,
    "images_per_second": 112.4,
    "waiting": 0.031,
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_tensorboard_on_request(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    arguments = ["-o", tmp_path / "run", "-c", tiny, "--steps", 4, "-q"]
    assert vqtok("train", photos, *arguments, "--log-to", "tensorboard").code == 0
    first = list((tmp_path / "run/tensorboard").iterdir())
    assert len(first) == 1
    assert vqtok("train", photos, *arguments, "-f", "--set", "log_to=tensorboard").code == 0
    second = list((tmp_path / "run/tensorboard").iterdir())
    assert len(second) == 1, "the old run's are gone"
    assert first != second
    assert vqtok("train", photos, "-o", tmp_path / "run", "--resume").code == 0, "it goes on as it began"
    assert len(list((tmp_path / "run/tensorboard").iterdir())) == 2


def test_a_run_without_tensorboard_can_go_on_with_it(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    assert vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", 4).code == 0
    assert not (tmp_path / "run/tensorboard").exists()
    more = vqtok("train", photos, "-o", tmp_path / "run", "--resume", "--log-to", "tensorboard", "--patience", 5)
    assert more.code == 0
    assert (tmp_path / "run/tensorboard").is_dir()


def test_tensorboard_that_is_not_installed(
    vqtok: Vqtok, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for arguments in (["-o", tmp_path / "run"], ["-n"]):
        result = vqtok("train", photos, "--log-to", "tensorboard", *arguments)
        assert result.code == 1
        assert result.error.startswith("vqtok train: error: tensorboard is not installed: pip install 'vqtok[tensorb")
    assert not (tmp_path / "run").exists()
    other = vqtok("train", photos, "-n", "--log-to", "wandb")
    assert other.code == 2
    assert "'wandb' is not" in other.error


def test_early_stopping(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "evaluate", lambda *_: Evaluation(psnr=20.0, used=1.0, perplexity=9.0, tokens=9))
    arguments = ["-c", tiny, "--steps", 14, "--set", "quantize_after=0", "--eval-every", 2, "--json"]
    result = vqtok("train", photos, "-o", tmp_path / "run", *arguments, "--patience", 3)
    assert result.code == 0
    assert "stopped early at step 8: 3 evaluations in a row were no better than 20.00 dB\n" in result.err
    assert (result.json["steps"], result.json["stopped_early"]) == (8, True)
    again = vqtok("train", photos, "-o", tmp_path / "run", "--resume", "--patience", 5, "--json")
    assert (again.code, again.json["steps"]) == (0, 12)
    whole = vqtok("train", photos, "-o", tmp_path / "whole", *arguments)
    assert (whole.code, whole.json["steps"], whole.json["stopped_early"]) == (0, 14, False)
    assert "stopped early" not in whole.err


def test_dry_run_tells_the_cost(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = preflight.CostEstimate(seconds_per_step=0.213, steps=3000, epochs=4.84, seconds=639.2, peak_memory_mb=912.3)
    monkeypatch.setattr(train, "estimate_cost", lambda plan: cost)
    result = vqtok("train", photos, "-n", "-c", tiny, "--steps", 3000)
    assert (result.code, result.out) == (0, b"")
    assert "sizes: 72x48 to 56x80 px, median 64x64, of 20 images looked at\n" in result.err
    assert "the training images hold about 980 tokens in all, enough to fill 64 codes\n" in result.err
    assert "3000 steps take about 10:39, 0.21 s each, 4.8 times over the images, 912 MiB of memory\n" in result.err
    minutes = vqtok("train", photos, "-n", "-c", tiny, "--minutes", 11)
    assert "about 3000 steps in 10:39, 0.21 s each" in minutes.err


def test_dry_run_as_json(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    result = vqtok("train", photos, "-n", "-c", tiny, "--steps", 100, "--json", "-q")
    assert result.code == 0
    found = result.json
    names = [
        "train",
        "validation",
        "looked_at",
        "sizes",
        "unreadable",
        "tokens",
        "codes",
        "scales",
        "estimate",
        "settings",
        "notes",
    ]
    assert list(found) == names
    assert (found["train"], found["looked_at"], found["unreadable"]) == (20, 20, [])
    assert found["scales"] == "crops of 32 px: 75 % at the images' own scale, 25 % shrunk by up to 1.8"
    assert found["sizes"]["smallest"] == {"width": 72, "height": 48}
    assert list(found["sizes"]) == ["smallest", "median", "largest"]
    estimate = found["estimate"]
    assert list(estimate) == ["seconds_per_step", "steps", "epochs", "seconds", "peak_memory_mb"]
    assert (estimate["steps"], estimate["epochs"]) == (100, 40)


def test_dry_run_finds_unreadable_images(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"in/{number}.png", draw(40, 50, number))
    (tmp_path / "in/[1].png").write_text("text")
    arguments = ["-c", tiny, "--set", "val_images=0", "--steps", 2]
    result = vqtok("train", tmp_path / "in", "-n", *arguments, "--json")
    assert result.code == 0
    reason = "not an image, or of an unknown format"
    assert f"warning: 1 of 4 images looked at cannot be read, the first is [1].png: {reason}\n" in result.err
    assert result.json["unreadable"] == [{"name": "[1].png", "reason": reason}]
    for number in range(3):
        (tmp_path / f"in/{number}.png").write_text("text")
    none = vqtok("train", tmp_path / "in", "-n", *arguments, "--json")
    assert none.code == 0
    assert "no image can be read: time and memory are not known\n" in none.err
    assert (none.json["sizes"], none.json["estimate"]) == ({}, None)


def test_dry_run_changes_no_later_run(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    for name in ("before", "after"):
        assert vqtok("train", photos, "-o", tmp_path / name, "-c", tiny, "--steps", 4, "-q").code == 0
        assert vqtok("train", photos, "-o", tmp_path / name, "-c", tiny, "--steps", 4, "-n", "-q").code == 0
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1] for name in ("before", "after")]
    before, after = (json.loads(line)["validation"] for line in lines)
    assert before == after


def test_out_of_memory_in_a_dry_run(vqtok: Vqtok, photos: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(preflight.Learner, "step", step)
    result = vqtok("train", photos, "-n", "-c", tiny, "--steps", 4, "-q")
    assert result.code == 1
    assert result.error.endswith("out of memory: pass a smaller --batch-size, --image-size or --preset")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def plan(quick: TrainConfig, photos: Path) -> train.Plan:
    return train.plan_run(quick, [photos])


def told(plan: train.Plan, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *steps: Step) -> str:
    """Return what is written to stderr of these steps."""
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    console = Console("train")
    with console.progress("figures", timed=False) as bar:
        teller = Teller(console, plan, bar)
        for step in steps:
            teller.tell(step)
    return stream.getvalue()


def test_live_view(plan: train.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"perceptual": 0.31234, "discriminator": 0.7, "adaptive_weight": 0.05, "lecam": 2.0}
    steps = [
        Step(39, 0.24, 100.0, figures={**FIGURES, **more, "lr": 1e-3}),
        Step(40, 0.25, 3600.0, unreadable=(("a.png", "gone"),), warning="the codebook collapses"),
    ]
    seen = told(plan, monkeypatch, Terminal(), *steps)
    last = seen[seen.rindex("step 40") :]
    for text in (
        "step 40  3:00:00 left",
        "loss 0.0123  psnr 21.20 dB  used 97 %  perplexity 640",
        "112 images/s  waiting 3 %",
        "perceptual 0.312  discriminator 0.7  adaptive weight 0.05",
        "lecam 2",
    ):
        assert text in last, repr(last)
    assert "lr" not in last
    assert "vqtok train: warning: a.png: gone" in seen
    assert "vqtok train: warning: the codebook collapses" in seen


def test_quiet_where_there_is_no_terminal(plan: train.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = Evaluation(psnr=22.5, used=0.5, perplexity=12.0, tokens=9)
    steps = [
        Step(4, 0.1, 1.0, figures=FIGURES),
        Step(40, 0.5, 9.4, figures={**FIGURES, "perplexity": 1.0, "perceptual": 0.3}),
        Step(41, 0.6, 10.0, evaluation=evaluated),
    ]
    assert told(plan, monkeypatch, io.StringIO(), *steps) == (
        " 50 %  step 40  0:09 left  loss 0.0123  psnr 21.20 dB  no codes yet  112 images/s  waiting 3 %  "
        "perceptual 0.3\n"
        "step 41: validation psnr 22.50 dB, used 50.0 %, perplexity 12\n"
    )


def test_no_time_is_left_to_tell_at_the_start(plan: train.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "left" not in told(plan, monkeypatch, Terminal(), Step(1, 0.0, 0.1))


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_times(seconds: float, text: str) -> None:
    assert _clock(seconds) == text
