"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tokenizer.errors import OutputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name once it is written and flushed to disk.

    The parent folders are made. When the block raises, `path` is untouched and the temporary file is gone.

    Raises:
        OutputError: the file cannot be written (permission, full disk, a folder of that name).
    """
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        _discard(temporary)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        _discard(temporary)
        raise


def _flush_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some file systems flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # where it could not be made, looking for it can fail too
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def canonical_json(value: Any) -> str:
    """Return `value` as ASCII JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError when `path` holds something that would be lost."""
    taken = any(path.iterdir()) if path.is_dir() else os.path.lexists(path)
    if taken and not overwrite:
        raise OutputError(f"{path} exists: pass --overwrite to replace it, or name another output")


def unique_names(names: Iterable[str], suffix: str) -> list[str]:
    """Return a file name ending in `suffix` for each image name, all different, none leaving its folder.

    `a/b.jpg` becomes `a/b.png`; where `b.jpg` and `b.webp` lie side by side, both keep their suffix
    (`b.jpg.png`, `b.webp.png`); names that still coincide are numbered.
    """
    safe = [_inside(name) for name in names]
    stems = [name[: len(name) - len(Path(name).suffix)] for name in safe]
    shared = {stem for stem, times in Counter(stems).items() if times > 1}
    taken: set[str] = set()
    chosen = []
    for name, stem in zip(safe, stems, strict=True):
        base = name if stem in shared else stem
        candidate, number = base + suffix, 1
        while candidate in taken:
            candidate, number = f"{base}-{number}{suffix}", number + 1
        taken.add(candidate)
        chosen.append(candidate)
    return chosen


def _inside(name: str) -> str:
    # NUL and halves of surrogate pairs, which no file name holds, go first: without them a part can be "..".
    parts = re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "image"
