"""Two processes that train together hold the same weights, and those of one process with both batches."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import InputError
from tokenizer.models import load_checkpoint
from tokenizer.train import TrainingState

pytestmark = pytest.mark.slow

RANKS, STEPS = 2, 10
# Methods that draw no noise: that of two ranks is another than that of one process.
METHODS: dict[str, dict[str, Any]] = {
    "diveq-detach": {"name": "diveq-detach", "codebook_size": 32, "dead_code_patience": 0},
    "ema, replaced": {"name": "ema", "codebook_size": 64, "dead_code_patience": 2, "decay": 0.9},
    "ste, replaced": {"name": "ste", "codebook_size": 64, "dead_code_patience": 2},
}


def settings(quick: TrainConfig, method: str, batch_size: int, steps: int = STEPS) -> TrainConfig:
    chosen = {"quantizer": METHODS[method], "batch_size": batch_size, "steps": steps, "eval_every": 5}
    return dataclasses.replace(quick, quantize_after=0.2 if steps > 1 else 0.0, **chosen)


def tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in [*state.model.named_parameters(), *state.model.named_buffers()]}


def gradients(plan: train.Plan, folder: Path) -> dict[str, torch.Tensor]:
    """Those of the first step, clipped."""
    state = train.begin_run(plan)
    next(train.train(plan, state, folder))
    return {name: value.grad for name, value in state.model.named_parameters() if value.grad is not None}


def whole_and_resumed(quick: TrainConfig, photos: Path, folder: Path) -> list[dict[str, torch.Tensor]]:
    """What a run holds, with noise that each rank draws for itself; and one that stops and goes on."""
    plan = train.plan_run(dataclasses.replace(quick, batch_size=3, steps=STEPS), [photos])
    whole = train.begin_run(plan)
    list(train.train(plan, whole, folder / "whole"))
    steps = train.train(plan, train.begin_run(plan), folder / "parts")
    list(islice(steps, 6))
    steps.close()
    dist.barrier()
    torch.randn(17)
    state = train.resume_run(plan, train.read_newest_state(folder / "parts")[0])
    list(train.train(plan, state, folder / "parts"))
    return [tensors(whole), tensors(state)]


def with_damaged_images(quick: TrainConfig, data: list[Path], folder: Path) -> dict[str, Any]:
    """Figures of a run of which the first rank can read no image to evaluate on; where no rank can, all say so."""
    config = dataclasses.replace(quick, steps=1, val_data=str(data[1]))
    plan = train.plan_run(config, [data[0]])
    *_, last = train.train(plan, train.begin_run(plan), folder / "one readable")
    assert last.evaluation
    plan = train.plan_run(dataclasses.replace(config, val_images=1), [data[0]])
    with pytest.raises(InputError, match=r"none of the 1 images to evaluate on can be read, such as 0\.png"):
        list(train.train(plan, train.begin_run(plan), folder / "none readable"))
    return dataclasses.asdict(last.evaluation)


def work(rank: int, quick: TrainConfig, photos: str, folder: str) -> None:
    torch.set_num_threads(1)
    patience = dt.timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=patience)
    held = {}
    for method in METHODS:
        plan = train.plan_run(settings(quick, method, 3), [Path(photos)])
        state = train.begin_run(plan)
        steps = list(train.train(plan, state, Path(folder) / method))
        figures = [dataclasses.asdict(step.evaluation) for step in steps if step.evaluation]
        held[method] = {"tensors": tensors(state), "figures": figures, "crops": state.crops}
        plan = train.plan_run(settings(quick, method, 3, steps=1), [Path(photos)])
        held[method]["gradients"] = gradients(plan, Path(folder) / f"{method}, one step")
    held["whole"], held["resumed"] = whole_and_resumed(quick, Path(photos), Path(folder))
    held["damaged"] = with_damaged_images(quick, [Path(photos), Path(folder) / "damaged"], Path(folder))
    torch.save(held, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(quick: TrainConfig, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two ranks trained each method."""
    made = tmp_path_factory.mktemp("ranks")
    (made / "damaged").mkdir()
    (made / "damaged/0.png").write_bytes(b"no image")
    shutil.copy(photos / "a/00.png", made / "damaged/1.png")
    mp.spawn(work, args=(quick, str(photos), str(made)), nprocs=RANKS)
    return made


@pytest.mark.timeout(100)
@pytest.mark.parametrize("method", METHODS)
def test_both_ranks_hold_the_same_to_the_last_bit(folder: Path, method: str) -> None:
    first, second = (torch.load(folder / f"{rank}.pt")[method] for rank in range(RANKS))
    for name, value in first["tensors"].items():
        assert torch.equal(value, second["tensors"][name]), name
    assert first["figures"] == second["figures"]


def test_a_run_that_stopped_ends_as_one_that_did_not(folder: Path) -> None:
    for rank in range(RANKS):
        held = torch.load(folder / f"{rank}.pt")
        for name, value in held["whole"].items():
            assert torch.equal(held["resumed"][name], value), name


