"""Quantizers by name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tokenizer.errors import ConfigError, nearest_name
from tokenizer.quantizers.base import Quantizer
from tokenizer.settings import coerce_option

Q = TypeVar("Q", bound=Quantizer)


@dataclass(frozen=True)
class Method:
    """A registered quantizer: its name, its class, and one line of what it is."""

    name: str
    cls: type[Quantizer]
    summary: str


METHODS: dict[str, Method] = {}


def register(name: str, summary: str) -> Callable[[type[Q]], type[Q]]:
    """Register the decorated class as the quantizer `name`.

    Its constructor's keyword arguments, `dim` aside, are its settings; their annotations are their types.

    Raises:
        ValueError: the name is taken.
    """

    def add(cls: type[Q]) -> type[Q]:
        if name in METHODS:
            raise ValueError(f"the quantizer name {name!r} is taken by {METHODS[name].cls.__qualname__}")
        METHODS[name] = Method(name, cls, summary)
        return cls

    return add


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return `spec` with every option of its quantizer present and of its declared type.

    Args:
        spec: `{"name": ..., option: value, ...}`.

    Raises:
        ConfigError: unknown name, unknown options, or values of the wrong type, all of them at once.
    """
    name = spec.get("name")
    if name not in METHODS:
        hint = nearest_name(str(name), METHODS)
        raise ConfigError([f"unknown quantizer {name!r}{hint or ', known: ' + ', '.join(METHODS)}"])
    parameters = _options(METHODS[name].cls)
    given = {key: value for key, value in spec.items() if key != "name"}
    faults = [
        f"unknown setting 'quantizer.{key}' of {name}{nearest_name(key, parameters)}"
        for key in given
        if key not in parameters
    ]
    resolved: dict[str, Any] = {"name": name}
    for key, (wanted, default) in parameters.items():
        try:
            resolved[key] = coerce_option(given.get(key, default), wanted, f"quantizer.{key}")
        except ConfigError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigError(faults)
    return resolved


def _options(cls: type[Quantizer]) -> dict[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(cls.__init__)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {p.name: (hints[p.name], p.default) for p in parameters if p.name != "dim"}


def build(spec: Mapping[str, Any], dim: int) -> Quantizer:
    """Make the quantizer that `spec` describes for latents `dim` wide.

    Raises:
        ConfigError: `spec` does not describe one.
    """
    resolved = resolve(spec)
    options = {key: value for key, value in resolved.items() if key != "name"}
    try:
        return METHODS[resolved["name"]].cls(dim=dim, **options)
    except ValueError as error:
        raise ConfigError([f"quantizer {resolved['name']}: {error}"]) from error
