"""The settings of a run: which layer wins, and what may differ when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from tokenizer.config import (
    PRESETS,
    RECIPES,
    NetworkConfig,
    TrainConfig,
    coerce_option,
    merge_settings,
    parse_assignments,
    parse_settings,
    read_toml,
    to_dict,
)
from tokenizer.errors import ConfigError, InputError, nearest_name
from tokenizer.models import locate_checkpoint

# Flags whose setting has another name; all others are settings of their own name.
_KEYS = {
    "downsample": "network.downsample",
    "quantizer": "quantizer.name",
    "codebook_size": "quantizer.codebook_size",
    "codebooks": "quantizer.codebooks",
}
# What may differ when a run goes on: where and how fast it runs, not what it computes.
_FREE_ON_RESUME = (
    "device",
    "workers",
    "log_every",
    "eval_every",
    "save_every",
    "keep",
    "perceptual_weights",
    "patience",
    "log_to",
)


def from_environment(context: typer.Context) -> list[str]:
    """Return the names of the parameters whose value VQTOK_ variables gave."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and source.name == "ENVIRONMENT"]


def gather(
    flags: Mapping[str, Any], environment_names: Sequence[str], config_file: Path | None, pairs: Sequence[str]
) -> dict[str, Any]:
    """Return the settings that were given, nested: flags and --set before the environment before the config file.

    Args:
        flags: value of each option, None where it was not given.
        environment_names: names of those whose value the environment gave.
        config_file: TOML.
        pairs: KEY=VALUE of each --set.

    Raises:
        ConfigError: a pair is malformed.
        InputError: the config file cannot be read.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    environment = {name: value for name, value in given.items() if name in environment_names}
    by_hand = {name: value for name, value in given.items() if name not in environment_names}
    merged: dict[str, Any] = {}
    for layer in (
        read_toml(config_file) if config_file else {},
        _nested(environment),
        parse_assignments(pairs),
        _nested(by_hand),
    ):
        merged = _over(merged, layer)
    return merged


def _over(lower: dict[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two layers; a budget in one unit replaces a budget in the other."""
    named = {"steps", "minutes"} & set(higher)
    kept = {key: value for key, value in lower.items() if not (named and key in ("steps", "minutes"))}
    return merge_settings(kept, higher)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        table, _, key = _KEYS.get(name, name).rpartition(".")
        nested = merge_settings(nested, {table: {key: value}} if table else {key: value})
    return nested


def _with_preset(given: dict[str, Any]) -> dict[str, Any]:
    """Put the preset's settings under those given; a downsampling alone takes the default preset's network."""
    given = dict(given)
    name = coerce_option(given.pop("preset", None), str | None, "preset")
    if not isinstance(given.get("network", {}), Mapping):
        return given  # not a table, which the parser says
    if str(name) in RECIPES:
        given = merge_settings(RECIPES[str(name)], given)
        name = given.pop("preset")
    network = given.get("network", {})
    if name is None and ("downsample" not in network or "widths" in network):
        return given
    if name is not None and name not in PRESETS:
        known = [*PRESETS, *RECIPES]
        hint = nearest_name(str(name), known) or ", known: " + ", ".join(known)
        raise ConfigError([f"unknown preset {name!r}{hint}"])
    wanted = str(network.get("downsample", NetworkConfig().downsample))
    shapes = {str(factor): shape for factor, shape in PRESETS[name or "tiny"].items()}
    if wanted not in shapes:
        return given
    widths, depths = shapes[wanted]
    return merge_settings({"network": {"widths": widths, "depths": depths}}, given)


def fresh(given: dict[str, Any]) -> TrainConfig:
    """Return the settings of a new run; options of a quantizer without its name are those of the default one.

    With `init_from`, what is not given of network and quantizer is as in that checkpoint.

    Raises:
        ConfigError: some are wrong, all faults listed; or do not fit the checkpoint.
        CheckpointError: the checkpoint cannot be loaded.
    """
    if given.get("init_from") is not None:
        return _tuned(given, locate_checkpoint(coerce_option(given["init_from"], str, "init_from")))
    defaults = {"quantizer": {"name": TrainConfig().quantizer["name"]}}
    return parse_settings(TrainConfig, _with_spec(merge_settings(defaults, _with_preset(given))))


