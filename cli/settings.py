"""The settings of a run: which layer wins, and what may differ when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizer.config import PRESETS, NetworkConfig, TrainConfig
from tokenizer.errors import ConfigError, InputError, nearest_name
from tokenizer.settings import assignments, merge, parse, read_toml, to_dict

# Flags whose setting has another name; all others are settings of their own name.
_KEYS = {
    "downsample": "network.downsample",
    "quantizer": "quantizer.name",
    "codebook_size": "quantizer.codebook_size",
}
# What may differ when a run goes on: where and how fast it runs, not what it computes.
_FREE_ON_RESUME = ("device", "workers", "log_every", "eval_every", "save_every")


def gather(
    flags: Mapping[str, Any], from_environment: Sequence[str], config_file: Path | None, pairs: Sequence[str]
) -> dict[str, Any]:
    """Return the settings that were given, nested: flags and --set before the environment before the config file.

    Args:
        flags: value of each option, None where it was not given.
        from_environment: names of those whose value the environment gave.
        config_file: TOML.
        pairs: KEY=VALUE of each --set.

    Raises:
        ConfigError: a pair is malformed.
        InputError: the config file cannot be read.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    environment = {name: value for name, value in given.items() if name in from_environment}
    by_hand = {name: value for name, value in given.items() if name not in from_environment}
    merged: dict[str, Any] = {}
    for layer in (
        read_toml(config_file) if config_file else {},
        _nested(environment),
        assignments(pairs),
        _nested(by_hand),
    ):
        merged = _over(merged, layer)
    return merged


def _over(lower: dict[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two layers; a budget in one unit replaces a budget in the other."""
    named = {"steps", "minutes"} & set(higher)
    kept = {key: value for key, value in lower.items() if not (named and key in ("steps", "minutes"))}
    return merge(kept, higher)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        table, _, key = _KEYS.get(name, name).rpartition(".")
        nested = merge(nested, {table: {key: value}} if table else {key: value})
    return nested


def _with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Put the preset's network under the settings given; a downsampling alone takes the default preset's."""
    given = dict(given)
    name = given.pop("preset", None)
    network = given.get("network", {})
    if not isinstance(network, Mapping):
        return given  # not a table, which the parser says
    if name is None and ("downsample" not in network or "widths" in network):
        return given
    if name is not None and name not in PRESETS:
        hint = nearest_name(str(name), PRESETS) or ", known: " + ", ".join(PRESETS)
        raise ConfigError([f"unknown preset {name!r}{hint}"])
    wanted = str(network.get("downsample", NetworkConfig().downsample))
    shapes = {str(factor): shape for factor, shape in PRESETS[name or "tiny"].items()}
    if wanted not in shapes:
        return given
    widths, depths = shapes[wanted]
    return merge({"network": {"widths": widths, "depths": depths}}, given)


def fresh(given: dict[str, Any]) -> TrainConfig:
    """Return the settings of a new run; options of a quantizer without its name are those of the default one.

    Raises:
        ConfigError: some are wrong, all faults listed.
    """
    defaults = {"quantizer": {"name": TrainConfig().quantizer["name"]}}
    return parse(TrainConfig, merge(defaults, _with_preset(given)))


def resumed(config: TrainConfig, given: dict[str, Any]) -> TrainConfig:
    """Return the saved settings; those given now must agree, but for those that change no result.

    Raises:
        InputError: some differ; the message names each with both values.
    """
    before = to_dict(config)
    given = _with_preset(given) if "preset" in given else given
    wanted = to_dict(parse(TrainConfig, _over(before, given)))
    faults = [
        f"{key} was {_shown(before, key)}, now {_shown(wanted, key)}"
        for key in _leaves(given)
        if key not in _FREE_ON_RESUME and _shown(before, key) != _shown(wanted, key)
    ]
    if faults:
        raise InputError(f"cannot resume with other settings: {'; '.join(faults)}: leave them out, or start a new run")
    return parse(TrainConfig, merge(before, {key: given[key] for key in _FREE_ON_RESUME if key in given}))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return found


def _shown(values: Any, key: str) -> str:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return "not set" if values is None else str(values)
