"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tokenizer.errors import OutputError

_LONGEST = 40  # characters of a file's name that the names of its temporary files begin with


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name once it is written and flushed to disk.

    The parent folders are made. When the block raises, `path` is untouched and the temporary file is gone.

    Raises:
        OutputError: the file cannot be written (permission, full disk, a folder of that name).
    """
    temporary = path.with_name(f"{_aside(path)}{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        discard(temporary)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        discard(temporary)
        raise


def _aside(path: Path) -> str:
    """Return how the names of the temporary files beside `path` begin, as those of no other file do."""
    if len(path.name) <= _LONGEST:
        return f".{path.name}."
    return f".{path.name[:_LONGEST]}.{hashlib.blake2b(os.fsencode(path.name), digest_size=4).hexdigest()}."


def _flush_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some file systems flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard(temporary: Path) -> None:
    """Remove a file, if it is there and can be."""
    with contextlib.suppress(OSError):  # where it could not be made, looking for it can fail too
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, where they are missing.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def remove_temporaries(folder: Path) -> None:
    """Remove what `replacing` of a process that was killed left in a folder, below which nobody may be writing."""
    _remove_temporaries(folder.rglob(".*.tmp"))


def remove_temporaries_of(path: Path) -> None:
    """Remove what `replacing` of a process that was killed left beside a file, which nobody may be writing."""
    _remove_temporaries(path.parent.glob(f"{glob.escape(_aside(path))}*.tmp"))


def _remove_temporaries(found: Iterable[Path]) -> None:
    for path in found:
        if re.search(r"\.[0-9a-f]{8}\.tmp$", path.name):
            discard(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def canonical_json(value: Any) -> str:
    """Return `value` as ASCII JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
