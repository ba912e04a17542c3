"""What can be set: frozen dataclasses of plain types. Each default stands in one place: the field's."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from tokenizer.config.presets import PRESETS

DOWNSAMPLES = (4, 8, 16, 32)
Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
FREEZABLE: tuple[str, ...] = ("encoder", "decoder", "codebook")
LogTo = Literal["tensorboard"]
LOGS: tuple[str, ...] = get_args(LogTo)
# Far above what is of use, and so low that no network of these sizes is a surprise.
_WIDEST, _DEEPEST, _WIDEST_LATENT = 2**16, 2**8, 2**12


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The encoder and the decoder, its mirror image unless `decoder_widths` or `decoder_depths` say otherwise.

    Attributes:
        downsample: pixels per position along each side.
        widths: channels of each stage, from that at a quarter of the resolution down to the latent grid's; each
            stage halves the one before, so there are `log2(downsample) - 1` of them.
        depths: residual blocks of each stage.
        latent_dim: width of a latent, and of a code vector.
        decoder_widths: channels of the decoder's stages, in the same order; None for the encoder's.
        decoder_depths: residual blocks of the decoder's stages, in the same order; None for the encoder's.
        linear: a linear path beside encoder and decoder: a block of pixels times a matrix, and back.
    """

    downsample: int = 16
    widths: tuple[int, ...] = PRESETS["tiny"][16][0]
    depths: tuple[int, ...] = PRESETS["tiny"][16][1]
    latent_dim: int = 8
    decoder_widths: tuple[int, ...] | None = None
    decoder_depths: tuple[int, ...] | None = None
    linear: bool = False

    @property
    def decoder_shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths and depths of the decoder."""
        widths = self.widths if self.decoder_widths is None else self.decoder_widths
        return widths, self.depths if self.decoder_depths is None else self.decoder_depths

    def __str__(self) -> str:
        """Return the shape as one line."""
        said = f"downsample {self.downsample}, widths {self.widths}, depths {self.depths}"
        if self.decoder_shape != (self.widths, self.depths):
            said += ", decoder widths {}, depths {}".format(*self.decoder_shape)
        return f"{said}, a linear path beside both" if self.linear else said

    @property
    def min_parameters(self) -> int:
        """How many numbers encoder and decoder hold at least: those of their kernels."""
        found = 0
        for widths, depths in ((self.widths, self.depths), self.decoder_shape):
            found += sum(18 * width**2 * depth for width, depth in zip(widths, depths, strict=True))
            found += sum(4 * narrow * wide for narrow, wide in itertools.pairwise(widths))
            found += 432 * widths[0] + (widths[-1] + self.linear * 3 * self.downsample**2) * self.latent_dim
        return found

    def faults(self, unread: frozenset[str] = frozenset()) -> list[str]:
        """Return what is wrong with these settings, one line each.

        Args:
            unread: full names of settings whose given value could not be read. Their defaults stand here, which nothing
                else is compared with.
        """
        found = []
        if self.downsample not in DOWNSAMPLES:
            found.append(f"network.downsample is {self.downsample}, expected one of {DOWNSAMPLES}")
        found += self._shape_faults("", self.widths, self.depths, unread)
        if self.decoder_widths is not None or self.decoder_depths is not None:
            found += [line for line in self._shape_faults("decoder_", *self.decoder_shape, unread) if line not in found]
        if not 1 <= self.latent_dim <= _WIDEST_LATENT:
            found.append(f"network.latent_dim is {self.latent_dim}, expected 1 to {_WIDEST_LATENT}")
        return found

    def _shape_faults(
        self, part: str, widths: tuple[int, ...], depths: tuple[int, ...], unread: frozenset[str]
    ) -> Iterator[str]:
        """Yield what is wrong with the stages of one part."""
        names = tuple(f"network.{part}{key}" for key in ("widths", "depths"))
        shapes = {"network.downsample", "network.widths", "network.depths", *names}
        if self.downsample in DOWNSAMPLES and unread.isdisjoint(shapes - {"network.depths", names[1]}):
            wanted = self.downsample.bit_length() - 2  # log2(downsample) - 1
            if len(widths) != wanted:
                yield f"{names[0]} has {len(widths)} stages, a downsample of {self.downsample} takes {wanted}"
        if len(widths) != len(depths) and unread.isdisjoint(shapes):
            yield f"{names[0]} {widths} and {names[1]} {depths} differ in length"
        if not all(1 <= width <= _WIDEST for width in widths) or not all(0 <= d <= _DEEPEST for d in depths):
            yield f"{names[0]} must be 1 to {_WIDEST} and {names[1]} 0 to {_DEEPEST}"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. Where a value is None, `train.plan_run` chooses it from the data and the machine.

    Attributes:
        network: the encoder's and decoder's shape.
        quantizer: name of a registered quantizer and its options, which its constructor declares and checks.
        init_from: checkpoint, a folder or the name of one that ships, whose weights and code vectors the run starts
            from. `network` and `quantizer` must fit it, `train.new_settings` makes them so; stages may be deeper.
        freeze: parts that stay as the checkpoint has them: encoder, decoder, codebook.
        image_size: side of the training crops in pixels.
        encode_size: shorter side at which images will be encoded: what `vqtok encode` will be given as `--image-size`
            (with `--resize-mode pad`, the shorter side that it leaves them). Crops and validation images are of that
            scale, then. None: at their own size, which is that command's default.
        native_crops: share of the crops that are cut out at the scale at which images will be encoded, pixel for pixel.
            The others are shrunk. An image whose shorter side is below the crop's gives crops of all of it, enlarged.
        smallest_crop: share of an image's shorter side that the smallest of the other crops spans; the largest spans
            all of it, and spans are drawn evenly. With 0 the smallest spans the crop's own side, so that none is
            enlarged, and each halving of the scale is drawn as often as another.
        crops_per_read: how often an image comes each time that it is read. Large files are read fast with several, and
            the crops of one are mixed with those of many others.
        balance: how far the folders of the data are drawn alike: 0 draws every image alike, 1 every folder, and between
            them a folder of n images has a weight of n^(1 - balance). A folder is that in which an image lies.
        steps: budget in optimizer steps; or
        minutes: budget in wall-clock minutes, evaluations included. The schedule follows either.
        batch_size: crops that go through the network together, on each device.
        grad_accum: such batches that make one optimizer step.
        lr: peak learning rate.
        weight_decay: of the kernels.
        warmup: share of the budget over which the rate rises from 0; then it falls to 0 by a cosine.
        clip_norm: largest norm of the whole gradient.
        ema_decay: of the moving average of the weights, which is what is saved and evaluated.
        loss: weight of each term of `train.TERMS` and `train.LEARNED`.
        perceptual_weights: file of VGG-16's weights, for the term `perceptual`; EfficientNet-Lite0 of the extra
            `perceptual` when None.
        adversarial_after: share of the budget after which a discriminator begins to learn, for the term `adversarial`.
        adversarial_warmup: share of the budget over which it learns alone, and then another over which the term grows.
        adversarial_lr: the discriminator's learning rate over the network's.
        adversarial_max: most that balancing the term's gradient with that of the others multiplies it by.
        lecam: weight of the discriminator's LeCam regularizer.
        quantize_after: share of the budget that trains without quantization, before k-means places the codebook; 0.2
            unless the run starts from a checkpoint, whose codes then stay in use. Given with `init_from`, they are
            placed anew.
        replace_dead_until: share of the budget after which dead codes are left alone.
        precision: of the network's arithmetic in training; distances are always float32.
        device: auto, cpu, cuda, cuda:1, mps.
        compile: compile the network with torch.compile.
        deterministic: take kernels that give the same bits each time, even where they are slower.
        workers: threads that read images.
        seed: of everything random.
        alpha: color under transparent pixels.
        val_data: folder of images to evaluate on, in place of validation ones.
        val_images: how many validation images are kept out of training, or taken from `val_data`.
        log_every: steps between lines of `metrics.jsonl`.
        eval_every: steps between evaluations.
        patience: evaluations in a row without a better PSNR after which the run ends; None for never.
        save_every: minutes between checkpoints.
        keep: how many training states are kept, the newest ones.
        log_to: `tensorboard`, where the figures go too, with pictures and histograms.
    """

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    quantizer: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "diveq"})
    init_from: str | None = None
    freeze: tuple[str, ...] = ()
    image_size: int | None = None
    encode_size: int | None = None
    native_crops: float = 0.75
    smallest_crop: float = 0.0
    crops_per_read: int | None = None
    balance: float = 0.0
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    grad_accum: int = 1
    lr: float = 2e-3
    weight_decay: float = 0.0
    warmup: float = 0.04
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    loss: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"l2": 1.0})
    perceptual_weights: str | None = None
    adversarial_after: float = 0.5
    adversarial_warmup: float = 0.05
    adversarial_lr: float = 0.1
    adversarial_max: float = 1.0
    lecam: float = 1e-3
    quantize_after: float | None = None
    replace_dead_until: float = 0.9
    precision: str = "auto"
    device: str = "auto"
    compile: bool = False
    deterministic: bool = False
    workers: int | None = None
    seed: int = 0
    alpha: str = "white"
    val_data: str | None = None
    val_images: int | None = None
    log_every: int = 20
    eval_every: int | None = None
    patience: int | None = None
    save_every: float = 2.0
    keep: int = 2
    log_to: str | None = None

    def faults(self, unread: frozenset[str] = frozenset()) -> list[str]:
        """Return what is wrong with these settings, one line each; see `NetworkConfig.faults` for `unread`.

        Not looked at here: the quantizer's options, the terms of the loss, the color, the device.
        """
        found = self.network.faults(unread)
        for names, holds, wanted in _RULES:
            values = {name: getattr(self, name) for name in names}
            found += [f"{n} is {v!r}, expected {wanted}" for n, v in values.items() if v is not None and not holds(v)]
        return found + [line for names, line in self._contradictions() if unread.isdisjoint(names)]

    def _contradictions(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield names of settings that do not go together, and why."""
        if self.steps is not None and self.minutes is not None:
            yield ("steps", "minutes"), "steps and minutes are both given: name one budget"
        if set(self.freeze) == set(FREEZABLE):
            yield ("freeze",), "freeze names all parts: nothing is left to train"
        elif self.freeze and self.init_from is None:
            why = "without init_from: only what a checkpoint has trained can be kept"
            yield ("freeze", "init_from"), f"freeze is {self.freeze!r} {why}"
        if self.init_from and self.quantize_after is not None and "codebook" in self.freeze:
            why = "places the codes anew, and freeze names codebook"
            yield ("freeze", "quantize_after"), f"quantize_after is {self.quantize_after}: it {why}"
        if self.loss.get("adversarial") and self.adversarial_after + self.adversarial_warmup >= 1:
            names = ("adversarial_after", "adversarial_warmup")
            yield names, f"{' and '.join(names)} are 1 together: the adversarial term would never begin"
        multiple = self.network.downsample
        if self.image_size is not None and multiple in DOWNSAMPLES and self.image_size % multiple:
            why = f"expected a multiple of network.downsample ({multiple})"
            yield ("image_size", "network", "network.downsample"), f"image_size is {self.image_size}, {why}"


_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        (
            *("image_size", "encode_size", "crops_per_read"),
            *("steps", "minutes", "batch_size", "grad_accum", "lr", "clip_norm"),
            *("adversarial_lr", "adversarial_max"),
            *("log_every", "eval_every", "save_every", "keep", "patience"),
        ),
        lambda value: value > 0,
        "more than 0",
    ),
    (
        ("weight_decay", "replace_dead_until", "lecam", "workers", "val_images", "seed"),
        lambda value: value >= 0,
        "0 or more",
    ),
    (
        ("warmup", "quantize_after", "ema_decay", "adversarial_after", "adversarial_warmup"),
        lambda value: 0 <= value < 1,
        "0 or more and less than 1",
    ),
    (("native_crops", "smallest_crop", "balance"), lambda value: 0 <= value <= 1, "0 to 1"),
    (("log_to",), lambda value: value in LOGS, f"one of {', '.join(LOGS)}"),
    (("precision",), lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    (("freeze",), lambda value: set(value) <= set(FREEZABLE), f"any of {', '.join(FREEZABLE)}"),
)
