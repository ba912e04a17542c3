"""Settings: frozen dataclasses of plain types, their presets, and the reading of them.

Each default stands in one place: the field's. A mapping (from TOML, JSON or `key=value`) becomes a dataclass
by `parse`, which coerces by declared type and reports every fault at once.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tokenizer.errors import ConfigError, InputError, nearest_name

T = TypeVar("T")

DOWNSAMPLES = (4, 8, 16, 32)
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The encoder and its mirror image, the decoder.

    `widths` are the channels of each stage from the stem to the latent grid, `depths` the residual blocks of
    each; the stem divides height and width by `downsample / 2**(len(widths) - 1)`, each later stage by 2.
    """

    downsample: int = 16
    widths: tuple[int, ...] = (64, 96, 128)
    depths: tuple[int, ...] = (2, 2, 2)
    latent_dim: int = 8

    def faults(self) -> list[str]:
        """Return what is wrong with these settings, one line each."""
        found = []
        if self.downsample not in DOWNSAMPLES:
            found.append(f"network.downsample is {self.downsample}, expected one of {DOWNSAMPLES}")
        if not self.widths or len(self.widths) != len(self.depths):
            found.append(f"network.widths {self.widths} and network.depths {self.depths} differ in length")
        elif self.downsample % 2 ** (len(self.widths) - 1) or self.downsample < 2 ** len(self.widths):
            found.append(
                f"network.widths has {len(self.widths)} stages, too many for a downsample of {self.downsample}"
            )
        if any(width < 1 for width in self.widths) or any(depth < 0 for depth in self.depths):
            found.append("network.widths must be 1 or more and network.depths 0 or more")
        if self.latent_dim < 1:
            found.append(f"network.latent_dim is {self.latent_dim}, expected 1 or more")
        return found


# Shapes of the network: about 2, 10 and 40 million parameters.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"widths": [64, 96, 128], "depths": [2, 2, 2]},
    "small": {"widths": [96, 160, 256], "depths": [2, 2, 4]},
    "base": {"widths": [128, 256, 512], "depths": [2, 4, 4]},
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. Where a value is None, `train.plan` chooses it from the data and the machine.

    Attributes:
        network: the encoder's and decoder's shape.
        quantizer: name of a registered quantizer and its options, which its constructor declares and checks.
        image_size: side of the training crops in pixels.
        steps: budget in optimizer steps; or
        minutes: budget in wall-clock minutes, evaluations included. The schedule follows either.
        batch_size: crops a step.
        lr: peak learning rate.
        weight_decay: of the kernels.
        warmup: share of the budget over which the rate rises from 0; then it falls to 0 by a cosine.
        clip_norm: largest norm of the whole gradient.
        ema_decay: of the moving average of the weights, which is what is saved and evaluated.
        loss: weight of each reconstruction term of `tokenizer.losses`.
        quantize_after: share of the budget that trains without quantization, before the codebook is placed.
        revive_until: share of the budget after which dead codes are left alone.
        precision: of the network's arithmetic in training; distances are always float32.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: threads that read images.
        seed: of everything random.
        alpha: colour under transparent pixels.
        val_data: folder of images to evaluate on, in place of held-out ones.
        val_images: how many images are held out of training, or taken from `val_data`.
        log_every: steps between lines of `metrics.jsonl`.
        eval_every: steps between evaluations.
        save_every: minutes between checkpoints.
    """

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    quantizer: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "diveq"})
    image_size: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    lr: float = 2e-3
    weight_decay: float = 0.0
    warmup: float = 0.04
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    loss: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"l2": 1.0})
    quantize_after: float = 0.2
    revive_until: float = 0.9
    precision: str = "auto"
    device: str = "auto"
    workers: int | None = None
    seed: int = 0
    alpha: str = "white"
    val_data: str | None = None
    val_images: int | None = None
    log_every: int = 20
    eval_every: int | None = None
    save_every: float = 2.0

    def faults(self) -> list[str]:
        """Return what is wrong with these settings, one line each."""
        found = self.network.faults()
        positive = (
            "image_size",
            "steps",
            "minutes",
            "batch_size",
            "lr",
            "clip_norm",
            "log_every",
            "eval_every",
            "save_every",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                found.append(f"{name} is {value}, expected more than 0")
        for name in ("warmup", "quantize_after", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"{name} is {getattr(self, name)}, expected 0 or more and less than 1")
        for name in ("weight_decay", "revive_until", "workers", "val_images", "seed"):
            value = getattr(self, name)
            if value is not None and value < 0:
                found.append(f"{name} is {value}, expected 0 or more")
        if self.precision not in PRECISIONS:
            found.append(f"precision is {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.steps is not None and self.minutes is not None:
            found.append("steps and minutes are both given: name one budget")
        if self.image_size is not None and self.image_size % self.network.downsample:
            found.append(
                f"image_size is {self.image_size}, expected a multiple of network.downsample "
                f"({self.network.downsample})"
            )
        return found


def parse(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a `cls` of `values`, coerced by the declared types; `where` prefixes each fault's key.

    Raises:
        ConfigError: unknown keys, values of the wrong type, or values out of range, all of them at once.
    """
    faults: list[str] = []
    result = _parse(cls, values, where, faults)
    if not faults and hasattr(result, "faults"):
        faults = result.faults()
    if faults:
        raise ConfigError(faults)
    return result


