"""Settings of a run, made of what was given: presets and specs written out, and what may differ when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizer.config import (
    PRESETS,
    RECIPES,
    NetworkConfig,
    TrainConfig,
    coerce_option,
    merge_settings,
    overlay_settings,
    read_settings,
    to_dict,
)
from tokenizer.errors import ConfigError, InputError, nearest_name
from tokenizer.models import describe_checkpoint, locate_checkpoint
from tokenizer.quantizers import MOST_STAGES, fitting_width, read_spec
from tokenizer.train.init_from import inherit_settings
from tokenizer.train.lineage import inherit_spec
from tokenizer.train.settings_check import settings_faults

Settings = dict[str, Any]

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


def new_settings(given: Mapping[str, Any] | TrainConfig) -> TrainConfig:
    """Return the settings of a new run; what is not given has its default.

    With `init_from`, what is not given of network and quantizer is as in that checkpoint.

    Args:
        given: nested settings, as `gather_settings` returns them. Beside those of `TrainConfig` they may hold `preset`,
            a quantizer's name with options in brackets, and `quantizer.codebooks`, that many stages of it.
            Of a `TrainConfig`, what differs from its defaults.

    Raises:
        ConfigError: some are wrong, or do not fit the checkpoint; all faults listed.
        CheckpointError: the checkpoint cannot be loaded.
    """
    faults: list[str] = []
    settings = changed_settings(given) if isinstance(given, TrainConfig) else dict(given)
    if settings.get("init_from") is None:
        default = {"quantizer": {"name": TrainConfig().quantizer["name"]}}
        settings = _write_out_quantizer(merge_settings(default, _write_out_preset(settings, faults)), faults)
    else:
        settings = _of_checkpoint(settings, faults)
    return _read_all(settings, faults)


def changed_settings(config: TrainConfig) -> Settings:
    """Return the settings that differ from their defaults, nested."""
    defaults = to_dict(TrainConfig())
    changed = {key: value for key, value in to_dict(config).items() if value != defaults[key]}
    if isinstance(changed.get("network"), Mapping):
        network = changed["network"]
        changed["network"] = {key: value for key, value in network.items() if value != defaults["network"].get(key)}
    return changed


def _read_all(settings: Settings, faults: list[str]) -> TrainConfig:
    """Read settings that were written out; raise ConfigError for `faults`, and for all that are found here."""
    found = read_settings(TrainConfig, settings)
    faults = [*found.faults, *faults, *settings_faults(found.value, found.unread)]
    if faults:
        raise ConfigError(dict.fromkeys(faults))
    return found.value


def _write_out_preset(given: Settings, faults: list[str]) -> Settings:
    """Put the preset's settings under those given; a downsampling alone takes the default preset's network."""
    given = dict(given)
    name = given.pop("preset", None)
    if not isinstance(given.get("network", {}), Mapping):
        return given  # not a table, which the parser says
    if name is not None and not isinstance(name, str):
        faults += _faults_of_option(name, str, "preset")
        return given
    if name in RECIPES:
        given = merge_settings(RECIPES[name], given)
        name = given.pop("preset")
    network = given.get("network", {})
    if name is None and ("downsample" not in network or "widths" in network):
        return given
    if name is not None and name not in PRESETS:
        known = [*PRESETS, *RECIPES]
        faults.append(f"unknown preset {name!r}{nearest_name(name, known) or ', known: ' + ', '.join(known)}")
        return given
    widths_and_depths = {str(factor): shape for factor, shape in PRESETS[name or "tiny"].items()}
    downsample = str(network.get("downsample", NetworkConfig().downsample))
    if downsample not in widths_and_depths:
        return given
    widths, depths = widths_and_depths[downsample]
    return merge_settings({"network": {"widths": widths, "depths": depths}}, given)


def _faults_of_option(value: Any, wanted: Any, where: str) -> list[str]:
    try:
        coerce_option(value, wanted, where)
    except ConfigError as error:
        return list(error.faults)
    return []


def _write_out_quantizer(given: Settings, faults: list[str]) -> Settings:
    """Write out a quantizer that is named in one line; `codebooks` of them make a residual one."""
    spec = given.get("quantizer")
    if not isinstance(spec, Mapping):
        return given  # not a table, which the parser says
    options = {key: value for key, value in spec.items() if key not in ("name", "codebooks")}
    try:
        named = read_spec(str(spec["name"])) if "name" in spec else {}
    except ConfigError as error:
        faults += error.faults
        return {key: value for key, value in given.items() if key != "quantizer"}
    written = {**named, **options}
    if "codebooks" in spec:
        unreadable = _faults_of_option(spec["codebooks"], int, "quantizer.codebooks")
        count = 1 if unreadable else coerce_option(spec["codebooks"], int, "quantizer.codebooks")
        if not 1 <= count <= MOST_STAGES:
            unreadable = [f"quantizer.codebooks is {count}, expected 1 to {MOST_STAGES}"]
        faults += unreadable
        written = {"name": "residual", "stages": [written] * (1 if unreadable else count)}
    return {**given, "quantizer": written}


def _of_checkpoint(given: Settings, faults: list[str]) -> Settings:
    """Return the settings of a run that starts from a checkpoint; a preset is that of its downsampling."""
    unreadable = _faults_of_option(given["init_from"], str, "init_from")
    if unreadable:
        return _write_out_quantizer(_write_out_preset(given, faults), faults)
    folder = locate_checkpoint(given["init_from"])
    if "preset" in given:
        network = {"downsample": describe_checkpoint(folder).network.downsample}
        given = _write_out_preset(merge_settings({"network": network}, given), faults)
    inherited, misfits = inherit_settings(folder, _write_out_quantizer(given, faults))
    faults += misfits
    return inherited


def resumed_settings(saved: TrainConfig, given: Mapping[str, Any] | TrainConfig) -> TrainConfig:
    """Return the settings of a run that goes on: the saved ones, with those given that change no result.

    Args:
        saved: settings of the run.
        given: as for `new_settings`.

    Raises:
        ConfigError: some of those given are wrong, all faults listed.
        InputError: some differ from the saved ones; the message names each with both values.
    """
    faults: list[str] = []
    before = to_dict(saved)
    settings = changed_settings(given) if isinstance(given, TrainConfig) else dict(given)
    spec = settings.get("quantizer", {})
    if isinstance(spec, Mapping) and "codebooks" in spec:
        settings = merge_settings({"quantizer": {"name": TrainConfig().quantizer["name"]}}, settings)
    if "preset" in settings:
        settings = _write_out_preset(settings, faults)
    settings = _write_out_quantizer(settings, faults)
    wanted = overlay_settings(before, settings)
    if isinstance(settings.get("quantizer", {}), Mapping):
        wanted["quantizer"] = _overlay_spec(before["quantizer"], settings.get("quantizer", {}), faults)
    _refuse_differences(before, settings, _as_planned(to_dict(_read_all(wanted, faults)), before))
    free = {key: settings[key] for key in _FREE_ON_RESUME if key in settings}
    return _read_all(merge_settings(before, free), [])


def _as_planned(wanted: Settings, before: Settings) -> Settings:
    """Return settings with what planning made of them when the run began: those of `before` are planned."""
    network = wanted["network"]
    width = fitting_width(wanted["quantizer"], network["latent_dim"])
    planned = {**wanted, "network": {**network, "latent_dim": width}}
    if wanted["precision"] == "auto":
        planned["precision"] = before["precision"]
    # Of `val_data` all images are taken for 0, and no more than there are.
    if wanted["val_data"] and not 0 < (wanted["val_images"] or 0) < before["val_images"]:
        planned["val_images"] = before["val_images"]
    return planned


def _refuse_differences(before: Settings, given: Settings, wanted: Settings) -> None:
    """Raise InputError where a setting that was given is another one than before."""
    named = {*_names(given), *_names({"quantizer": wanted["quantizer"]})}
    differences = [
        f"{key} was {_shown(before, key)}, now {_shown(wanted, key)}"
        for key in sorted(named, key=lambda key: key.split("."))
        if key not in _FREE_ON_RESUME and _shown(before, key) != _shown(wanted, key)
    ]
    if differences:
        raise InputError(
            f"cannot resume with other settings: {'; '.join(differences)}: leave them out, or start a new run"
        )


def _overlay_spec(before: Mapping[str, Any], given: Mapping[str, Any], faults: list[str]) -> Settings:
    """Return the spec of `before` with what is given in its place; stages in which nothing is given stay."""
    try:
        return inherit_spec(before, given)
    except ConfigError as error:
        faults += error.faults
        return dict(before)


def _names(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the full names of all settings in nested ones, with the numbers of stages among them."""
    found: list[str] = []
    for key, value in settings.items():
        table = _by_number(value)
        found += _names(table, f"{prefix}{key}.") if isinstance(table, Mapping) else [prefix + key]
    return found


def _by_number(value: Any) -> Any:
    """Return a list of tables as one table of them, by number; anything else as it is."""
    is_tables = isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping)
    return {str(number): item for number, item in enumerate(value)} if is_tables else value


def _shown(settings: Any, name: str) -> str:
    """Return the value of the setting of that full name as text."""
    for part in name.split("."):
        table = _by_number(settings)
        settings = table.get(part) if isinstance(table, Mapping) else None
    return "not set" if settings is None else str(settings)
