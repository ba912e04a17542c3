"""Notation of quantizers on one line: `diveq(noise_std=0.01)`, `residual(3*diveq, fsq(codebook_size=256), drop=0.5)`.

A name, and in brackets the stages of a combinator and options as `key=value`; `n*` repeats a stage. A value goes on to
the next comma at its own level, so a list is written with spaces: `fsq(levels=8 5 5)`.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from typing import Any

from tokenizer.errors import ConfigError

# The key of a spec that holds the specs of the quantizers which a combinator is made of.
STAGES = "stages"
MOST_STAGES = 256
MOST_DEPTH = 16
_NAME = re.compile(r"[a-z0-9_-]+")


def split_specs(text: str) -> list[str]:
    """Return the parts of `text` between commas that stand in no bracket.

    Raises:
        ConfigError: brackets do not match.
    """
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
        if depth > MOST_DEPTH:
            raise ConfigError([f"{text!r:.80} has more than {MOST_DEPTH} brackets in each other"])
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise ConfigError([f"the brackets of {text!r:.80} do not match"])
    return [part.strip() for part in parts if part.strip()]


def read_spec(text: str) -> dict[str, Any]:
    """Return the spec that `text` writes; values stay text, which `resolve_spec` coerces.

    Raises:
        ConfigError: it is not of that form.
    """
    text = text.strip()
    name, bracket, rest = text.partition("(")
    if not bracket:
        return {"name": name}
    if not _NAME.fullmatch(name.strip()) or not rest.endswith(")"):
        raise ConfigError([f"{text!r} is not of the form NAME(STAGE, ..., KEY=VALUE, ...)"])
    spec: dict[str, Any] = {"name": name.strip()}
    stages: list[dict[str, Any]] = []
    for part in split_specs(rest[:-1]):
        key, equals, value = part.partition("=")
        if equals and _NAME.fullmatch(key.strip()):
            spec[key.strip()] = value.strip()
        else:
            stages += _repeated(part)
    return {**spec, STAGES: stages} if stages else spec


def _repeated(text: str) -> list[dict[str, Any]]:
    count, star, stage = text.partition("*")
    if star and count.strip().isdecimal() and count.strip().strip("0"):
        spec = read_spec(stage)
        if len(count.strip()) > len(str(MOST_STAGES)) or int(count) * count_stages(spec) > MOST_STAGES:
            raise ConfigError([f"{text!r:.80} asks for more than {MOST_STAGES} stages"])
        return [copy.deepcopy(spec) for _ in range(int(count))]
    return [read_spec(text)]


def count_stages(spec: Mapping[str, Any]) -> int:
    """Return how many quantizers a spec names; a combinator counts as its stages."""
    return sum(map(count_stages, spec.get(STAGES, ()))) or 1


def write_spec(spec: Mapping[str, Any]) -> str:
    """Return `spec` on one line; `read_spec` is the inverse."""
    stages = [write_spec(stage) for stage in spec.get(STAGES, ())]
    runs = [(text, len(list(same))) for text, same in itertools.groupby(stages)]
    shown = [f"{count}*{text}" if count > 1 else text for text, count in runs]
    for key, value in spec.items():
        if key not in ("name", STAGES):
            shown.append(f"{key}={' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    return f"{spec['name']}({', '.join(shown)})" if shown else str(spec["name"])
