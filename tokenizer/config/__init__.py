"""What can be set, and reading it: frozen dataclasses of plain types, presets, TOML, KEY=VALUE."""

from __future__ import annotations

from tokenizer.config.losses import LOSSES
from tokenizer.config.parsing import (
    coerce_option,
    merge_settings,
    parse_assignments,
    parse_settings,
    read_toml,
    to_dict,
    to_toml,
)
from tokenizer.config.schema import DOWNSAMPLES, PRESETS, RECIPES, LogTo, NetworkConfig, Precision, TrainConfig

__all__ = [
    "DOWNSAMPLES",
    "LOSSES",
    "PRESETS",
    "RECIPES",
    "LogTo",
    "NetworkConfig",
    "Precision",
    "TrainConfig",
    "coerce_option",
    "merge_settings",
    "parse_assignments",
    "parse_settings",
    "read_toml",
    "to_dict",
    "to_toml",
]
