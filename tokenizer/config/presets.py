"""Presets: sizes of the network, and recipes, which are whole settings."""

from __future__ import annotations

from typing import Any

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

# Whole settings, under those that are given; `preset` is the network's size. For hours on a GPU.
_SHARP = {
    "preset": "base",
    "lr": 1e-3,
    "ema_decay": 0.999,
    "precision": "bfloat16",
    "loss": {"l1": 1.0, "perceptual": 0.1, "adversarial": 0.2},
}
RECIPES: dict[str, dict[str, Any]] = {
    "vqgan-f8": {**_SHARP, "network": {"downsample": 8}},
    "vqgan-f16": {**_SHARP, "network": {"downsample": 16}},
}
