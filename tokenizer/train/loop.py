"""The training loop: batch, step, evaluate, save; back to the last good state where numbers run away."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tokenizer import runtime
from tokenizer.config import TrainConfig, to_dict
from tokenizer.errors import TrainingError
from tokenizer.files import write_bytes
from tokenizer.images import encode_image, parse_color
from tokenizer.models import save_checkpoint, to_unit_range
from tokenizer.train.collapse import CollapseWatch
from tokenizer.train.crops import Crops, crop_batches
from tokenizer.train.evaluation import Evaluation, evaluate, validation_picture
from tokenizer.train.init_from import place_code_vectors
from tokenizer.train.linear_path import fit_linear_path
from tokenizer.train.metrics_log import Meter
from tokenizer.train.planning import Plan
from tokenizer.train.run_budget import Budget
from tokenizer.train.saved_states import has_states, read_newest_state, write_state
from tokenizer.train.start import BEST, identify_images
from tokenizer.train.state import TrainingState, capture_state, restore_state
from tokenizer.train.step import Learner
from tokenizer.train.tensorboard import open_log
from tokenizer.train.validation import no_validation_images, validation_batches

VALIDATION_FILE = "validation.txt"
_MAX_SKIPPED = 10
_MAX_ROLLBACKS = 2
_LATENTS_PER_CODE = 16
_MAX_LATENTS = 2**17
_FLAT = 10 / 127.5  # levels of 8-bit pixels, in [-1, 1]


@dataclass(frozen=True)
class Step:
    """One step of training.

    Attributes:
        step: steps taken so far.
        progress: share of the budget spent, 0 to 1.
        seconds: wall-clock time spent, over all sessions.
        figures: loss, psnr (of the batch, dB), used, perplexity, images_per_second, waiting (share of the time
            spent waiting for images), lr, and those of the objective; every `log_every` steps, else None.
        evaluation: figures on the validation images, when this step evaluated.
        unreadable: (name, reason) of images that could not be read since the step before.
        warning: what the user should know, where something went wrong.
    """

    step: int
    progress: float
    seconds: float
    figures: dict[str, float] | None = None
    evaluation: Evaluation | None = None
    unreadable: tuple[tuple[str, str], ...] = ()
    warning: str | None = None


def train(plan: Plan, state: TrainingState, folder: Path) -> Generator[Step]:
    """Train from `state` to the end of the budget, yielding each step.

    Writes under `folder` the checkpoint, the best one, training states, `metrics.jsonl`, `validation.txt` and pictures.
    When the caller closes the generator, everything is saved first. Where several ranks train together, all must take
    the same steps; the first one writes.

    Where latents or gradients are not finite many times in a row, the run goes back to the last saved state with half
    the learning rate, twice at most.

    Raises:
        TrainingError: they are not finite again; what was saved before stands.
        OutputError: a file cannot be written; what was saved before stands.
    """
    run = _Loop(plan, state, folder)
    with contextlib.closing(run):
        try:
            while (progress := run.budget.progress()) < 1:
                if run.learn(progress):
                    yield run.report(progress)
        except GeneratorExit:
            run.save()
            raise
        if not state.quantizing:
            place_codebook(state, run.crops, plan.config)
        evaluation = run.evaluate()
        run.save()
        yield Step(state.step, 1.0, state.seconds, evaluation=evaluation)


class _Loop:
    """What the steps of a run share, between its beginning and its end."""

    def __init__(self, plan: Plan, state: TrainingState, folder: Path) -> None:
        config, alpha = plan.config, parse_color(plan.config.alpha)
        self.plan, self.state, self.folder, self.config = plan, state, folder, config
        self.first = runtime.rank() == 0
        self.crops = Crops(plan.train, config)
        if not state.step and not config.init_from:
            fit_linear_path(state, self.crops, config)
        # A rank without readable validation images has none to evaluate; all ranks' figures are added.
        mine = plan.validation[runtime.rank() :: runtime.world_size()]
        self.validation = validation_batches(
            mine, plan.multiple, config.batch_size or 1, alpha, self.crops.unreadable, config.encode_size
        )
        if not runtime.any_over_ranks(torch.tensor(bool(self.validation))):
            raise no_validation_images(plan.validation)
        if self.first:
            lines = [source.file if isinstance(source.file, Path) else source.name for source in plan.validation]
            names = "".join(f"{line}\n" for line in lines)
            write_bytes(folder / VALIDATION_FILE, names.encode("utf-8", "surrogateescape"))
        self.log = open_log(config, folder, state.step)
        self.collapse = CollapseWatch(config, state.model.codebook_sizes)
        self.meter = Meter(state.model.codebook_sizes, torch.device(config.device))
        self.budget = Budget(config, state)
        self.learner = Learner(state, config)
        self.feed = self._feed()
        self.warning: str | None = None

    def _feed(self) -> Generator[Tensor]:
        size = (self.config.batch_size or 1) * self.config.grad_accum
        share = (runtime.rank(), runtime.world_size())
        return crop_batches(self.crops, size, self.state.crops, self.config.workers or 0, share)

    def close(self) -> None:
        """Stop reading images, and write what the log still holds."""
        self.feed.close()
        self.log.close()

    def learn(self, progress: float) -> bool:
        """Take one step; return False where there was no image to learn from."""
        state, config = self.state, self.config
        if not state.quantizing and progress >= (config.quantize_after or 0.0):
            place_codebook(state, self.crops, config)
        batch = self.meter.next_batch(self.feed)
        state.crops += (config.batch_size or 1) * config.grad_accum * runtime.world_size()
        if bool(runtime.any_over_ranks(torch.tensor(not len(batch)))):
            return False
        passed = self.learner.step(batch, progress)
        if passed is None:
            self._skip()
        else:
            state.skipped_in_a_row = 0
            self.meter.add(passed, len(batch))
        return True

    def _skip(self) -> None:
        state = self.state
        state.skipped += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row < _MAX_SKIPPED:
            return
        fault = f"latents or gradients were not finite in {_MAX_SKIPPED} steps in a row, at step {state.step}"
        if state.rollbacks == _MAX_ROLLBACKS or not runtime.object_from_first_rank(has_states(self.folder)):
            raise TrainingError(
                f"{fault}: the last checkpoint stands; start again with a lower --lr or --precision float32"
            )
        self._go_back()
        self.warning = f"{fault}: back to step {state.step}, with {state.lr_share:g} of the learning rate"

    def _go_back(self) -> None:
        state, skipped, rollbacks = self.state, self.state.skipped, self.state.rollbacks
        restore_state(state, read_newest_state(self.folder)[0])
        state.skipped, state.skipped_in_a_row = skipped, 0
        state.rollbacks, state.lr_share = rollbacks + 1, 0.5 ** (rollbacks + 1)
        self.close()
        self.feed = self._feed()
        self.log = open_log(self.config, self.folder, state.step)

    def report(self, progress: float) -> Step:
        """Return what there is to tell of this step, after the evaluation and the saving that are due."""
        state, config = self.state, self.config
        figures = evaluation = None
        if state.step % config.log_every == 0:
            figures = {**self.meter.report(), **state.objective.figures(), "lr": self.learner.rate}
            self.log.write({"step": state.step, "seconds": state.seconds, **figures})
            self.warning = self.warning or self.collapse.warning(progress, figures["perplexity"], self.meter.counts)
        good = not state.skipped_in_a_row  # what a bad step leaves is neither judged nor saved
        if good and state.quantizing and state.step != config.steps and self.budget.evaluation_due():
            best = state.best
            evaluation = self.evaluate()
            state.evaluations_since_best = 0 if state.best != best else state.evaluations_since_best + 1
            self.meter.counts.zero_()
        if evaluation or (good and self.budget.save_due()):
            self.save()
        warning, self.warning = self.warning, None
        unreadable = self.crops.take_unreadable()
        return Step(state.step, progress, state.seconds, figures, evaluation, unreadable, warning)

    def evaluate(self) -> Evaluation:
        """Evaluate the average on the validation images; keep it where it is the best so far."""
        state = self.state
        evaluation = evaluate(state.ema, self.validation)
        state.figures = asdict(evaluation)
        better = state.best is None or evaluation.psnr > state.best
        state.best = evaluation.psnr if better else state.best
        self.log.write({"step": state.step, "seconds": state.seconds, "validation": state.figures})
        if self.first:
            if better:
                save_checkpoint(self.folder / BEST, state.ema, self._made_by(), state.reads)
            if self.validation:
                pixels = validation_picture(state.ema, self.validation)
                write_bytes(self.folder / "pictures" / f"step_{state.step:07d}.png", encode_image(pixels, "png"))
                self.log.show(state.step, state.ema, self.validation, pixels)
        return evaluation

    def save(self) -> None:
        """Write the training state, and the checkpoint once there are codes to encode with.

        Raises:
            OutputError: they cannot be written.
        """
        saved = capture_state(self.state, self.config, identify_images(self.plan.train))
        if not self.first:
            return
        write_state(self.folder, saved, self.config.keep)
        if self.state.quantizing:
            save_checkpoint(self.folder, self.state.ema, self._made_by(), self.state.reads)

    def _made_by(self) -> dict[str, object]:
        state, plan = self.state, self.plan
        return {
            "images": len(plan.train),
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "validation": {**state.figures, "images": len(plan.validation), "seen_in_training": plan.overlap},
            "settings": to_dict(plan.config),
        }


@torch.no_grad()
def place_codebook(state: TrainingState, crops: Crops, config: TrainConfig) -> None:
    """Put the codebook on latents of the coming crops, and quantize from now on; the same on every rank.

    Twice as many latents as are wanted are looked at, and drawn from by `_flatness`: pictures have more busy blocks
    than flat ones, and codes that follow their number leave flat areas a patchwork.
    """
    wanted = min(_MAX_LATENTS, _LATENTS_PER_CODE * max(state.model.codebook_sizes))
    latents: list[Tensor] = []
    weights: list[Tensor] = []
    size = config.batch_size or 1
    for first in range(state.crops, state.crops + size * (1 + 2 * wanted), size):
        batch = crops.batch(range(first, first + size)).to(config.device)
        if len(batch):
            images = to_unit_range(batch)
            latents.append(state.model.latents(images).reshape(-1, state.model.quantizer.dim))
            weights.append(_flatness(images, state.model.downsample))
        if sum(map(len, latents)) >= 2 * wanted:
            break
    # As many whatever the size of a batch, so that the codes are the same.
    found, weight = torch.cat(latents)[: 2 * wanted], torch.cat(weights)[: 2 * wanted]
    drawn = torch.multinomial(weight, min(wanted, len(found)))
    place_code_vectors(state.model.quantizer, found[drawn], anew=config.quantize_after is not None)
    state.ema.quantizer.load_state_dict(state.model.quantizer.state_dict())
    state.quantizing = True


def _flatness(images: Tensor, side: int) -> Tensor:
    """Return for each block of side x side pixels of (B, 3, H, W) images 1 / (standard deviation + 10 levels of 255).

    Returns:
        (B h w,) in the order of `Tokenizer.latents`.
    """
    mean, square = (functional.avg_pool2d(values, side) for values in (images, images.square()))
    variance = (square - mean.square()).clamp_min(0).mean(dim=1)
    return 1 / (variance.sqrt() + _FLAT).flatten()
