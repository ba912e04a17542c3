"""Registry of the methods: their names, their options, and quantizers made of specs.

Each file of this package registers its own; `methods` imports them all.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tokenizer.config import coerce_option, unknown_setting
from tokenizer.errors import ConfigError, nearest_name
from tokenizer.quantizers.base import Quantizer
from tokenizer.quantizers.notation import MOST_DEPTH, MOST_STAGES, STAGES, count_stages, read_spec, write_spec

Q = TypeVar("Q", bound=Quantizer)


@dataclass(frozen=True)
class Method:
    """A registered quantizer: its name, its class, and one line of what it is."""

    name: str
    cls: type[Quantizer]
    summary: str

    @property
    def options(self) -> dict[str, tuple[Any, Any]]:
        """Declared type and default of each option."""
        return _options(self.cls)


METHODS: dict[str, Method] = {}


def register(name: str, summary: str) -> Callable[[type[Q]], type[Q]]:
    """Register the decorated class as the quantizer `name`.

    Its constructor's keyword arguments, `dim` aside, are its settings; their annotations are their types. Where it
    takes `**shared`, those of the class above it are settings too. A combinator takes `stages`, the specs of others.
    In this package, `catalog` reads all that from the file: it is written in literals, constants and types.

    Raises:
        ValueError: the name is taken.
    """

    def add(cls: type[Q]) -> type[Q]:
        if name in METHODS:
            raise ValueError(f"the quantizer name {name!r} is taken by {METHODS[name].cls.__qualname__}")
        METHODS[name] = Method(name, cls, summary)
        return cls

    return add


def resolve_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return `spec` with every option of its quantizer present and of its declared type, stages included.

    A name may hold options and stages in the notation of `read_spec`. An option that a combinator does not
    have is one of all its stages that do.

    Args:
        spec: `{"name": ..., option: value, ...}`.

    Raises:
        ConfigError: unknown name, unknown options, or values of the wrong type, all of them at once;
            too many stages.
    """
    if _is_deep(spec, MOST_DEPTH):
        raise ConfigError(["the stages of the quantizer lie too deep in each other"])
    return _resolve(spec)


def _is_deep(spec: Any, most: int) -> bool:
    stages = spec.get(STAGES) if isinstance(spec, Mapping) else None
    return most < 0 or (isinstance(stages, (list, tuple)) and any(_is_deep(stage, most - 1) for stage in stages))


def _resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    given = _read_name(spec)
    name = given.pop("name")
    if name not in METHODS:
        hint = nearest_name(str(name), METHODS)
        raise ConfigError([f"unknown quantizer {name!r:.80}{hint or ', known: ' + ', '.join(METHODS)}"])
    options = METHODS[name].options
    if STAGES in options:
        given = _push_down(given, options)
    unknown = [str(key) for key in given if key not in options]
    faults = [unknown_setting(key, options, "quantizer.", name, listed=True) for key in unknown]
    resolved: dict[str, Any] = {"name": name}
    for key, (wanted, default) in options.items():
        try:
            value = coerce_option(given.get(key, default), wanted, f"quantizer.{key}")
            resolved[key] = _resolve_each(value) if key == STAGES else value
        except ConfigError as error:
            faults.extend(error.faults)
    if faults:
        raise ConfigError(faults)
    return resolved


def _resolve_each(stages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    resolved: list[dict[str, Any]] = []
    faults: list[str] = []
    count = 0
    for stage in stages:
        try:
            resolved.append(_resolve(stage))
            count += count_stages(resolved[-1])
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
        if count > MOST_STAGES:
            raise ConfigError([f"the quantizer has more than {MOST_STAGES} stages"])
    if faults:
        raise ConfigError(faults)
    return resolved


def _push_down(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Hand options that a combinator lacks to its stages."""
    own = {key: value for key, value in given.items() if key in options}
    rest = {key: value for key, value in given.items() if key not in options}
    stages = own.get(STAGES, options[STAGES][1])
    if not rest or not isinstance(stages, (list, tuple)) or not all(isinstance(stage, Mapping) for stage in stages):
        return {**own, **rest}
    filled, taken = [], set()
    for stage in stages:
        spec = _read_name(stage)
        wanted = {key for key in rest if _takes(spec, key)}
        taken |= wanted
        filled.append({**{key: value for key, value in rest.items() if key in wanted}, **spec})
    return {**own, STAGES: filled, **{key: value for key, value in rest.items() if key not in taken}}


def _takes(stage: Any, key: str) -> bool:
    """Say whether the method of a stage has that option, or one of its own stages does."""
    if not isinstance(stage, Mapping):
        return False
    spec = _read_name(stage)
    options = METHODS[spec["name"]].options if spec["name"] in METHODS else {}
    inner = spec.get(STAGES, options[STAGES][1]) if STAGES in options else ()
    return key in options or (isinstance(inner, (list, tuple)) and any(_takes(each, key) for each in inner))


def _read_name(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return `spec` with the options and stages that its name holds taken out of it."""
    return {**read_spec(str(spec.get("name"))), **{key: value for key, value in spec.items() if key != "name"}}


def _options(cls: type[Quantizer]) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        hints = typing.get_type_hints(base.__init__)  # type: ignore[misc]  # of a class, not of an instance
        parameters = list(inspect.signature(base.__init__).parameters.values())[2:]  # type: ignore[misc]
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD and p.default is not p.empty]
        found = {**{p.name: (hints[p.name], p.default) for p in named if p.name not in found}, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def fitting_width(spec: Mapping[str, Any], wanted: int) -> int:
    """Return the width of a latent, `wanted` or the least above it, that the quantizer of `spec` can work with.

    Raises:
        ConfigError: `spec` does not describe a quantizer.
    """
    resolved = resolve_spec(spec)
    least, divisor = METHODS[resolved["name"]].cls.widths(resolved)
    return -(-max(least, wanted) // divisor) * divisor


def min_parameters(spec: Mapping[str, Any], latent_dim: int) -> int:
    """Return how many numbers the quantizer of `spec` holds at least, told before it is made.

    Raises:
        ConfigError: `spec` does not describe a quantizer.
    """
    resolved = resolve_spec(spec)
    return METHODS[resolved["name"]].cls.min_parameters(resolved, latent_dim)


def short_spec(spec: Mapping[str, Any], always: Collection[str] = ()) -> str:
    """Return `spec` on one line, without the options that are a method's defaults, but for those in `always`."""
    resolved = resolve_spec(spec)
    name, options = resolved["name"], METHODS[resolved["name"]].options
    kept = {
        key: value
        for key, value in resolved.items()
        if key not in (STAGES, "name") and (options[key][1] != value or key in always)
    }
    stages = (
        {STAGES: [read_spec(short_spec(stage, always)) for stage in resolved[STAGES]]} if STAGES in resolved else {}
    )
    return write_spec({"name": name, **stages, **kept})


def build_quantizer(spec: Mapping[str, Any], latent_dim: int) -> Quantizer:
    """Make the quantizer that `spec` describes for latents `latent_dim` wide.

    Raises:
        ConfigError: `spec` does not describe one.
    """
    resolved = resolve_spec(spec)
    options = {key: value for key, value in resolved.items() if key != "name"}
    try:
        made = METHODS[resolved["name"]].cls(latent_dim, **options)
    except ValueError as error:
        raise ConfigError([f"quantizer {resolved['name']}: {error}"]) from error
    made.settings = resolved
    return made
