"""Settings that nobody gave, chosen from the data and the machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizer import runtime
from tokenizer.config import TrainConfig, read_settings, to_dict
from tokenizer.errors import ConfigError, InputError
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.quantizers import Quantizer, fitting_width, resolve_spec
from tokenizer.train.scales import DataSides, crops_per_read, describe_scales, probe_sides, scale_notes
from tokenizer.train.settings_check import image_size_faults, settings_faults, shape_of_quantizer
from tokenizer.train.tensorboard import check_log_to
from tokenizer.train.validation import split_validation

_CROP = 128
_QUANTIZE_AFTER = 0.2

# Where images lie: one image or folder, or several; or the images themselves.
TrainingData = str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Source]


@dataclass(frozen=True)
class Plan:
    """A run that can start: every setting has a value.

    Attributes:
        config: without a None where one can be chosen: `steps` or `minutes`, `encode_size`, `val_data` and others
            stay.
        train: images to train on.
        validation: images to evaluate on.
        overlap: true when there were too few images to keep any for validation: `validation` are training images.
        multiple: pixels per position along each side, which the sides of what it sees are multiples of.
        notes: what the user should know before it starts, one line each.
        tokens: how many positions the training images hold, about.
        sides: of a sample of the training images.
    """

    config: TrainConfig
    train: tuple[Source, ...]
    validation: tuple[Source, ...]
    overlap: bool
    multiple: int
    notes: tuple[str, ...]
    tokens: int
    sides: DataSides

    @property
    def scales(self) -> str:
        """One line that says at which scales crops are drawn."""
        return describe_scales(self.config, self.sides)

    @property
    def codes(self) -> int:
        """The largest codebook that the images can fill: a power of two, with 8 tokens a code or more."""
        return _fillable(self.tokens)


def plan_run(config: TrainConfig, data: TrainingData) -> Plan:
    """Look at the data and the machine, and return a run that can start.

    Args:
        config: settings; what is None is chosen.
        data: images, folders that are searched for them, or sources, such as `inputs.dataset_sources` makes.

    Raises:
        ConfigError: a setting is wrong, all faults listed.
        InputError: there are no images.
        DeviceError: the device is absent.
    """
    config, made, notes = _complete_quantizer(config)
    check_log_to(config)
    sources = _find(data)
    device = runtime.choose_device(config.device)
    count = config.val_images if config.val_images is not None else min(128, len(sources) // 20)
    if config.val_data:
        train, validation = sources, list(find_images(config.val_data)[: config.val_images or None])
    else:
        if count >= len(sources):
            raise InputError(f"val_images is {count}, there are {len(sources)} images: name fewer")
        train, validation = split_validation(sources, count, config.seed)
    overlap = not validation
    validation = validation or train[:16]
    sides, multiple = probe_sides(train), config.network.downsample * made.block
    side = config.encode_size or sides.median
    image_size = config.image_size or max(multiple, min(_CROP, side) // multiple * multiple)
    faults = image_size_faults(dataclasses.replace(config, image_size=image_size), multiple)
    if faults:
        raise ConfigError(faults)
    chosen = dataclasses.replace(
        config,
        device=str(device),
        precision=runtime.choose_precision(config.precision, device),
        image_size=image_size,
        minutes=config.minutes if config.minutes or config.steps else 30.0,
        batch_size=config.batch_size or _batch_size(image_size, device.type),
        workers=config.workers if config.workers is not None else _workers(),
        val_images=0 if overlap else len(validation),
        quantize_after=_QUANTIZE_AFTER
        if config.quantize_after is None and not config.init_from
        else config.quantize_after,
        crops_per_read=config.crops_per_read or crops_per_read(config, sides, len(train)),
    )
    tokens = len(train) * (side // multiple) ** 2  # one for each position of an image's smaller side, squared
    notes += [*_notes(chosen, len(train), tokens, max(made.sizes), overlap=overlap), *scale_notes(chosen, sides)]
    return Plan(chosen, tuple(train), tuple(validation), overlap, multiple, tuple(notes), tokens, sides)


def _find(data: TrainingData) -> list[Source]:
    several = [data] if isinstance(data, str | os.PathLike) else data
    found = [*find_images([item for item in several if not isinstance(item, Source)])]
    found += [item for item in several if isinstance(item, Source)]
    if not found:
        raise InputError("there are no images: name a folder, or pass sources")
    return found


def _complete_quantizer(config: TrainConfig) -> tuple[TrainConfig, Quantizer, list[str]]:
    """Return the settings with every option of the quantizer and a width that it can work with; and what it is.

    Raises:
        ConfigError: a setting is wrong, all faults listed.
    """
    found = read_settings(TrainConfig, to_dict(config))  # of Python code, which may have passed other types
    faults = [*found.faults, *settings_faults(found.value, found.unread)]
    if faults:
        raise ConfigError(faults)
    config = found.value
    wanted = config.network.latent_dim
    width = fitting_width(config.quantizer, wanted)
    network = dataclasses.replace(config.network, latent_dim=width)
    note = f"{config.quantizer['name']} needs wider latents: network.latent_dim is {width}, not {wanted}"
    complete = dataclasses.replace(config, network=network, quantizer=resolve_spec(config.quantizer))
    return complete, shape_of_quantizer(complete), [note] if width != wanted else []


def _batch_size(image_size: int, device: str) -> int:
    """Return 16 crops of 128 pixels on a CPU, 64 elsewhere; up to four times as many smaller ones."""
    fitting = round((_CROP / image_size) ** 2)
    return (16 if device == "cpu" else 64) * min(4, max(1, fitting))


def _workers() -> int:
    return min(8, max(1, runtime.processor_count() // 2))


def _notes(config: TrainConfig, images: int, tokens: int, size: int, *, overlap: bool) -> list[str]:
    notes = []
    if config.init_from:
        frozen = f"; kept as they are: {', '.join(config.freeze)}" if config.freeze else ""
        notes.append(f"weights and codes start from the checkpoint {config.init_from}{frozen}")
    if config.loss.get("perceptual") and config.perceptual_weights is None:
        notes.append("the perceptual term sees with EfficientNet-Lite0: perceptual_weights=FILE takes VGG-16")
    if overlap:
        notes.append(f"{images} images are too few to keep some for validation: figures are on training images")
    if config.batch_size is not None and config.batch_size > images:
        notes.append(f"{images} images are fewer than a batch of {config.batch_size}: each step sees some twice")
    if tokens < 8 * size:
        notes.append(
            f"a codebook of {size} is large for images that hold about {tokens} tokens in all: "
            f"--codebook-size {_fillable(tokens)} would be filled"
        )
    if config.patience and not config.eval_every:
        notes.append(
            f"patience is {config.patience}, and a run is evaluated seven times before its end at most: "
            "pass --eval-every too"
        )
    return notes


def _fillable(tokens: int) -> int:
    """Return the largest power of two, 16 or more, of which each code has 8 of the tokens or more."""
    return 2 ** max(4, (tokens // 8).bit_length() - 1)
