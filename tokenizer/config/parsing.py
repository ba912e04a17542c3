"""Settings of declared types, made of mappings, which came from TOML, JSON or KEY=VALUE."""

from __future__ import annotations

import dataclasses
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from tokenizer.config.renamed import RENAMED
from tokenizer.errors import ConfigError, closest_name

T = TypeVar("T")
_WRONG = (TypeError, ValueError, OverflowError)
# Values in messages: without end, a file's error would be as long as the file.
_shown = reprlib.Repr()
_shown.maxlevel, _shown.maxstring, _shown.maxother, _shown.maxlong = 4, 200, 200, 500
_shown.maxlist = _shown.maxtuple = _shown.maxdict = 20


@dataclasses.dataclass
class _Faults:
    """What is found while settings are read: a line for each fault, and which settings cannot be read."""

    lines: list[str] = dataclasses.field(default_factory=list)
    unread: set[str] = dataclasses.field(default_factory=set)

    def wrong_value(self, name: str, value: Any, wanted: Any) -> None:
        self.lines.append(f"{name} is {_shown.repr(value)}, expected {_describe(wanted)}")
        self.unread.add(name)

    def unknown(self, table: str, key: str, known: Iterable[str]) -> None:
        known = list(known)
        self.lines.append(unknown_setting(key, known, table))
        if meant := _meant(key, known):
            self.unread.add(table + meant)


@dataclasses.dataclass(frozen=True)
class ReadSettings(Generic[T]):
    """Settings as far as they could be read.

    Attributes:
        value: with defaults for what was not given, or could not be read.
        faults: names that are unknown, and values of the wrong type, one line each.
        unread: full names of the settings whose given value could not be read; for an unknown name, the one that may
            have been meant.
    """

    value: T
    faults: tuple[str, ...]
    unread: frozenset[str]


def parse_settings(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a `cls` of `values`, coerced by the declared types; `where` prefixes the settings' names in messages.

    Raises:
        ConfigError: unknown names, values of the wrong type, or values out of range, all of them at once.
    """
    found = read_settings(cls, values, where)
    faults = [*found.faults, *(found.value.faults(found.unread) if hasattr(found.value, "faults") else ())]
    if faults:
        raise ConfigError(faults)
    return found.value


def read_settings(cls: type[T], values: Mapping[str, Any], where: str = "") -> ReadSettings[T]:
    """Read `values` as `parse_settings` does, and collect what is wrong instead of raising it.

    Raises:
        ConfigError: a setting without a default cannot be read.
    """
    faults = _Faults()
    try:
        value = _parse(cls, values, where, faults)
    except TypeError:  # one that has no default is missing, or wrong
        if not faults.lines:
            raise
        raise ConfigError(faults.lines) from None
    return ReadSettings(value, tuple(faults.lines), frozenset(faults.unread))


def unknown_setting(key: str, known: Iterable[str], table: str = "", owner: str = "", *, listed: bool = False) -> str:
    """Return the line that says that there is no such setting, and which one may have been meant.

    Args:
        key: its name within its table.
        known: names of the settings that are there.
        table: the table's name with a dot behind it, or nothing.
        owner: what has them, such as a quantizer's name, or nothing.
        listed: list all of them where none is near.
    """
    known = list(known)
    line = f"unknown setting {_shown.repr(table + key)}{owner and f' of {owner}'}"
    meant = _meant(key, known)
    if meant is None:
        return line + (f", known: {', '.join(known)}" if listed else "")
    return f"{line}: it is called {meant} now" if RENAMED.get(key) == meant else f"{line}, did you mean {meant!r}?"


def _meant(key: str, known: Sequence[str]) -> str | None:
    """Return the name of the setting that an unknown one may have meant: its new name, or the closest."""
    return RENAMED[key] if RENAMED.get(key) in known else closest_name(key, known)


def _parse(cls: type[T], values: Mapping[str, Any], where: str, faults: _Faults) -> T:
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            faults.unknown(where, str(key), hints)
    return cls(**_coerce_items({key: values[key] for key in values if key in hints}, hints, where, faults))


def _coerce_items(values: Mapping[str, Any], hints: Mapping[str, Any], where: str, faults: _Faults) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in values.items():
        try:
            made[key] = _coerce(value, hints[key], f"{where}{key}", faults)
        except _WRONG:
            faults.wrong_value(f"{where}{key}", value, hints[key])
    return made


def _coerce(value: Any, wanted: Any, where: str, faults: _Faults) -> Any:
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
    faults = _Faults()
    try:
        coerced = _coerce(value, wanted, where, faults)
    except _WRONG:
        faults.wrong_value(where, value, wanted)
    if faults.lines:
        raise ConfigError(faults.lines)
    return coerced


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested plain dicts, as JSON and TOML hold it; `parse_settings` is the inverse."""
    return dataclasses.asdict(config)
