"""Reading settings: a mapping (from TOML, JSON or `key=value`) becomes a dataclass by `parse`, which coerces by
declared type and reports every fault at once.
"""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tokenizer.errors import ConfigError, InputError, nearest_name

T = TypeVar("T")
_WRONG = (TypeError, ValueError, OverflowError)
_MOST_PARTS = 32  # of a dotted name
# Values in messages: without end, a file's error would be as long as the file.
_shown = reprlib.Repr()
_shown.maxlevel, _shown.maxstring, _shown.maxother, _shown.maxlong = 4, 200, 200, 500
_shown.maxlist = _shown.maxtuple = _shown.maxdict = 20


def parse_settings(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a `cls` of `values`, coerced by the declared types; `where` prefixes each fault's key.

    Raises:
        ConfigError: unknown keys, values of the wrong type, or values out of range, all of them at once.
    """
    faults: list[str] = []
    try:
        result = _parse(cls, values, where, faults)
    except TypeError:  # one that has no default is missing, or wrong
        if not faults:
            raise
        raise ConfigError(faults) from None
    if not faults and hasattr(result, "faults"):
        faults = result.faults()
    if faults:
        raise ConfigError(faults)
    return result


def _parse(cls: type[T], values: Mapping[str, Any], where: str, faults: list[str]) -> T:
    hints = typing.get_type_hints(cls)
    faults += [
        f"unknown setting {_shown.repr(where + str(key))}{nearest_name(str(key), hints)}"
        for key in values
        if key not in hints
    ]
    return cls(**_coerce_items({key: values[key] for key in values if key in hints}, hints, where, faults))


def _coerce_items(values: Mapping[str, Any], hints: Mapping[str, Any], where: str, faults: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in values.items():
        try:
            made[key] = _coerce(value, hints[key], f"{where}{key}", faults)
        except _WRONG:
            faults.append(f"{where}{key} is {_shown.repr(value)}, expected {_describe(hints[key])}")
    return made


def _coerce(value: Any, wanted: Any, where: str, faults: list[str]) -> Any:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        if value is None:
            return None
        (wanted,) = [choice for choice in typing.get_args(wanted) if choice is not type(None)]
    is_table = typing.get_origin(wanted) is Mapping
    if (is_table or dataclasses.is_dataclass(wanted)) and not isinstance(value, Mapping):
        raise TypeError(value)
    if dataclasses.is_dataclass(wanted):
        return _parse(typing.cast("type[Any]", wanted), value, f"{where}.", faults)
    if is_table:
        return _coerce_items(value, dict.fromkeys(value, typing.get_args(wanted)[1]), f"{where}.", faults)
    if typing.get_origin(wanted) is tuple:
        items = _words(value) if isinstance(value, str) else value
        return tuple(_coerce(item, typing.get_args(wanted)[0], where, faults) for item in items)
    if typing.get_origin(wanted) is typing.Literal:
        return _one_of(value, typing.get_args(wanted))
    if wanted is Any:
        return value
    return _SCALARS[wanted](value)


def _words(text: str) -> list[str]:
    """Return the items of `8,16`, `8 16` or, as TOML writes it, `[8, 16]`."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return text.replace(",", " ").split()


def _one_of(value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(value)
    return str(value)


def _to_bool(value: Any) -> bool:
    names = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in names:
        raise ValueError(value)
    return names[str(value).lower()]


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError(value)
    whole = int(value) if isinstance(value, (int, str)) and str(value).lstrip("+-").isdigit() else int(float(value))
    if not -(2**63) <= whole < 2**63:
        raise OverflowError(value)
    return whole


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
    if typing.get_origin(wanted) is typing.Literal:
        return f"one of {', '.join(choices)}"
    if typing.get_origin(wanted) is tuple:
        return f"a list, each {names.get(choices[0], 'a table of settings')}"
    is_table = typing.get_origin(wanted) is Mapping or choices[0] not in names
    return "a table of settings" if is_table else names[choices[0]]


def coerce_option(value: Any, wanted: Any, where: str) -> Any:
    """Return `value` as the plain type `wanted` (`int`, `float | None`, ...); `where` names it in the error.

    Raises:
        ConfigError: the value is of another type.
    """
    faults: list[str] = []
    try:
        coerced = _coerce(value, wanted, where, faults)
    except _WRONG as error:
        raise ConfigError([f"{where} is {_shown.repr(value)}, expected {_describe(wanted)}"]) from error
    if faults:
        raise ConfigError(faults)
    return coerced


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested plain dicts, as JSON and TOML hold it; `parse` is the inverse."""
    return dataclasses.asdict(config)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: also of a number of 4,300 digits
        raise InputError(f"cannot read the config file {path}: {error}") from error


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


def to_toml(values: Mapping[str, Any], where: str = "") -> str:
    """Return nested settings as TOML; settings without a value are left out. `read_toml` is the inverse.

    `where` is the name of the table that holds them, with a dot behind it.
    """
    lines: list[str] = []
    tables: list[str] = []
    for key, value in values.items():
        name = _toml_key(key)
        if isinstance(value, Mapping):
            tables.append(f"\n[{where}{name}]\n{to_toml(value, f'{where}{name}.')}")
        elif value is not None:
            lines.append(f"{name} = {_toml_value(value)}\n")
    return "".join(lines + tables)


def _toml_key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml_key(key)} = {_toml_value(item)}' for key, item in value.items())} }}"
    # JSON's strings, numbers and booleans are TOML's too, but for surrogate pairs and a bare DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
