"""What `vqtok train` says: the plan before it starts, and the figures of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.console import Console

if TYPE_CHECKING:
    from tokenizer.train import Plan, Step


def announce(console: Console, plan: Plan) -> None:
    """Tell what will be trained on what, and what the user should know before."""
    from tokenizer.quantizers import short

    config = plan.config
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    kind = "training images" if plan.overlap else "held-out images"
    network = config.network
    console.say(f"{len(plan.train)} images to train on, evaluated on {len(plan.held_out)} {kind}")
    console.say(f"network: downsample {network.downsample}, widths {network.widths}, depths {network.depths}")
    console.say(f"quantizer: {short(config.quantizer, ['codebook_size'])}, latents {network.latent_dim} wide")
    console.say(
        f"training: {budget}, batches of {config.batch_size} crops of {config.image_size} px, {config.precision} on "
        f"{config.device}, {config.workers} reading threads, seed {config.seed}"
    )
    for note in plan.notes:
        console.warn(note)


def figures(step: Step) -> str:
    """Return the figures of the latest steps on one line."""
    f = step.figures or {}
    use = (
        f"used {100 * f['used']:.0f} %  perplexity {f['perplexity']:.0f}  " if f["perplexity"] > 1 else "no codes yet  "
    )
    return (
        f"step {step.step}  loss {f['loss']:.4f}  psnr {f['psnr']:.2f} dB  {use}"
        f"{f['images_per_second']:.0f} images/s  waiting {100 * f['waiting']:.0f} %"
    )


def evaluation(step: Step) -> str:
    """Return the figures on the held-out images on one line."""
    e = step.evaluation
    return "" if e is None else f"psnr {e.psnr:.2f} dB, used {100 * e.used:.1f} %, perplexity {e.perplexity:.0f}"
