"""What is wrong with the settings of a run, told before its data is looked at; all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tokenizer.config import TrainConfig
from tokenizer.errors import ConfigError, UsageError
from tokenizer.images import parse_color
from tokenizer.quantizers import Quantizer, build_quantizer, fitting_width
from tokenizer.train.losses import loss_faults, smallest_loss_side
from tokenizer.train.perceptual import check_perceptual_weights


def settings_faults(config: TrainConfig, unread: frozenset[str] = frozenset()) -> list[str]:
    """Return what is wrong with settings, one line each: ranges, contradictions, quantizer, loss and color.

    Args:
        config: settings, some of which may be faulty.
        unread: full names of those whose given value could not be read. Their defaults stand here, which nothing else
            is compared with.

    Raises:
        InputError: the file of the perceptual term's weights is damaged.
    """
    faults = config.faults(unread)
    faults += _faults_of(lambda: parse_color(config.alpha))
    # As if each weight that cannot be read were above 0.
    terms = {name.removeprefix("loss."): 1.0 for name in unread if name.startswith("loss.")}
    faults += loss_faults({**config.loss, **terms})
    if config.loss.get("perceptual") and "perceptual_weights" not in unread:
        faults += _faults_of(lambda: check_perceptual_weights(config.perceptual_weights))
    network_is_sound = not config.network.faults(unread)
    made: list[Quantizer] = []
    faults += _faults_of(lambda: made.append(shape_of_quantizer(config, None if network_is_sound else 8)))
    is_comparable = network_is_sound and unread.isdisjoint(("image_size", "network", "network.downsample"))
    if made and is_comparable and not (config.image_size or 0) % config.network.downsample:
        faults += image_size_faults(config, config.network.downsample * made[0].block)
    return faults


def _faults_of(check: Callable[[], Any]) -> list[str]:
    try:
        check()
    except ConfigError as error:
        return list(error.faults)
    except UsageError as error:
        return [str(error)]
    return []


def shape_of_quantizer(config: TrainConfig, width: int | None = None) -> Quantizer:
    """Return the quantizer of a run without memory for its weights.

    Its latents are as wide as the network's, or `width`, or the least above that with which it can work.

    Raises:
        ConfigError: its options are wrong.
    """
    width = fitting_width(config.quantizer, width or config.network.latent_dim)
    try:
        with torch.device("meta"):
            return build_quantizer(config.quantizer, width)
    except RuntimeError as error:  # a tensor of more numbers than can be counted
        raise ConfigError([f"the quantizer is too large: {str(error).splitlines()[0]}"]) from error


def image_size_faults(config: TrainConfig, multiple: int) -> list[str]:
    """Return why crops of that size cannot be trained on, one line each; `multiple` is the side of a position."""
    faults, size = [], config.image_size
    if size is not None and size % multiple:
        faults.append(f"image_size is {size}, expected a multiple of {multiple}, the side of a position")
    if size is not None and size < smallest_loss_side(config.loss):
        faults.append(f"image_size is {size}, the loss takes {smallest_loss_side(config.loss)} or more")
    if size is not None and config.encode_size is not None and size > config.encode_size:
        faults.append(f"image_size is {size}, expected at most encode_size ({config.encode_size})")
    return faults
