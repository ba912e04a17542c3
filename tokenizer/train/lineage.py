"""Which quantizers can start from the codes of which, told from their specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tokenizer.quantizers import (
    METHODS,
    STAGES,
    CodebookQuantizer,
    Curve,
    Product,
    Quantizer,
    Residual,
    build_quantizer,
    fitting_width,
    read_spec,
    resolve_spec,
)

Spec = Mapping[str, Any]

# Options of a table of code vectors, which stay when another method takes the table over.
_OF_THE_TABLE = ("codebook_size", "normalize", "points", "dead_code_patience")


def inherit_spec(before: Spec, given: Spec) -> dict[str, Any]:
    """Return the resolved spec of a run that starts from a quantizer of the resolved spec `before`.

    What is given replaces what was there. Another method starts from its own defaults, except for the options of the
    table of code vectors, which stay. An option that a combinator does not have is given to all of its stages that do.

    Raises:
        ConfigError: `given` names what no quantizer has.
    """
    return resolve_spec(_overlay(before, given))


def _overlay(before: Spec, given: Spec) -> dict[str, Any]:
    """Return the spec that `inherit_spec` resolves."""
    rest = {key: value for key, value in given.items() if key != "name"}
    given = {**read_spec(str(given["name"])), **rest} if "name" in given else rest
    name = given.get("name", before["name"])
    options = METHODS[name].options if name in METHODS else {}
    stages = given.get(STAGES)
    if name != before["name"]:
        table = {key: before[key] for key in _OF_THE_TABLE if key in before and key in options}
        return {**table, **given, **_named(stages, before)}
    if STAGES not in before:
        return {**before, **given}
    if stages is not None and (not _are_specs(stages) or len(stages) != len(before[STAGES])):
        return {**before, **given, **_named(stages, before)}
    return _overlay_stages(before, given, stages or [{}] * len(before[STAGES]), options)


def _overlay_stages(before: Spec, given: Spec, stages: Iterable[Spec], options: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what is given over each stage: what it says of the stage, and what the combinator has no option for."""
    loose = {key: value for key, value in given.items() if key not in ("name", *options)}
    taken: set[str] = set()
    merged = []
    for old, new in zip(before[STAGES], stages, strict=True):
        plain = _overlay(old, new)
        known = METHODS[plain["name"]].options if plain["name"] in METHODS else {}
        wanted = {key: value for key, value in loose.items() if key in known or STAGES in known}
        taken |= set(wanted)
        merged.append(_overlay(plain, wanted))
    own = {key: value for key, value in given.items() if key not in taken}
    return {**before, **own, STAGES: merged}


def _are_specs(stages: Any) -> bool:
    return isinstance(stages, (list, tuple)) and all(isinstance(stage, Mapping) for stage in stages)


def _named(stages: Any, before: Spec) -> dict[str, Any]:
    """Return stages that say nothing of their method with that of `before`, or of its first stage."""
    if not _are_specs(stages):
        return {}
    first = before
    while first.get(STAGES):
        first = first[STAGES][0]
    return {STAGES: [{"name": first["name"], **stage} for stage in stages]}


def misfitting_settings(before: Spec, now: Spec, where: str = "quantizer", *, grows: bool = True) -> list[str]:
    """Return a line for each setting for which codes of `before` cannot be those of `now`, with both values.

    Args:
        before: resolved spec of the checkpoint's quantizer.
        now: resolved spec of the run's.
        where: prefix of the settings' names.
        grows: whether codes can be added.
    """
    old, new = METHODS[before["name"]].cls, METHODS[now["name"]].cls
    if not _same_codes(old, new):
        return [_line(where, "name", before, now, ", whose codes are of another kind")]
    if STAGES in before:
        return _misfits_of_stages(before, now, where, grows=grows and issubclass(new, (Residual, Product)))
    if not issubclass(new, CodebookQuantizer):
        return [_line(where, key, before, now) for key in _differing(before, now)]
    found = [
        _line(where, key, before, now)
        for key in ("transform", "normalize", "points")
        if before.get(key) != now.get(key)
    ]
    fewer, more = now["codebook_size"] < before["codebook_size"], now["codebook_size"] > before["codebook_size"]
    if fewer:
        found.append(_line(where, "codebook_size", before, now, ", which is fewer"))
    elif more and (not grows or issubclass(new, Curve)):
        found.append(_line(where, "codebook_size", before, now, ", to which none can be added"))
    return found


def _misfits_of_stages(before: Spec, now: Spec, where: str, *, grows: bool) -> list[str]:
    if len(before[STAGES]) != len(now[STAGES]):
        return [f"{where} has {len(before[STAGES])} stages there, now {len(now[STAGES])}"]
    own = _differing(before, {**now, STAGES: before[STAGES]})
    return [_line(where, key, before, now) for key in own] + [
        line
        for number, pair in enumerate(zip(before[STAGES], now[STAGES], strict=True))
        for line in misfitting_settings(*pair, f"{where}.{STAGES}.{number}", grows=grows)
    ]


def _same_codes(old: type[Quantizer], new: type[Quantizer]) -> bool:
    """Say whether a token of one method decodes as that of the other."""
    both_tables = issubclass(old, CodebookQuantizer) and issubclass(new, CodebookQuantizer)
    return old is new or (both_tables and old.decode is new.decode)


def _differing(before: Spec, now: Spec) -> list[str]:
    """Return the options that differ, where they make tokens or weights of another shape."""
    dim = max(fitting_width(before, 1), fitting_width(now, 1))
    if _shape(before, dim) == _shape(now, dim):
        return []
    return [key for key in before if before[key] != now[key]]


def _shape(spec: Spec, dim: int) -> tuple[Any, ...]:
    with torch.device("meta"):
        made = build_quantizer(spec, dim)
    return made.sizes, made.prefixes, {name: value.shape for name, value in made.state_dict().items()}


def _line(where: str, key: str, before: Spec, now: Spec, reason: str = "") -> str:
    return f"{where}.{key} is {before[key]} there, now {now[key]}{reason}"
