"""`vqtok train`."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import Tensor

from tests.cli.conftest import BIN, QUICK, Vqtok, environment
from tests.conftest import draw, save
from tokenizer.train import loop, objective
from tokenizer.train.metrics_log import Passed
from tokenizer.train.step import Learner

TINY = f"""
{QUICK}[network]
downsample = 8
widths = [32, 32]
depths = [1, 1]
latent_dim = 4
[quantizer]
codebook_size = 32
name = "diveq"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A config file of a run that takes a second, without its budget."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def weights(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "model.safetensors")


def settings(vqtok: Vqtok, *arguments: object) -> dict[str, Any]:
    """Return what --print-config prints, read back."""
    result = vqtok("train", *arguments, "--print-config")
    assert (result.code, result.err) == (0, "")
    return tomllib.loads(result.out.decode())


def test_a_run(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    result = vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", 10, "--json")
    assert result.code == 0
    assert (result.json["steps"], result.json["output"]) == (10, f"{tmp_path}/run")
    assert {"psnr", "used", "perplexity"} <= set(result.json)
    assert "20 images to train on, evaluated on 4 validation images\n" in result.err
    assert "training: 10 steps, batches of 8 crops, float32 on cpu, 0 reading threads, seed 0\n" in result.err
    assert f"the checkpoint is in {tmp_path}/run" in result.err
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 10]
    assert len((tmp_path / "run/validation.txt").read_text().splitlines()) == 4


