"""Settings from several places, and which of them wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tokenizer.config.schema import TrainConfig
from tokenizer.config.toml import read_toml
from tokenizer.errors import ConfigError

_MOST_PARTS = 32  # of a dotted name
_BUDGETS = frozenset(("steps", "minutes"))
# Options whose setting has another name; all others are settings of their own name.
_SETTINGS_OF_OPTIONS = {
    "downsample": "network.downsample",
    "quantizer": "quantizer.name",
    "codebook_size": "quantizer.codebook_size",
    "codebooks": "quantizer.codebooks",
}
# Names of all options that are settings of a run.
SETTING_OPTIONS = frozenset((*_SETTINGS_OF_OPTIONS, "preset", *(field.name for field in fields(TrainConfig))))


def gather_settings(
    options: Mapping[str, Any], environment: Mapping[str, Any], config_file: Path | None, pairs: Sequence[str]
) -> dict[str, Any]:
    """Return the settings that were given, nested: options before KEY=VALUE, environment and config file.

    Args:
        options: values of `SETTING_OPTIONS` by name; None where one was not given.
        environment: the same, which the environment gave.
        config_file: TOML.
        pairs: KEY=VALUE, each.

    Raises:
        ConfigError: a pair is malformed.
        InputError: the config file cannot be read.
    """
    merged: dict[str, Any] = {}
    for layer in (
        read_toml(config_file) if config_file else {},
        _nested(environment),
        parse_assignments(pairs),
        _nested(options),
    ):
        merged = overlay_settings(merged, layer)
    return merged


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None:
            table, _, key = _SETTINGS_OF_OPTIONS.get(name, name).rpartition(".")
            nested = merge_settings(nested, {table: {key: value}} if table else {key: value})
    return nested


def overlay_settings(lower: Mapping[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two layers of a run's settings; a budget in one unit replaces a budget in the other."""
    replaced = _BUDGETS if _BUDGETS & set(higher) else frozenset()
    return merge_settings({key: value for key, value in lower.items() if key not in replaced}, higher)


def parse_assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn `["lr=1e-4", "quantizer.name=diveq"]` into nested dicts of text.

    Raises:
        ConfigError: a pair without `=`.
    """
    faults = [f"{pair!r} is not of the form KEY=VALUE" for pair in pairs if "=" not in pair]
    faults += [f"{pair!r:.80} has too many dots" for pair in pairs if pair.partition("=")[0].count(".") >= _MOST_PARTS]
    if faults:
        raise ConfigError(faults)
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        value: Any = text.strip()
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        nested = merge_settings(nested, value)
    return nested


def merge_settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested dicts; a later layer wins."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            merged[key] = (
                merge_settings(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
            )
    return merged
