"""Which network the perceptual loss sees with: VGG-16 where its file is named, EfficientNet-Lite0 where none is."""

from __future__ import annotations

from pathlib import Path

from tokenizer.errors import ConfigError
from tokenizer.perceptual import (
    INSTALL_ADVICE,
    VGG16_SOURCE,
    FeatureDistance,
    check_vgg16_file,
    is_lite0_installed,
    lite0_distance,
    vgg16_distance,
)


def perceptual_distance(weights: str | None) -> FeatureDistance:
    """Return the perceptual loss.

    Args:
        weights: file of VGG-16's weights; None for EfficientNet-Lite0.

    Raises:
        UsageError: none is named, and the extra `perceptual` is not installed.
        InputError: the weights are missing, damaged, or those of something else.
    """
    return lite0_distance() if weights is None else vgg16_distance(Path(weights))


def check_perceptual_weights(weights: str | None) -> None:
    """Raise unless there are weights for the perceptual loss; see `perceptual_distance`.

    Raises:
        ConfigError: neither a file is named nor the extra installed, or there is no such file.
        InputError: the file is damaged, or holds something else.
    """
    leave_out = "leave the term out with --set loss.perceptual=0"
    advice = f"get {VGG16_SOURCE} and pass --set perceptual_weights=FILE, or {leave_out}"
    if weights is None:
        if not is_lite0_installed():
            why = f"loss.perceptual needs a trained network, and none is ever downloaded: {INSTALL_ADVICE}"
            raise ConfigError([f"{why}, or {advice}"])
        return
    if not Path(weights).is_file():
        raise ConfigError([f"perceptual_weights is {weights!r}, which is no file: {advice}"])
    check_vgg16_file(Path(weights))
