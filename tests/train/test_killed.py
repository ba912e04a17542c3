"""kill -9 at random moments, again and again: what is resumed ends where an unbroken run ends, to the last bit."""

from __future__ import annotations

import dataclasses
import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from tests.killing import is_killed
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.models import fingerprint_of
from tokenizer.train import has_states

pytestmark = pytest.mark.slow

KILLS = 20


def work(config: TrainConfig, photos: str, folder: str, tell: Connection) -> None:
    """Begin or go on, and tell each step."""
    torch.set_num_threads(1)
    plan = train.plan_run(config, [Path(photos)])
    run = Path(folder)
    state = train.resume_run(plan, train.read_newest_state(run)[0]) if has_states(run) else train.begin_run(plan)
    for step in train.train(plan, state, run):
        tell.send(step.step)


@pytest.mark.parametrize("method", ["diveq", "ema"])
def test_killed_twenty_times_and_resumed(quick: TrainConfig, photos: Path, tmp_path: Path, method: str) -> None:
    quantizer = {"name": method, "codebook_size": 32, "dead_code_patience": 2}
    config = dataclasses.replace(
        quick, steps=160, quantize_after=0.05, eval_every=40, save_every=1e-4, quantizer=quantizer
    )
    plan = train.plan_run(config, [photos])
    whole = train.begin_run(plan)
    list(train.train(plan, whole, tmp_path / "whole"))

    dice, folder = random.Random(0), tmp_path / "killed"
    arguments = (config, str(photos), str(folder))
    preload = ("tokenizer.train", "tokenizer.train.losses", "torchvision.utils")
    assert sum(is_killed(work, arguments, preload, dice, (1, 8), 0.06) for _ in range(KILLS)) == KILLS
    at = train.read_newest_state(folder)[0].plain["step"]
    assert 0 < at < 160
    state = train.resume_run(plan, train.read_newest_state(folder)[0])
    list(train.train(plan, state, folder))

    for first, second in zip(whole.model.state_dict().items(), state.model.state_dict().items(), strict=True):
        assert torch.equal(first[1], second[1]), first[0]
    for name, value in whole.model.named_buffers():
        assert torch.equal(value, dict(state.model.named_buffers())[name]), name
    assert fingerprint_of(tmp_path / "whole") == fingerprint_of(folder)
    assert fingerprint_of(tmp_path / "whole/best") == fingerprint_of(folder / "best")
    assert state.figures == whole.figures
    assert not [path for path in folder.rglob("*.tmp") if path.parent.name == "states"]
