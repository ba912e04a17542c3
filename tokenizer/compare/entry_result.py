"""The result of one finished entry: `result.json`, from which the ranking is made, and which a resumed run keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizer.compare.measures import EntryCurves, EntryFigures, SoftFigures
from tokenizer.config import parse_settings
from tokenizer.errors import CheckpointError, ConfigError
from tokenizer.files import write_bytes

RESULT_FILE = "result.json"
RESULT_VERSION = 2
# What may differ between one session and the next: it changes no result.
_FREE = ("workers", "save_every")


@dataclass(frozen=True)
class EntryResult:
    """One finished entry: a quantizer trained with one seed.

    Attributes:
        quantizer: its label.
        seed: of everything random but the validation split.
        settings: of the run, resolved.
        train_images: digest of the names of the training images.
        validation_images: digest of the names of the validation images.
        multiple: what the sides of the validation pictures were cut to multiples of.
        steps: steps taken.
        seconds: wall-clock time of training, evaluations included.
        skipped: steps whose gradient was not finite.
        codebook_sizes: alphabet size of each code of a position.
        figures: the numbers of `COMPARISON_DEFINITIONS`.
        soft: those of the pictures before the choice of a code, where the method has such.
        curves: over the steps.
        machine: where it ran.
    """

    quantizer: str
    seed: int
    settings: Mapping[str, Any]
    train_images: str
    validation_images: str
    multiple: int
    steps: int
    seconds: float
    skipped: int
    codebook_sizes: tuple[int, ...]
    figures: EntryFigures
    soft: SoftFigures | None
    curves: EntryCurves
    machine: Mapping[str, Any]


def write_result(folder: Path, result: EntryResult) -> None:
    """Write `result.json`, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps({"version": RESULT_VERSION, **asdict(result)}, allow_nan=False)
    write_bytes(folder / RESULT_FILE, (text + "\n").encode())


def read_result(folder: Path) -> EntryResult | None:
    """Return the result in `folder`, or None where the entry has not finished.

    Raises:
        CheckpointError: it is damaged, or was written by another version of vqtok, whose figures may mean other things.
    """
    path = folder / RESULT_FILE
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values.pop("version")
        if version > RESULT_VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, this vqtok reads {RESULT_VERSION}: upgrade vqtok"
            )
        if version < RESULT_VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, this vqtok reads {RESULT_VERSION}: an older vqtok finished this "
                "entry: delete the file to train it again, or pass another output"
            )
        return parse_settings(EntryResult, values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"cannot read {path}: {error}: delete it to train this entry again") from error


def setting_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return `KEY was A, now B` for each setting that differs and could change a result."""
    old, new = dict(_flat(before)), dict(_flat(now))
    keys = [key for key in [*old, *(key for key in new if key not in old)] if key not in _FREE]
    return [f"{key} was {_shown(old, key)}, now {_shown(new, key)}" for key in keys if old.get(key) != new.get(key)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            yield from _flat({str(number): item for number, item in enumerate(value)}, f"{name}.")
        else:
            yield name, list(value) if isinstance(value, (list, tuple)) else value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return "not set" if values.get(key) is None else str(values[key])