def test_validation_images_can_be_encoded(vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.safetensors"
    result = vqtok("encode", "--files-from", run / "validation.txt", "-m", run, "-o", output, "--json")
    assert (result.code, result.json["images"]) == (0, 4)


def test_same_seed_same_weights(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        result = vqtok("train", photos, "-o", tmp_path / name, "-c", tiny, "--steps", 6, "--seed", seed, "-q")
        assert (result.code, result.out, result.err) == (0, b"", "")
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not all(np.array_equal(a[name], c[name]) for name in a)


def test_printed_config_gives_the_same_plan(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    first = vqtok("train", photos, "-c", tiny, "--codebook-size", 64, "--print-config")
    (tmp_path / "printed.toml").write_bytes(first.out)
    again = vqtok("train", photos, "-c", tmp_path / "printed.toml", "--print-config")
    assert again.out == first.out
    as_json = vqtok("train", photos, "-c", tmp_path / "printed.toml", "--print-config", "--json").json
    assert as_json["quantizer"]["codebook_size"] == 64
    assert settings(vqtok, photos, "-c", tmp_path / "printed.toml", "--steps", 5)["steps"] == 5


def test_printed_config_of_few_images(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    first = vqtok("train", photos / "a", "--print-config")
    (tmp_path / "printed.toml").write_bytes(first.out)
    again = vqtok("train", photos / "a", "-c", tmp_path / "printed.toml", "--print-config")
    assert (again.code, again.out) == (0, first.out)


@pytest.mark.slow
def test_dry_run_writes_nothing(vqtok: Vqtok, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = vqtok("train", photos, "-n", "-o", tmp_path / "run", "--steps", 3)
    assert (result.code, result.out) == (0, b"")
    assert "training: 3 steps" in result.err
    planned = vqtok("train", photos, "--dry-run", "--json", "-q")
    assert (planned.json["train"], planned.json["validation"]) == (23, 1)
    assert planned.json["settings"]["minutes"] == 30
    assert list(tmp_path.iterdir()) == []


def test_precedence(vqtok: Vqtok, photos: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(vqtok, photos)["batch_size"] == 64
    assert settings(vqtok, photos, "-c", tiny)["batch_size"] == 8
    monkeypatch.setenv("VQTOK_BATCH_SIZE", "9")
    monkeypatch.setenv("VQTOK_CODEBOOK_SIZE", "16")
    found = settings(vqtok, photos, "-c", tiny)
    assert (found["batch_size"], found["quantizer"]["codebook_size"]) == (9, 16)
    assert settings(vqtok, photos, "-c", tiny, "--set", "batch_size=10")["batch_size"] == 10
    assert settings(vqtok, photos, "-c", tiny, "--set", "batch_size=10", "-b", 11)["batch_size"] == 11


def test_a_budget_replaces_the_other(
    vqtok: Vqtok, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.toml").write_text("minutes = 5")
    found = settings(vqtok, photos, "-c", tmp_path / "c.toml", "--steps", 7)
    assert (found["steps"], found.get("minutes")) == (7, None)
    monkeypatch.setenv("VQTOK_STEPS", "9")
    found = settings(vqtok, photos, "--set", "minutes=0.5")
    assert (found["minutes"], found.get("steps")) == (0.5, None)
    both = vqtok("train", photos, "-n", "--steps", 5, "--minutes", 5)
    assert both.code == 2
    assert both.error.endswith("steps and minutes are both given: name one budget")


def test_preset_lies_below_everything_else(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    plain = settings(vqtok, photos, "--preset", "base")["network"]
    widths = [8] * len(plain["widths"])
    (tmp_path / "c.toml").write_text(f"[network]\nlatent_dim = 5\nwidths = {widths}\n")
    network = settings(vqtok, photos, "-c", tmp_path / "c.toml", "--preset", "base")["network"]
    assert network == {**plain, "latent_dim": 5, "widths": widths}
    assert plain["widths"] != settings(vqtok, photos)["network"]["widths"]


@pytest.mark.parametrize(
    ("arguments", "config", "code", "said"),
    [
        (["--set", "sed=1"], "", 2, "unknown setting 'sed', did you mean 'seed'?"),
        (["--set", "network.width=8"], "", 2, "unknown setting 'network.width', did you mean 'widths'?"),
        (["--set", "quantizer.codebok_size=8"], "", 2, "did you mean 'codebook_size'?"),
        (["--set", "seed"], "", 2, "'seed' is not of the form KEY=VALUE"),
        (["--set", "lr=fast"], "", 2, "lr is 'fast', expected a number"),
        (["--set", "steps=2.5"], "", 2, "steps is '2.5', expected a whole number"),
        (
            ["--set", "quantizer.codebook_size=many"],
            "",
            2,
            "quantizer.codebook_size is 'many', expected a whole number",
        ),
        (["--set", "warmup=2", "--set", "lr=-1"], "", 2, "lr is -1.0, expected more than 0; warmup is 2.0, expected"),
        ([], "lr = 'x'\nsteps = [1]\nsed = 3", 2, "unknown setting 'sed', did you mean 'seed'?"),
        ([], "lr = 'x'\nsteps = [1]", 2, "lr is 'x', expected a number; steps is [1], expected a whole number"),
        ([], "network = 3", 2, "network is 3, expected a table of settings"),
        ([], "lr = ", 1, "cannot read the config file c.toml: "),
        (["-c", "none.toml"], None, 1, "cannot read the config file none.toml: "),
        (["--quantizer", "dived"], "", 2, "unknown quantizer 'dived', did you mean 'diveq'?"),
        (["--preset", "smal"], "", 2, "unknown preset 'smal', did you mean 'small'?"),
        (["--downsample", "7"], "", 2, "network.downsample is 7, expected one of (4, 8, 16, 32)"),
        (["--image-size", "30"], "", 2, "image_size is 30, expected a multiple of network.downsample (16)"),
        (["--minutes", "-1"], "", 2, "minutes is -1.0, expected more than 0"),
        (["--alpha", "glass"], "", 2, "'glass' is not a color"),
        (["--precision", "float8"], "", 2, "'float8' is not one of 'auto', 'float32', 'tf32', 'bfloat16', 'float16'"),
        (["--device", "toaster"], "", 2, "'toaster' is not a device"),
        (["--val-data", "nowhere"], "", 1, "nowhere does not exist"),
        (["--set", "val_images=24"], "", 1, "val_images is 24, there are 24 images: name fewer"),
        (["--set", "loss.l3=1"], "", 2, "l3"),
    ],
)
def test_wrong_settings(
    vqtok: Vqtok,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    config: str | None,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if config is not None:
        Path("c.toml").write_text(config)
        arguments = ["-c", "c.toml", *arguments]
    result = vqtok("train", photos, "-o", "run", *arguments)
    assert result.code == code
    assert result.error.startswith("vqtok train: error: ")
    assert said in result.error
    assert not Path("run").exists()


def test_all_faults_are_named_in_one_line(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    wrong = ["--set", "lrr=1", "--set", "stepz=2", "--set", "quantizer.bta=2", "--set", "loss.foo=1"]
    error = vqtok("train", photos, "-o", tmp_path / "run", *wrong).error
    for fault in (
        "unknown setting 'lrr', did you mean 'lr'?",
        "unknown setting 'stepz', did you mean 'steps'?",
        "unknown setting 'quantizer.bta' of diveq, known: codebook_size, ",
        "unknown setting 'loss.foo', known: l1, ",
    ):
        assert fault in error
    (tmp_path / "c.toml").write_text("lr = 'x'\nwarmup = 2\n[quantizer]\nname = 'ste'\nbta = 1\n[loss]\nl3 = 1\n")
    error = vqtok("train", photos, "-n", "-c", tmp_path / "c.toml", "--preset", "smal", "--alpha", "glass").error
    for fault in ("lr is 'x'", "warmup is 2.0", "'beta'?", "'l2'?", "'smal', did you mean 'small'?", "'glass' is not"):
        assert fault in error


@pytest.mark.parametrize(
    ("arguments", "config", "old", "new"),
    [
        (["--set", "revive_until=0.5"], "", "revive_until", "replace_dead_until"),
        (["--quantizer", "ste(normalise=rms)"], "", "quantizer.normalise' of ste", "normalize"),
        (["--set", "quantizer.revival_patience=9"], "", "quantizer.revival_patience' of diveq", "dead_code_patience"),
        ([], "revive_until = 1", "revive_until", "replace_dead_until"),
        ([], "[quantizer]\nname = 'ema'\nnormalise = 'rms'", "quantizer.normalise' of ema", "normalize"),
    ],
)
def test_old_names_are_refused_with_the_new_ones(
    vqtok: Vqtok, photos: Path, tmp_path: Path, arguments: list[str], config: str, old: str, new: str
) -> None:
    (tmp_path / "c.toml").write_text(config)
    result = vqtok("train", photos, "-n", "-c", tmp_path / "c.toml", *arguments)
    assert result.code == 2
    assert f"unknown setting '{old}" in result.error
    assert result.error.endswith(f": it is called {new} now")


def test_every_option_that_is_a_setting_is_read(
    vqtok: Vqtok, photos: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOK_COMPILE", "true")
    options = ["--lr", 1e-4, "--grad-accum", 2, "--deterministic", "--seed", 3, "--alpha", "red", "--steps", 9]
    options += ["--val-data", photos / "a", "--log-every", 5, "--eval-every", 6, "--patience", 7, "--save-every", 8]
    options += ["--keep", 4, "--log-to", "tensorboard", "--init-from", run, "--device", "cpu", "-j", 1, "-b", 3]
    options += ["--freeze", "encoder", "--freeze", "codebook", "--freeze", "encoder", "--image-size", 32]
    found = settings(vqtok, photos, *options, "--precision", "float32")
    wanted = {"lr": 1e-4, "grad_accum": 2, "deterministic": True, "seed": 3, "alpha": "red", "steps": 9, "log_every": 5}
    wanted |= {"val_data": f"{photos}/a", "eval_every": 6, "patience": 7, "save_every": 8.0, "keep": 4, "compile": True}
    wanted |= {"log_to": "tensorboard", "init_from": str(run), "device": "cpu", "workers": 1, "batch_size": 3}
    wanted |= {"freeze": ["codebook", "encoder"], "image_size": 32, "precision": "float32"}
    assert {name: found[name] for name in wanted} == wanted


def test_numbers_as_text_are_understood(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('lr = "1e-4"\nsteps = "12"\n[network]\nwidths = "8, 8, 8"\n')
    found = settings(vqtok, photos, "-c", tmp_path / "c.toml")
    assert (found["lr"], found["steps"], found["network"]["widths"]) == (1e-4, 12, [8, 8, 8])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["PHOTOS"], 2, "no output: pass -o RUN"),
        (["-o", "run"], 2, "missing argument 'DATA'"),
        (["nowhere", "-o", "run"], 1, "nowhere does not exist"),
        (["bare", "-o", "run"], 1, "no images in bare: looked for"),
        (["PHOTOS", "-o", "full"], 1, "full exists: pass --overwrite to replace it, or name another output"),
        (["PHOTOS", "-o", "full/x", "-f"], 1, "cannot write full/x: full/x is not a folder"),
        (["PHOTOS", "-o", "run", "--resume"], 1, "there is no training to resume in run: it has no states/step_*."),
        (["PHOTOS", "-o", "full", "--resume", "-f"], 2, "--resume keeps what is there, --overwrite replaces it"),
    ],
)
def test_wrong_paths(
    vqtok: Vqtok,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    Path("full").mkdir()
    Path("full/x").write_text("mine")
    result = vqtok("train", *[photos if word == "PHOTOS" else word for word in arguments], "--steps", 2)
    assert result.code == code
    assert result.error.startswith("vqtok train: error: ")
    assert said in result.error
    assert Path("full/x").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "full"]


@pytest.mark.slow
def test_said_before_training(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    few = vqtok("train", photos / "a", "-n")
    assert few.code == 0
    assert "warning: 8 images are too few to keep some for validation: figures are on training images" in few.err
    large = vqtok("train", photos, "-n", "--codebook-size", 65536)
    assert large.code == 0
    said = (
        "warning: a codebook of 65536 is large for images that hold about 207 tokens in all: --codebook-size 16 would"
    )
    assert said in large.err
    assert "large" not in vqtok("train", photos, "-n", "--codebook-size", 16).err


def test_unreadable_images_are_told(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "in")
    (tmp_path / "in/[b]bad.png").write_text("text")
    arguments = ["-o", tmp_path / "run", "-c", tiny, "--steps", 4, "--val-data", photos / "a", "--json"]
    result = vqtok("train", tmp_path / "in", *arguments)
    assert result.code == 3
    assert "vqtok train: warning: [b]bad.png: not an image, or of an unknown format\n" in result.err
    assert result.json["failed"] == [{"name": "[b]bad.png", "reason": "not an image, or of an unknown format"}]
    assert weights(tmp_path / "run")


def test_overwrite_starts_anew(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    for steps in (4, 6):
        result = vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", steps, "-f", "--json")
        assert (result.code, result.json["steps"]) == (0, steps)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 6]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Have this process send itself a signal in that step."""
    plain = Learner.step

    def learn(learner: Learner, batch: Tensor, progress: float) -> Passed | None:
        passed = plain(learner, batch, progress)
        if learner.state.step == step:
            os.kill(os.getpid(), number)
        return passed

    monkeypatch.setattr(Learner, "step", learn)


def test_resume_equals_an_unbroken_run(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vqtok("train", photos, "-o", tmp_path / "whole", "-c", tiny, "--steps", 10).code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGINT)
        stopped = vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", 10)
    assert stopped.code == 130
    assert stopped.out == b""
    again = f"vqtok train --resume {photos} -o {tmp_path}/run -c {tiny} --steps 10"
    last = stopped.err.splitlines()[-1]
    assert last == f"vqtok train: warning: stopped at step 5, everything is saved. To go on: {again}"
    assert "interrupted" not in stopped.err
    resumed = vqtok(*shlex.split(again)[1:], "--log-every", 2, "-j", 2)
    assert resumed.code == 0
    assert "going on from step 5, " in resumed.err
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_resume_with_other_settings(vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    arguments = ["--steps", 99, "--set", "quantizer.noise_std=0.1", "--seed", 0]
    result = vqtok("train", photos, "-o", tmp_path / "run", "--resume", *arguments)
    assert result.code == 1
    assert "quantizer.noise_std was 0.001, now 0.1; steps was 12, now 99" in result.error
    assert "seed" not in result.error
    budget = vqtok("train", photos, "-o", tmp_path / "run", "--resume", "--minutes", 5)
    assert "cannot resume with other settings: minutes was not set, now 5.0: leave them out" in budget.error
    images = vqtok("train", photos / "a", "-o", tmp_path / "run", "--resume")
    assert images.code == 1
    assert "the training images are not those that this run began with: pass the same folder\n" in images.err


def test_damaged_training_state(vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    state = tmp_path / "run/states/step_0000012.safetensors"
    before = state.with_name("step_0000008.safetensors")
    shutil.copy(state, before)
    state.write_bytes(state.read_bytes()[:5000])
    result = vqtok("train", photos, "-o", tmp_path / "run", "--resume")
    assert result.code == 0
    warned = f"vqtok train: warning: cannot read the training state {state}: "
    told = next(line for line in result.err.splitlines() if line.startswith(warned))
    assert told.endswith(": going on from the one before")
    for file in (state, before):
        file.write_bytes(file.read_bytes()[:5000])
    result = vqtok("train", photos, "-o", tmp_path / "run", "--resume")
    assert result.code == 1
    assert f"error: cannot read the training state {state}: " in result.error


def test_second_signal_stops_at_once(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loop.write_state

    def write_slowly(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        plain(*arguments)

    stop_at(monkeypatch, 5, signal.SIGINT)
    monkeypatch.setattr(loop, "write_state", write_slowly)
    result = vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", 10)
    assert (result.code, result.out) == (130, b"")
    assert "stopping after this step; once more to stop at once, without saving" in result.err
    assert result.err.endswith("vqtok train: interrupted: no half-written file is left\n")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.jsonl", "validation.txt"]


@pytest.mark.parametrize("saved", [False, True])
def test_full_disk(vqtok: Vqtok, photos: Path, run: Path, tiny: Path, tmp_path: Path, saved: bool) -> None:
    if saved:
        shutil.copytree(run, tmp_path / "run")
    arguments = ["--resume"] if saved else ["-c", tiny, "--steps", 6]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        result = vqtok("train", photos, "-o", tmp_path / "run", *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.code == 1
    file = "states/step_0000012.safetensors" if saved else "best/model.safetensors"
    assert f"vqtok train: error: cannot write {tmp_path}/run/{file}: File too large\n" in result.err
    hint = f"what was saved before stands. To go on from there: vqtok train --resume {photos} -o {tmp_path}/run\n"
    assert (hint in result.err) == saved
    assert not list(tmp_path.rglob("*.tmp"))


def test_out_of_memory(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "step", learn)
    result = vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", 6, "-q")
    assert result.code == 1
    assert result.error.endswith("out of memory: pass a smaller --batch-size, --image-size or --preset")


def test_loss_that_is_not_finite(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "reconstruction_loss", lambda made, *_: made.sum() * float("nan"))
    result = vqtok("train", photos, "-o", tmp_path / "run", "-c", tiny, "--steps", 20, "-q")
    assert result.code == 1
    assert "error: latents or gradients were not finite in 10 steps in a row" in result.error
    assert "--lr" in result.error


def test_data_that_begins_with_a_dash(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "-in [1]")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, 2, signal.SIGTERM)
        stopped = vqtok("train", "-o", "run", "-c", tiny, "--steps", 4, "--", "-in [1]")
    assert stopped.code == 143
    assert stopped.err.rstrip().endswith(f"To go on: vqtok train --resume -o run -c {tiny} --steps 4 -- '-in [1]'")
    assert vqtok("train", "-o", "run", "--resume", "--", "-in [1]").code == 0


@pytest.mark.slow
def test_ctrl_c_reaches_the_process(
    vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        str(BIN / "vqtok"),
        "train",
        str(photos),
        "-o",
        "run",
        "-c",
        str(tiny),
        "--steps",
        "60",
        "--no-progress",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        metrics = tmp_path / "run/metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n") >= 2):  # until the test's time is over
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (130, b"")
    last = err.decode().splitlines()[-1]
    again = f"vqtok train --resume {photos} -o run -c {tiny} --steps 60 --no-progress"
    assert last.endswith(f"everything is saved. To go on: {again}")
    assert "Traceback" not in err.decode()
    monkeypatch.chdir(tmp_path)
    resumed = vqtok(*shlex.split(last.partition("To go on: ")[2])[1:])
    assert resumed.code == 0
    assert Path("run/model.safetensors").is_file()


def test_killed_run_goes_on(vqtok: Vqtok, photos: Path, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert vqtok("train", photos, "-o", folder, "-c", tiny, "--steps", 8).code == 0
    (folder / ".model.safetensors.1234abcd.tmp").write_bytes(b"half")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss"')
    result = vqtok("train", photos, "-o", folder, "--resume")
    assert result.code == 0
    assert all(json.loads(line)["step"] <= 8 for line in (folder / "metrics.jsonl").read_text().splitlines())


def test_images_larger_than_shown(vqtok: Vqtok, tiny: Path, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"in/{number}.png", draw(40, 200, number))
    arguments = ["-c", tiny, "--set", "val_images=1", "--steps", 2, "-q"]
    result = vqtok("train", tmp_path / "in", "-o", tmp_path / "run", *arguments)
    assert (result.code, result.out) == (0, b"")
    assert "codebook of 32 is large" in result.err