def _tuned(given: dict[str, Any], folder: Path) -> TrainConfig:
    """Return the settings of a run that starts from a checkpoint; a preset is that of its downsampling."""
    from tokenizer.models import describe_checkpoint
    from tokenizer.train import init_settings

    if "preset" in given:
        network = {"downsample": describe_checkpoint(folder).network.downsample}
        given = _with_preset(merge_settings({"network": network}, given))
    return parse_settings(TrainConfig, init_settings(folder, _with_spec(given)))


def _with_spec(given: dict[str, Any]) -> dict[str, Any]:
    """Write out a quantizer named in one line; `codebooks` of them make a residual one."""
    from tokenizer.quantizers import MOST_STAGES, read_spec

    spec = given.get("quantizer")
    if not isinstance(spec, Mapping):
        return given  # not a table, which the parser says
    rest = {key: value for key, value in spec.items() if key not in ("name", "codebooks")}
    written = {**(read_spec(str(spec["name"])) if "name" in spec else {}), **rest}
    if "codebooks" in spec:
        count = coerce_option(spec["codebooks"], int, "quantizer.codebooks")
        if not 1 <= count <= MOST_STAGES:
            raise ConfigError([f"quantizer.codebooks is {count}, expected 1 to {MOST_STAGES}"])
        written = {"name": "residual", "stages": [written] * count}
    return {**given, "quantizer": written}


def resumed(config: TrainConfig, given: dict[str, Any]) -> TrainConfig:
    """Return the saved settings; those given now must agree, but for those that change no result.

    Raises:
        InputError: some differ; the message names each with both values.
    """
    before = to_dict(config)
    if "codebooks" in given.get("quantizer", {}):
        given = merge_settings({"quantizer": {"name": TrainConfig().quantizer["name"]}}, given)
    given = _with_spec(_with_preset(given) if "preset" in given else given)
    wanted = to_dict(parse_settings(TrainConfig, _over(before, given)))
    wanted["quantizer"] = _over_spec(before["quantizer"], given.get("quantizer", {}))
    named = sorted({*_leaves(given), *_leaves({"quantizer": wanted["quantizer"]})}, key=lambda key: key.split("."))
    faults = [
        f"{key} was {_shown(before, key)}, now {_shown(wanted, key)}"
        for key in named
        if key not in _FREE_ON_RESUME and _shown(before, key) != _shown(wanted, key)
    ]
    if faults:
        raise InputError(f"cannot resume with other settings: {'; '.join(faults)}: leave them out, or start a new run")
    return parse_settings(
        TrainConfig, merge_settings(before, {key: given[key] for key in _FREE_ON_RESUME if key in given})
    )


def _over_spec(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of `before` with what is given in its place; stages in which nothing is given stay."""
    from tokenizer.quantizers import resolve_spec

    def over(lower: Mapping[str, Any], higher: Mapping[str, Any]) -> dict[str, Any]:
        if higher.get("name", lower["name"]) != lower["name"]:
            return dict(higher)
        both = {**lower, **higher}
        stages = lower.get("stages", ()), higher.get("stages", ())
        if len(stages[0]) == len(stages[1]):
            both["stages"] = [over(*pair) for pair in zip(*stages, strict=True)]
        return {key: value for key, value in both.items() if key != "stages" or stages[0] or stages[1]}

    return resolve_spec(over(before, given))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        held = _by_number(value)
        found += _leaves(held, f"{prefix}{key}.") if isinstance(held, Mapping) else [prefix + key]
    return found


def _by_number(value: Any) -> Any:
    """Return a list of tables as one table of them, by number; anything else as it is."""
    is_tables = isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping)
    return {str(number): item for number, item in enumerate(value)} if is_tables else value


def _shown(values: Any, key: str) -> str:
    for part in key.split("."):
        held = _by_number(values)
        values = held.get(part) if isinstance(held, Mapping) else None
    return "not set" if values is None else str(values)
