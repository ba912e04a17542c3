"""What can be set, and reading it: frozen dataclasses of plain types, presets, TOML, KEY=VALUE."""

from __future__ import annotations

from tokenizer.config.layers import (
    SETTING_OPTIONS,
    gather_settings,
    merge_settings,
    overlay_settings,
    parse_assignments,
)
from tokenizer.config.loss_terms import LOSSES
from tokenizer.config.parsing import (
    ReadSettings,
    coerce_option,
    parse_settings,
    read_settings,
    to_dict,
    unknown_setting,
)
from tokenizer.config.presets import PRESETS, RECIPES
from tokenizer.config.renamed import RENAMED
from tokenizer.config.schema import DOWNSAMPLES, LogTo, NetworkConfig, Precision, TrainConfig
from tokenizer.config.toml import read_toml, to_toml

__all__ = [
    "DOWNSAMPLES",
    "LOSSES",
    "PRESETS",
    "RECIPES",
    "RENAMED",
    "SETTING_OPTIONS",
    "LogTo",
    "NetworkConfig",
    "Precision",
    "ReadSettings",
    "TrainConfig",
    "coerce_option",
    "gather_settings",
    "merge_settings",
    "overlay_settings",
    "parse_assignments",
    "parse_settings",
    "read_settings",
    "read_toml",
    "to_dict",
    "to_toml",
    "unknown_setting",
]
