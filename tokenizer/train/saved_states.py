"""Training states on disk: `states/step_0001234.safetensors`, the newest few of them."""

from __future__ import annotations

import contextlib
import json
import typing
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.config import TrainConfig, coerce_option, parse_settings, to_dict
from tokenizer.errors import CheckpointError
from tokenizer.files import canonical_json, read_tensors, write_bytes
from tokenizer.train.state import PLAIN, Saved, TrainingState

FOLDER = "states"
VERSION = 2  # 1 is that of vqtok 0.1, whose states do not say it
_KEY = "vqtok"
# What a state that does not say so was trained with: it goes on as it began.
_BEFORE_NATIVE_CROPS = {"native_crops": 0.0, "crops_per_read": 1}


def has_states(folder: Path) -> bool:
    """Return whether there is a state in a run's folder."""
    return bool(_files(folder))


def clear_states(folder: Path) -> None:
    """Remove the states in a run's folder, and no other file."""
    for path in [*_files(folder), *(folder / FOLDER).glob(".*.tmp")]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it holds something else, or is not there
        (folder / FOLDER).rmdir()


def write_state(folder: Path, saved: Saved, keep: int) -> None:
    """Write a state, whole or not at all, and then remove all but the newest `keep`.

    Raises:
        OutputError: it cannot be written.
    """
    header = {
        "version": VERSION,
        "config": to_dict(saved.config),
        "data": saved.data,
        "plain": dict(saved.plain),
        "checksum": _checksum(saved.tensors),
    }
    path = folder / FOLDER / f"step_{saved.plain['step']:07d}.safetensors"
    write_bytes(path, safetensors.torch.save(dict(saved.tensors), metadata={_KEY: canonical_json(header)}))
    for old in [*_files(folder)[:-keep], *path.parent.glob(".*.tmp")]:
        old.unlink(missing_ok=True)


def read_newest_state(folder: Path) -> tuple[Saved, list[str]]:
    """Return the newest state in a run's folder that is whole, and a line for each damaged one that is newer.

    Where several ranks train together, the first one reads, and all get what it finds.

    Raises:
        CheckpointError: there is none.
    """
    found: tuple[Saved, list[str]] | CheckpointError | None = None
    if runtime.rank() == 0:
        try:
            found = _newest(folder)
        except CheckpointError as error:
            found = error
    found = runtime.object_from_first_rank(found)
    if isinstance(found, tuple):
        return found
    raise found or CheckpointError(f"there is no training to resume in {folder}")


def _newest(folder: Path) -> tuple[Saved, list[str]]:
    files = _files(folder)
    if not files:
        raise CheckpointError(f"there is no training to resume in {folder}: it has no {FOLDER}/step_*.safetensors")
    faults: list[str] = []
    for path in reversed(files):
        try:
            return _read(path), faults
        except CheckpointError as error:
            faults.append(str(error))
    raise CheckpointError(faults[0])


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{FOLDER}/step_*.safetensors"), key=lambda path: (len(path.name), path.name))


def _read(path: Path) -> Saved:
    try:
        tensors, metadata = read_tensors(path)
        header = json.loads(metadata[_KEY])
        version, settings, values = header.get("version", 1), header["config"], header["plain"]
    except Exception as error:  # of the library, of torch, of the system; of JSON that is another's
        raise _unreadable(path, error) from error
    if version != VERSION:
        raise CheckpointError(
            f"the training state {path} has version {version}, this vqtok goes on from {VERSION}: go on with the vqtok "
            f"that wrote it, or start a new run from its checkpoint with --init-from {path.parent.parent}"
        )
    try:
        plain = _plain(values)
        settings = {**_BEFORE_NATIVE_CROPS, **settings}
        saved = Saved(parse_settings(TrainConfig, settings), str(header["data"]), plain, tensors)
        intact = header["checksum"] == _checksum(tensors)
    except Exception as error:  # what a header can hold is without end
        raise _unreadable(path, error) from error
    if not intact:
        raise CheckpointError(f"the training state {path} is damaged: its checksum is another")
    return saved


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(f"{error}".split())[:300]
    return CheckpointError(f"cannot read the training state {path}: {reason}")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a state, coerced to their types; ConfigError, KeyError or ValueError for others."""
    hints = {**typing.get_type_hints(TrainingState), "scaler": Mapping[str, float]}
    plain = {name: coerce_option(values[name], hints[name], name) for name in (*PLAIN, "scaler")}
    counts = ("step", "crops", "seconds", "skipped", "rollbacks", "evaluations_since_best")
    if min(plain[name] for name in counts) < 0 or not 0 < plain["lr_share"] <= 1:
        raise ValueError("one of its counters is below 0")
    return {**plain, **{name: values[name] for name in ("figures", "scaler")}}  # some of their numbers are whole


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].numpy().data, zlib.crc32(name.encode(), total))
    return total