def test_a_rank_that_can_read_no_image_to_evaluate_on_leaves_it_to_others(folder: Path) -> None:
    first, second = (torch.load(folder / f"{rank}.pt")["damaged"] for rank in range(RANKS))
    assert first == second
    assert first["tokens"] == 64
    assert not (folder / "one readable/pictures").exists()


@pytest.mark.parametrize("method", METHODS)
def test_they_hold_what_one_process_with_both_batches_holds(
    folder: Path, quick: TrainConfig, photos: Path, tmp_path: Path, method: str
) -> None:
    plan = train.plan_run(settings(quick, method, 6), [photos])
    state = train.begin_run(plan)
    steps = list(train.train(plan, state, tmp_path))
    held = torch.load(folder / "0.pt")[method]
    assert held["crops"] == state.crops == 6 * STEPS
    for name, value in tensors(state).items():
        # An optimizer that takes steps of one length turns the rounding of small gradients into more.
        size = value.abs().max().clamp_min(1e-6)
        assert ((held["tensors"][name] - value).abs().max() / size).item() < 2e-3, name
    figures = [dataclasses.asdict(step.evaluation) for step in steps if step.evaluation]
    for one, two in zip(figures, held["figures"], strict=True):
        assert one["tokens"] == two["tokens"]
        assert one["psnr"] == pytest.approx(two["psnr"], abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_a_step_are_those_of_both_batches(
    folder: Path, quick: TrainConfig, photos: Path, tmp_path: Path, method: str
) -> None:
    whole = gradients(train.plan_run(settings(quick, method, 6, steps=1), [photos]), tmp_path)
    halves = torch.load(folder / "0.pt")[method]["gradients"]
    assert whole.keys() == halves.keys()
    for name, value in whole.items():
        assert ((halves[name] - value).norm() / value.norm().clamp_min(1e-9)).item() < 1e-4, name


def test_only_the_first_rank_writes(folder: Path) -> None:
    run = folder / "ste, replaced"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [5, 10]
    assert len([line for line in lines if "loss" in line]) == 2
    assert load_checkpoint(run).codebook_sizes == (64,)
    saved, _ = train.read_newest_state(run)
    assert saved.tensors["random/cpu"].shape[0] == RANKS
    assert not torch.equal(*saved.tensors["random/cpu"])


def launch(*arguments: object) -> list[str]:
    options = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "cli", "train"]
    return [*command, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(200)
@pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep finds the processes of torchrun")
def test_torchrun_starts_a_dead_process_anew_and_the_run_goes_on(photos: Path, tmp_path: Path) -> None:
    """What an elastic job does when a machine is taken away."""
    (tmp_path / "tiny.toml").write_text("[network]\ndownsample = 4\nwidths = [32]\ndepths = [1]\n")
    asked = [photos, "-o", tmp_path / "run", "-c", tmp_path / "tiny.toml", "--image-size", "32", "--device", "cpu"]
    command = launch(*asked, "-b", "3", "--codebook-size", "16", "--steps", "400", "--save-every", "0.002")
    command[3:3] = ["--max-restarts", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as running:
        while not list((tmp_path / "run").glob("states/step_*.safetensors")) and running.poll() is None:
            time.sleep(0.1)
        children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True).stdout
        os.kill(int(children.split()[-1]), signal.SIGKILL)
        said = running.communicate(timeout=150)[1]
    assert running.returncode == 0, said
    assert said.count("going on from step ") == 1
    assert train.read_newest_state(tmp_path / "run")[0].plain["step"] == 400
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.timeout(200)
def test_torchrun_trains_stops_and_goes_on(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text("[network]\ndownsample = 4\nwidths = [32]\ndepths = [1]\n")
    tiny = ["-c", tmp_path / "tiny.toml", "--image-size", "32", "--device", "cpu"]
    asked = [photos, "-o", tmp_path / "run", *tiny, "-b", "3", "--codebook-size", "16"]
    whole = subprocess.run(
        launch(*asked, "--steps", "6", "--json"), capture_output=True, text=True, env=environment(), timeout=150
    )
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["steps"] == 6
    assert whole.stderr.count("images to train on") == 1
    asked[2] = tmp_path / "stopped"
    with subprocess.Popen(
        launch(*asked, "--steps", "100000"), stderr=subprocess.PIPE, text=True, env=environment()
    ) as stopped:
        while not (tmp_path / "stopped" / "metrics.jsonl").exists() and stopped.poll() is None:
            time.sleep(0.2)
        time.sleep(2)
        stopped.send_signal(signal.SIGTERM)
        said = stopped.communicate(timeout=60)[1]
    assert "everything is saved. To go on: vqtok train" in said
    assert said.count("everything is saved") == 1
    saved, _ = train.read_newest_state(tmp_path / "stopped")
    assert saved.plain["crops"] == 6 * saved.plain["step"] > 0
    resumed = subprocess.run(
        launch(photos, "-o", tmp_path / "stopped", "--resume", "--steps", "7"),
        capture_output=True, text=True, env=environment(), timeout=100,
    )  # fmt: skip
    assert resumed.returncode == 1
    assert "cannot resume with other settings: steps was 100000, now 7" in resumed.stderr
