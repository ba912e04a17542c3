"""The state that a run begins with, or goes on from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from tokenizer import runtime
from tokenizer.errors import CheckpointError
from tokenizer.images import Source
from tokenizer.model import Tokenizer
from tokenizer.train import initial, saves
from tokenizer.train import optimizer as optimizers
from tokenizer.train import state as states
from tokenizer.train.plan import Plan
from tokenizer.train.state import Saved, TrainingState

BEST = "best"


def begin(plan: Plan) -> TrainingState:
    """Return the state of a new run: seeded, on its device, where its checkpoint ended if it starts from one.

    Raises:
        CheckpointError: that checkpoint cannot be loaded.
        ConfigError: the settings do not fit it.
    """
    state = prepare(plan)
    if plan.config.init_from:
        initial.start(state, Path(plan.config.init_from))
    return state


def prepare(plan: Plan) -> TrainingState:
    """Return the state of a new run whose weights are random, whatever it starts from."""
    config = plan.config
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(config.seed)
    model = Tokenizer(config.network, config.quantizer).to(config.device).to(memory_format=torch.channels_last)
    initial.freeze(model, config.freeze)
    state = states.fresh(model.train(), optimizers.make(model, config), config)
    if runtime.rank():
        # Each rank draws its own noise; what all must agree on comes from the first one.
        torch.manual_seed(config.seed + 1_000_003 * runtime.rank())
    if config.compile:
        model.encoder.compile()
        model.decoder.compile()
    return state


def resume(plan: Plan, saved: Saved) -> TrainingState:
    """Return the state of a saved run.

    Raises:
        CheckpointError: it was trained on other images, or does not fit.
    """
    if saved.data != identify(plan.train):
        raise CheckpointError("the training images are not those that this run began with: pass the same folder")
    state = prepare(plan)
    states.restore(state, saved)
    return state


def clear(folder: Path) -> None:
    """Remove what an earlier run left in `folder`: --resume must not meet its states, nor a person its pictures."""
    saves.clear(folder)
    shutil.rmtree(folder / BEST, ignore_errors=True)
    for old in [*folder.glob("pictures/step_*.png"), *folder.glob("tensorboard/events.out.tfevents.*")]:
        old.unlink(missing_ok=True)


def identify(sources: Sequence[Source]) -> str:
    """Return a digest of the images' names."""
    return hashlib.sha256("\0".join(s.name for s in sources).encode("utf-8", "surrogateescape")).hexdigest()
