"""What can be set: frozen dataclasses of plain types, and presets. Each default stands in one place: the field's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

DOWNSAMPLES = (4, 8, 16, 32)
Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


# Widths and residual blocks of each stage: about 2 to 3, 8 to 15 and 35 to 50 million parameters.
PRESETS: dict[str, dict[int, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "tiny": {
        4: ((160,), (3,)),
        8: ((96, 128), (3, 3)),
        16: ((64, 96, 128), (2, 2, 2)),
        32: ((64, 96, 128, 128), (2, 2, 2, 2)),
    },
    "small": {
        4: ((256,), (5,)),
        8: ((160, 256), (3, 3)),
        16: ((96, 192, 256), (2, 3, 3)),
        32: ((96, 160, 192, 256), (2, 2, 2, 3)),
    },
    "base": {
        4: ((384,), (8,)),
        8: ((256, 448), (3, 4)),
        16: ((128, 256, 448), (2, 3, 4)),
        32: ((128, 256, 320, 384), (2, 3, 3, 3)),
    },
}


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The encoder and its mirror image, the decoder.

    Attributes:
        downsample: pixels per position along each side.
        widths: channels of each stage, from that at a quarter of the resolution down to the latent grid's; each
            stage halves the one before, so there are `log2(downsample) - 1` of them.
        depths: residual blocks of each stage.
        latent_dim: width of a latent, and of a code.
    """

    downsample: int = 16
    widths: tuple[int, ...] = PRESETS["tiny"][16][0]
    depths: tuple[int, ...] = PRESETS["tiny"][16][1]
    latent_dim: int = 8

    def faults(self) -> list[str]:
        """Return what is wrong with these settings, one line each."""
        found = []
        if self.downsample not in DOWNSAMPLES:
            found.append(f"network.downsample is {self.downsample}, expected one of {DOWNSAMPLES}")
        elif 2 ** (len(self.widths) + 1) != self.downsample:
            wanted = self.downsample.bit_length() - 2
            found.append(
                f"network.widths has {len(self.widths)} stages, a downsample of {self.downsample} takes {wanted}"
            )
        if len(self.widths) != len(self.depths):
            found.append(f"network.widths {self.widths} and network.depths {self.depths} differ in length")
        if any(width < 1 for width in self.widths) or any(depth < 0 for depth in self.depths):
            found.append("network.widths must be 1 or more and network.depths 0 or more")
        if self.latent_dim < 1:
            found.append(f"network.latent_dim is {self.latent_dim}, expected 1 or more")
        return found


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. Where a value is None, `train.plan` chooses it from the data and the machine.

    Attributes:
        network: the encoder's and decoder's shape.
        quantizer: name of a registered quantizer and its options, which its constructor declares and checks.
        image_size: side of the training crops in pixels.
        smallest_crop: share of an image's shorter side that the smallest crop spans; the largest spans all of it.
        steps: budget in optimizer steps; or
        minutes: budget in wall-clock minutes, evaluations included. The schedule follows either.
        batch_size: crops a step.
        lr: peak learning rate.
        weight_decay: of the kernels.
        warmup: share of the budget over which the rate rises from 0; then it falls to 0 by a cosine.
        clip_norm: largest norm of the whole gradient.
        ema_decay: of the moving average of the weights, which is what is saved and evaluated.
        loss: weight of each reconstruction term of `tokenizer.losses`.
        quantize_after: share of the budget that trains without quantization, before the codebook is placed.
        revive_until: share of the budget after which dead codes are left alone.
        precision: of the network's arithmetic in training; distances are always float32.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: threads that read images.
        seed: of everything random.
        alpha: colour under transparent pixels.
        val_data: folder of images to evaluate on, in place of held-out ones.
        val_images: how many images are held out of training, or taken from `val_data`.
        log_every: steps between lines of `metrics.jsonl`.
        eval_every: steps between evaluations.
        save_every: minutes between checkpoints.
    """

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    quantizer: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "diveq"})
    image_size: int | None = None
    smallest_crop: float = 0.5
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    lr: float = 2e-3
    weight_decay: float = 0.0
    warmup: float = 0.04
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    loss: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"l2": 1.0})
    quantize_after: float = 0.2
    revive_until: float = 0.9
    precision: str = "auto"
    device: str = "auto"
    workers: int | None = None
    seed: int = 0
    alpha: str = "white"
    val_data: str | None = None
    val_images: int | None = None
    log_every: int = 20
    eval_every: int | None = None
    save_every: float = 2.0

    def faults(self) -> list[str]:
        """Return what is wrong with these settings, one line each."""
        found = self.network.faults()
        for names, holds, wanted in _RULES:
            values = {name: getattr(self, name) for name in names}
            found += [f"{n} is {v!r}, expected {wanted}" for n, v in values.items() if v is not None and not holds(v)]
        if self.steps is not None and self.minutes is not None:
            found.append("steps and minutes are both given: name one budget")
        multiple = self.network.downsample
        if self.image_size is not None and multiple in DOWNSAMPLES and self.image_size % multiple:
            found.append(f"image_size is {self.image_size}, expected a multiple of network.downsample ({multiple})")
        return found


_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("image_size", "steps", "minutes", "batch_size", "lr", "clip_norm", "log_every", "eval_every", "save_every"),
        lambda value: value > 0,
        "more than 0",
    ),
    (
        ("weight_decay", "revive_until", "workers", "val_images", "seed"),
        lambda value: value >= 0,
        "0 or more",
    ),
    (("warmup", "quantize_after", "ema_decay"), lambda value: 0 <= value < 1, "0 or more and less than 1"),
    (("smallest_crop",), lambda value: 0 < value <= 1, "more than 0, at most 1"),
    (("precision",), lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
)
