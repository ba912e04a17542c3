"""Comparisons: every quantizer with every seed, all else alike."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tokenizer import train
from tokenizer.config import TrainConfig, to_dict
from tokenizer.errors import ConfigError, UsageError
from tokenizer.perceptual import refuse_without_lite0
from tokenizer.quantizers import METHODS, STAGES, read_spec, resolve_spec, short_spec, split_specs, write_spec
from tokenizer.train import Plan

RUNS_FOLDER = "runs"
_EVALUATIONS = 10
_SIZE = "codebook_size"
_LONGEST = 60
_Contestant: TypeAlias = tuple[str, dict[str, Any]]  # label, resolved spec


@dataclass(frozen=True)
class Entry:
    """One contestant with one seed.

    Attributes:
        label: the quantizer, on one line, as it is shown.
        folder: of the entry's training.
        plan: of its training.
        perceptual: its figures have what EfficientNet-Lite0 sees too.
    """

    label: str
    folder: Path
    plan: Plan
    perceptual: bool = False

    @property
    def seed(self) -> int:
        """Of everything random but the validation split."""
        return self.plan.config.seed


@dataclass(frozen=True)
class Comparison:
    """What is compared on what.

    Attributes:
        entries: in the order in which they train: all contestants with the first seed, then with the next.
        notes: what the user should know before, with the labels of those it is about.
        folder: where everything lies.
    """

    entries: tuple[Entry, ...]
    notes: Mapping[str, tuple[str, ...]]
    folder: Path

    @property
    def labels(self) -> tuple[str, ...]:
        """The contestants, in the order given."""
        return tuple(dict.fromkeys(entry.label for entry in self.entries))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order given."""
        return tuple(dict.fromkeys(entry.seed for entry in self.entries))

    def to_json(self) -> dict[str, Any]:
        """Return the entries with their settings, and the notes, as plain values."""
        entries = [
            {
                "quantizer": entry.label,
                "seed": entry.seed,
                "folder": str(entry.folder),
                "settings": to_dict(entry.plan.config),
            }
            for entry in self.entries
        ]
        return {"entries": entries, "notes": {note: list(labels) for note, labels in self.notes.items()}}

    def remarks(self) -> list[str]:
        """Return the notes, one line each; those that are not about all say whom they are about."""
        lines = []
        for note, labels in self.notes.items():
            who = "" if labels == self.labels or note.startswith(f"{labels[0]} ") else f"{', '.join(labels)}: "
            lines.append(who + note)
        return lines


def parse_quantizers(text: str | None) -> list[dict[str, Any]]:
    """Return the specs in a list with commas between, such as `diveq, ste(beta=1)`.

    None stands for every registered method that is not made of others.

    Raises:
        ConfigError: a spec is malformed, all faults listed.
        UsageError: none is named.
    """
    if text is None:
        return [{"name": name} for name, method in METHODS.items() if STAGES not in method.options]
    specs: list[dict[str, Any]] = []
    faults: list[str] = []
    for part in split_specs(text):
        try:
            specs.append(read_spec(part))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    if not specs:
        raise UsageError("--quantizers names none: vqtok list does")
    return specs


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that a text names: `3` is 0, 1, 2; `0,4,7` names them one by one.

    Raises:
        UsageError: it is neither.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() for word in words) or text.strip() == "0":
        raise UsageError(f"--seeds is {text!r}, expected how many, such as 3, or which, such as 0,4,7")
    return [int(word) for word in words] if "," in text else list(range(int(text)))


def prepare_comparison(
    config: TrainConfig,
    data: Sequence[Path],
    specs: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    codebook_size: int | None = None,
    *,
    perceptual: bool = False,
) -> Comparison:
    """Return the comparison of the quantizers `specs` with `seeds`; nothing is trained or written.

    All entries share `config` but for the quantizer and the seed; its own seed draws the validation images. Sides of
    crops and validation pictures are multiples of what every contestant can work with.

    Args:
        config: of every run.
        data: images and folders of them.
        specs: in the notation's form.
        seeds: of each contestant's runs.
        folder: where everything will lie.
        codebook_size: of the contestants that do not say their own.
        perceptual: add what EfficientNet-Lite0 sees, of the extra `perceptual`.

    Raises:
        UsageError: the folder lies in a folder of `data`, so that pictures of the comparison would be trained on; or
            the extra is not installed.
        ConfigError: something is wrong with some contestants, or with all: all faults listed.
        InputError: there are no images.
    """
    if perceptual:
        refuse_without_lite0("--perceptual")
    inside = [path for path in data if folder.resolve().is_relative_to(path.resolve())]
    if inside:
        raise UsageError(f"-o {folder} lies in {inside[0]}: its pictures would be trained on, name another folder")
    config = dataclasses.replace(config, log_every=1, eval_every=config.eval_every or _evaluate_every(config.steps))
    contestants = _contestants(specs, codebook_size)
    _refuse_twice("quantizer", [label for label, _ in contestants])
    _refuse_twice("seed", seeds)
    plans = _plans(config, data, contestants)
    notes: dict[str, tuple[str, ...]] = {}
    for label, plan in plans.items():
        for note in plan.notes:
            notes[note] = (*notes.get(note, ()), label)
    runs = folder / RUNS_FOLDER
    entries = [
        Entry(label, runs / contestant_folder(label) / f"seed{seed}", _with_seed(plan, seed), perceptual)
        for seed in seeds
        for label, plan in plans.items()
    ]
    return Comparison(tuple(entries), notes, folder)