def _parse(cls: type[T], values: Mapping[str, Any], where: str, faults: list[str]) -> T:
    hints = typing.get_type_hints(cls)
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            faults.append(f"unknown setting {where + key!r}{nearest_name(key, hints)}")
            continue
        try:
            made[key] = _coerce(value, hints[key], f"{where}{key}", faults)
        except (TypeError, ValueError):
            faults.append(f"{where}{key} is {value!r}, expected {_describe(hints[key])}")
    return cls(**made)


def _coerce(value: Any, wanted: Any, where: str, faults: list[str]) -> Any:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        if value is None:
            return None
        (wanted,) = [choice for choice in typing.get_args(wanted) if choice is not type(None)]
    if dataclasses.is_dataclass(wanted) and isinstance(value, Mapping):
        return _parse(typing.cast("type[Any]", wanted), value, f"{where}.", faults)
    if typing.get_origin(wanted) is tuple:
        items = value.replace(",", " ").split() if isinstance(value, str) else value
        return tuple(_coerce(item, typing.get_args(wanted)[0], where, faults) for item in items)
    if typing.get_origin(wanted) is Mapping:
        inner = typing.get_args(wanted)[1]
        return {key: _coerce(item, inner, f"{where}.{key}", faults) for key, item in dict(value).items()}
    if wanted is Any:
        return value
    return _SCALARS[wanted](value)


def _to_bool(value: Any) -> bool:
    names = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in names:
        raise ValueError(value)
    return names[str(value).lower()]


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError(value)
    return (
        int(value)
        if isinstance(value, (int, str)) and str(value).lstrip("+-").isdigit()
        else int(float(value))
    )


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not float("-inf") < float(value) < float("inf"):
        raise ValueError(value)
    return float(value)


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


_SCALARS: dict[Any, Callable[[Any], Any]] = {bool: _to_bool, int: _to_int, float: _to_float, str: _to_str}


def _describe(wanted: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    choices = [c for c in (typing.get_args(wanted) or (wanted,)) if c not in (type(None), Ellipsis)]
    if typing.get_origin(wanted) is tuple:
        return f"a list, each {names[choices[0]]}"
    return names.get(choices[0], "a table of settings")


def coerce_option(value: Any, wanted: Any, where: str) -> Any:
    """Return `value` as the plain type `wanted` (`int`, `float | None`, ...); `where` names it in the error.

    Raises:
        ConfigError: the value is of another type.
    """
    try:
        return _coerce(value, wanted, where, [])
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{where} is {value!r}, expected {_describe(wanted)}"]) from error


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested plain dicts, as JSON and TOML hold it; `parse` is the inverse."""
    return typing.cast("dict[str, Any]", dataclasses.asdict(config))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the config file {path}: {error}") from error


def assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn `["lr=1e-4", "quantizer.name=diveq"]` into nested dicts of text.

    Raises:
        ConfigError: a pair without `=`.
    """
    faults = [f"{pair!r} is not of the form KEY=VALUE" for pair in pairs if "=" not in pair]
    if faults:
        raise ConfigError(faults)
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        value: Any = text.strip()
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        nested = merge(nested, value)
    return nested


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested dicts; a later layer wins."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            merged[key] = (
                merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
            )
    return merged


def to_toml(values: Mapping[str, Any]) -> str:
    """Return nested settings as TOML; settings without a value are left out. `read_toml` is the inverse."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{key}]\n{to_toml(value)}")
        elif value is not None:
            lines.append(f"{key} = {_toml_value(value)}\n")
    return "".join(lines + tables)


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value)
