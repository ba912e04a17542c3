"""What `vqtok train` says: the plan and its cost before it starts, and the figures of its steps."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.console import Console
from tokenizer.config import to_dict

if TYPE_CHECKING:
    from rich.progress import Progress

    from tokenizer.train import CostEstimate, ImageSample, Plan, Step, TrainingState

# Those that have words of their own; what else a step brings is shown by its name.
_KNOWN = ("loss", "psnr", "used", "perplexity", "images_per_second", "waiting", "lr")


def announce(console: Console, plan: Plan, *, thoroughly: bool = False) -> ImageSample:
    """Tell what will be trained on what, and what the user should know before; `thoroughly` reads images for it."""
    from tokenizer.quantizers import short_spec
    from tokenizer.train import look_at_images

    config = plan.config
    kind = "training images" if plan.overlap else "validation images"
    network = config.network
    look = look_at_images(plan, thoroughly=thoroughly)
    console.say(f"{len(plan.train)} images to train on, evaluated on {len(plan.validation)} {kind}")
    if look.sizes:
        smallest, median, largest = (f"{width}x{height}" for height, width in look.sizes)
        console.say(f"sizes: {smallest} to {largest} px, median {median}, of {look.looked_at} images looked at")
    console.say(f"network: downsample {network.downsample}, widths {network.widths}, depths {network.depths}")
    console.say(f"quantizer: {short_spec(config.quantizer, ['codebook_size'])}, latents {network.latent_dim} wide")
    console.say(
        f"training: {_budget(plan)}, batches of {config.batch_size} crops of {config.image_size} px, "
        f"{config.precision} on {config.device}, {config.workers} reading threads, seed {config.seed}"
    )
    if look.unreadable:
        (name, reason), count = look.unreadable[0], len(look.unreadable)
        console.warn(f"{count} of {look.looked_at} images looked at cannot be read, the first is {name}: {reason}")
    for note in plan.notes:
        console.warn(note)
    return look


def _budget(plan: Plan) -> str:
    return f"{plan.config.steps} steps" if plan.config.steps else f"{plan.config.minutes:g} minutes"


def rehearse(console: Console, plan: Plan, look: ImageSample) -> dict[str, Any]:
    """Take a few steps in memory, tell what the run will cost, and return what `--dry-run --json` prints."""
    from tokenizer.train import estimate_cost

    estimate = estimate_cost(plan)
    console.say(f"the training images hold about {plan.tokens} tokens in all, enough to fill {plan.codes} codes")
    console.say(_cost(plan, estimate) if estimate else "no image can be read: time and memory are not known")
    names = ("smallest", "median", "largest")
    return {
        "train": len(plan.train),
        "validation": 0 if plan.overlap else len(plan.validation),
        "looked_at": look.looked_at,
        "sizes": {name: {"width": w, "height": h} for name, (h, w) in zip(names, look.sizes, strict=False)},
        "unreadable": [{"name": name, "reason": reason} for name, reason in look.unreadable],
        "tokens": plan.tokens,
        "codes": plan.codes,
        "estimate": asdict(estimate) if estimate else None,
        "settings": to_dict(plan.config),
        "notes": plan.notes,
    }


def _cost(plan: Plan, estimate: CostEstimate) -> str:
    count = f"about {estimate.steps} steps in " if plan.config.steps is None else f"{estimate.steps} steps take about "
    memory = "" if estimate.peak_memory_mb is None else f", {estimate.peak_memory_mb:.0f} MiB of memory"
    each = f"{estimate.seconds_per_step:.2g} s each"
    return f"{count}{_clock(estimate.seconds)}, {each}, {estimate.epochs:.1f} times over the images{memory}"


class Teller:
    """Tells the steps of a run: live on a terminal, else a line from time to time.

    Args:
        console: of the command.
        plan: of the run.
        bar: that `console` shows.
    """

    def __init__(self, console: Console, plan: Plan, bar: Progress) -> None:
        self._console, self._plan, self._bar = console, plan, bar
        self._task = bar.add_task("", total=1.0, figures="")
        self._latest: dict[str, float] | None = None

    def tell(self, step: Step) -> None:
        """Tell what there is to tell of one step."""
        console = self._console
        self._latest = step.figures or self._latest
        if console.live:
            lines = [_head(step), *(_lines(self._latest) if self._latest else [])]
            self._bar.update(self._task, completed=step.progress, figures="\n".join(lines))
        elif step.figures and step.step % (10 * self._plan.config.log_every) == 0:
            console.say("  ".join([f"{100 * step.progress:3.0f} %", _head(step), *_lines(step.figures)]))
        if step.evaluation:
            kind = "on training images" if self._plan.overlap else "validation"
            console.say(f"step {step.step}: {kind} {evaluation(step)}")
        for name, reason in step.unreadable:
            console.warn(f"{name}: {reason}")
        if step.warning:
            console.warn(step.warning)


def _head(step: Step) -> str:
    """Return the step and how long the rest of the budget takes at the pace so far."""
    left = f"  {_clock(step.seconds * (1 - step.progress) / step.progress)} left" if step.progress else ""
    return f"step {step.step}{left}"


def _clock(seconds: float) -> str:
    """Return a time as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _lines(figures: dict[str, float]) -> list[str]:
    """Return the figures of the latest steps in lines short enough for a terminal of 80 columns with a bar."""
    f = figures
    use = f"used {100 * f['used']:.0f} %  perplexity {f['perplexity']:.0f}" if f["perplexity"] > 1 else "no codes yet"
    rest = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in f.items() if name not in _KNOWN]
    return [
        f"loss {f['loss']:.4f}  psnr {f['psnr']:.2f} dB  {use}",
        f"{f['images_per_second']:.0f} images/s  waiting {100 * f['waiting']:.0f} %",
        *("  ".join(rest[start : start + 3]) for start in range(0, len(rest), 3)),
    ]


def evaluation(step: Step) -> str:
    """Return the figures on the validation images on one line."""
    e = step.evaluation
    return "" if e is None else f"psnr {e.psnr:.2f} dB, used {100 * e.used:.1f} %, perplexity {e.perplexity:.0f}"


def stopped_early(plan: Plan, state: TrainingState) -> str | None:
    """Return why a run ended before its budget did, where it was for want of progress."""
    patience = plan.config.patience
    if not patience or state.evaluations_since_best < patience or state.best is None:
        return None
    return (
        f"stopped early at step {state.step}: {patience} evaluations in a row were no better than {state.best:.2f} dB"
    )