def _evaluate_every(steps: int | None) -> int | None:
    return max(1, steps // _EVALUATIONS) if steps else None


def _plans(config: TrainConfig, data: Sequence[Path], contestants: Sequence[_Contestant]) -> dict[str, Plan]:
    """Return the plan of each contestant, by its label, all with the same sides of crops and validation pictures."""

    def each(settings: TrainConfig) -> dict[str, Plan]:
        return _each(contestants, lambda spec: train.plan_run(dataclasses.replace(settings, quantizer=spec), data))

    plans = each(config)
    multiple = math.lcm(*(plan.multiple for plan in plans.values()))
    size = _common_size(config.image_size, multiple, plans)
    if any(plan.config.image_size != size for plan in plans.values()):
        plans = each(dataclasses.replace(config, image_size=size))
    return {label: dataclasses.replace(plan, multiple=multiple) for label, plan in plans.items()}


def _with_seed(plan: Plan, seed: int) -> Plan:
    return dataclasses.replace(plan, config=dataclasses.replace(plan.config, seed=seed))


def _common_size(wanted: int | None, multiple: int, plans: Mapping[str, Plan]) -> int:
    """Return the side of everyone's crops: what was asked for, or the least that was chosen, cut to a multiple."""
    if wanted is not None and wanted % multiple:
        raise ConfigError([f"image_size is {wanted}, expected a multiple of {multiple}, which serves all contestants"])
    return wanted or max(multiple, min(plan.config.image_size or 0 for plan in plans.values()) // multiple * multiple)


def _contestants(specs: Sequence[Mapping[str, Any]], size: int | None) -> list[_Contestant]:
    """Return (label, spec with `size` where it says none) of each."""
    found: list[_Contestant] = []
    faults: list[str] = []
    for spec in specs:
        try:
            found.append((_label(spec, size), resolve_spec(_with_size(spec, size))))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(dict.fromkeys(faults))
    return found


def _label(spec: Mapping[str, Any], size: int | None) -> str:
    """Return the spec on one line: without what is a default, but for a default size among other sizes."""
    label, given = short_spec(spec), write_spec(spec)
    return given if size is not None and _SIZE in given and _SIZE not in label else label


def _with_size(spec: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Return `spec` with the codebook size where it, and all its stages, say none and can have one."""
    options = METHODS[spec["name"]].options if spec["name"] in METHODS else {}
    if size is None or _SIZE in spec:
        return dict(spec)
    if STAGES in options:
        stages = spec.get(STAGES, options[STAGES][1])
        return {**spec, STAGES: [_with_size(stage, size) for stage in stages]}
    return {**spec, _SIZE: size} if _SIZE in options else dict(spec)


def _refuse_twice(what: str, values: Sequence[object]) -> None:
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ConfigError([f"the {what} {value} is named twice" for value in twice])


def _each(contestants: Sequence[tuple[str, dict[str, Any]]], make: Callable[[dict[str, Any]], Plan]) -> dict[str, Plan]:
    """Return the plan of every contestant; the faults of all of them at once, those that all share without a name."""
    plans: dict[str, Plan] = {}
    blamed: dict[str, list[str]] = {}
    for label, spec in contestants:
        try:
            plans[label] = make(spec)
        except ConfigError as error:
            for fault in error.faults:
                blamed.setdefault(fault, []).append(label)
    if blamed:
        everyones = len(contestants)
        raise ConfigError(
            fault if len(labels) == everyones else f"{', '.join(labels)}: {fault}" for fault, labels in blamed.items()
        )
    return plans


def contestant_folder(label: str) -> str:
    """Return a folder's name for a contestant: the label where that is safe, else what is safe of it and a digest."""
    safe = re.sub(r"[^a-z0-9._-]+", "-", label.lower()).strip("-.")
    if safe == label and len(safe) <= _LONGEST:
        return safe
    return f"{safe[:_LONGEST].rstrip('-.')}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
