"""The training loop: rate, batch, loss, clip, step, average, revive, evaluate, save."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tokenizer import checkpoint
from tokenizer.config import TrainConfig
from tokenizer.data import Crops, batches, held_out_batches
from tokenizer.errors import CheckpointError, TrainingError
from tokenizer.files import write_bytes
from tokenizer.images import Source, encode_image, parse_colour
from tokenizer.model import Tokenizer, to_unit_range
from tokenizer.settings import to_dict
from tokenizer.train import optimizer as optimizers
from tokenizer.train import state as states
from tokenizer.train.budget import Budget
from tokenizer.train.evaluation import Evaluation, evaluate, picture
from tokenizer.train.log import Meter, MetricsLog
from tokenizer.train.objective import Objective
from tokenizer.train.plan import Plan
from tokenizer.train.schedule import learning_rate
from tokenizer.train.state import TrainingState
from tokenizer.train.step import Learner

HELD_OUT = "held_out.txt"
_MAX_SKIPPED = 10
_LATENTS_PER_CODE = 16
_MAX_LATENTS = 2**17


@dataclass(frozen=True)
class Step:
    """One step of training.

    Attributes:
        step: steps taken so far.
        progress: share of the budget spent, 0 to 1.
        seconds: wall-clock time spent, over all sessions.
        figures: loss, psnr (of the batch, dB), used, perplexity, images_per_second, waiting (share of the time
            spent waiting for images), lr; every `log_every` steps, else None.
        evaluation: figures on the held-out images, when this step evaluated.
        unreadable: (name, reason) of images that could not be read since the step before.
    """

    step: int
    progress: float
    seconds: float
    figures: dict[str, float] | None = None
    evaluation: Evaluation | None = None
    unreadable: tuple[tuple[str, str], ...] = ()


def begin(plan: Plan) -> TrainingState:
    """Return the state of a new run: seeded, on its device."""
    config = plan.config
    torch.manual_seed(config.seed)
    model = Tokenizer(config.network, config.quantizer).to(config.device).to(memory_format=torch.channels_last)
    return states.fresh(model.train(), optimizers.make(model, config))


def resume(plan: Plan, saved: states.Saved) -> TrainingState:
    """Return the state of a saved run.

    Raises:
        CheckpointError: it was trained on other images, or does not fit.
    """
    if saved.data != identify(plan.train):
        raise CheckpointError("the training images are not those that this run began with: pass the same folder")
    state = begin(plan)
    states.restore(state, saved)
    return state


def identify(sources: Sequence[Source]) -> str:
    """Return a digest of the images' names."""
    return hashlib.sha256("\0".join(s.name for s in sources).encode("utf-8", "surrogateescape")).hexdigest()


def train(plan: Plan, state: TrainingState, folder: Path) -> Generator[Step]:
    """Train from `state` to the end of the budget, yielding each step.

    Writes the checkpoint, the training state, `metrics.jsonl`, `held_out.txt` and pictures under `folder`. When
    the caller closes the generator, everything is saved first.

    Raises:
        TrainingError: the loss is not finite, many times in a row; what was saved before stands.
        OutputError: a file cannot be written; what was saved before stands.
    """
    config = plan.config
    alpha = parse_colour(config.alpha)
    crops = Crops(plan.train, config.image_size or 0, config.seed, alpha, config.smallest_crop)
    batch_size = config.batch_size or 1
    held_out = held_out_batches(plan.held_out, plan.multiple, batch_size, alpha, crops.unreadable)
    names = "".join(f"{source.file}\n" for source in plan.held_out)
    write_bytes(folder / HELD_OUT, names.encode("utf-8", "surrogateescape"))
    log = MetricsLog(folder, state.step)
    meter = Meter(state.model.codebook_sizes, torch.device(config.device))
    budget = Budget(config, state)
    learner = Learner(state, config, Objective(config))
    with contextlib.closing(batches(crops, batch_size, state.step, config.workers or 0)) as feed:
        try:
            while (progress := budget.progress()) < 1:
                rate = learning_rate(progress, config.lr, config.warmup)
                optimizers.set_rate(state.optimizers, rate)
                if not state.quantizing and progress >= config.quantize_after:
                    place_codes(state, crops, config)
                batch = meter.next_batch(feed)
                passed = learner.step(batch, revive=progress < config.revive_until)
                if passed is None:
                    _skip(state)
                else:
                    state.skipped_in_a_row = 0
                    meter.add(passed, len(batch))
                figures = evaluation = None
                if state.step % config.log_every == 0:
                    figures = {**meter.report(), "lr": rate}
                    log.write({"step": state.step, "seconds": state.seconds, **figures})
                if state.quantizing and budget.evaluation_due():
                    evaluation = _evaluate(state, held_out, folder, log)
                    meter.counts.zero_()
                if evaluation or budget.save_due():
                    save(folder, state, plan)
                yield Step(state.step, progress, state.seconds, figures, evaluation, crops.take_unreadable())
        except GeneratorExit:
            save(folder, state, plan)
            raise
    if not state.quantizing:
        place_codes(state, crops, config)
    evaluation = _evaluate(state, held_out, folder, log)
    save(folder, state, plan)
    yield Step(state.step, 1.0, state.seconds, evaluation=evaluation)


def _skip(state: TrainingState) -> None:
    state.skipped += 1
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= _MAX_SKIPPED:
        raise TrainingError(
            f"latents or gradients were not finite in {_MAX_SKIPPED} steps in a row, at step {state.step}: "
            "the last checkpoint stands; start again with a lower --lr or --precision float32"
        )


@torch.no_grad()
def place_codes(state: TrainingState, crops: Crops, config: TrainConfig) -> None:
    """Put the codebook on the latents of the coming batches, and quantize from now on."""
    wanted = min(_MAX_LATENTS, _LATENTS_PER_CODE * max(state.model.codebook_sizes))
    latents: list[Tensor] = []
    size = config.batch_size or 1
    for step in range(state.step, state.step + 1 + wanted):
        batch = crops.batch(range(step * size, (step + 1) * size)).to(config.device)
        if len(batch):
            latents.append(state.model.latents(to_unit_range(batch)).reshape(-1, state.model.quantizer.dim))
        if sum(map(len, latents)) >= wanted:
            break
    state.model.quantizer.initialise(torch.cat(latents))
    state.average.quantizer.load_state_dict(state.model.quantizer.state_dict())
    state.quantizing = True


def _evaluate(state: TrainingState, held_out: Sequence[Tensor], folder: Path, log: MetricsLog) -> Evaluation:
    evaluation = evaluate(state.average, held_out)
    state.figures = asdict(evaluation)
    log.write({"step": state.step, "seconds": state.seconds, "held_out": state.figures})
    pixels = picture(state.average, held_out[0])
    write_bytes(folder / "pictures" / f"step_{state.step:07d}.png", encode_image(pixels, "png"))
    return evaluation


def save(folder: Path, state: TrainingState, plan: Plan) -> None:
    """Write the checkpoint, once there are codes to encode with, and the training state.

    Raises:
        OutputError: they cannot be written.
    """
    if state.quantizing:
        made_by = {
            "images": len(plan.train),
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "held_out": {**state.figures, "images": len(plan.held_out), "seen_in_training": plan.overlap},
            "settings": to_dict(plan.config),
        }
        checkpoint.save(folder, state.average, made_by)
    states.save(folder, state, plan.config, identify(plan.train))
