"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tokenizer.errors import OutputError

_LONGEST = 40
# Bytes of a name, and of each of its parts: systems allow 4,096 and 255, some of them less, with folder and suffixes.
_LONGEST_NAME, _LONGEST_PART, _LONGEST_SUFFIX = 1000, 220, 20


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
        _discard(temporary)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        _discard(temporary)
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


def _discard(temporary: Path) -> None:
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
            _discard(path)


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


def safe_name(name: str) -> str:
    """Return a name without what would lead out of its folder, in parts that file systems can hold."""
    # NUL and halves of surrogate pairs, which no file name holds, go first: without them a part can be "..".
    name = re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", name).replace("\\", "/")
    name = re.sub("(^|/)([A-Za-z]):", r"\1\2_", name)  # a drive, to Windows
    parts = [_shortened(part) for part in name.split("/") if part not in ("", ".", "..")]
    whole = "/".join(parts) or "image"
    if len(whole) * 4 > _LONGEST_NAME and len(_bytes(whole)) > _LONGEST_NAME:
        return f"{_digest(whole)}/{parts[-1]}"
    return whole


def _shortened(part: str) -> str:
    """Return part of a name, or its start and its suffix with a digest of all of it between where it is too long."""
    if len(part) * 4 <= _LONGEST_PART or len(_bytes(part)) <= _LONGEST_PART:
        return part
    suffix = Path(part).suffix if len(_bytes(Path(part).suffix)) <= _LONGEST_SUFFIX else ""
    kept = _bytes(part)[: _LONGEST_PART // 2].decode("utf-8", "ignore")
    return f"{kept}~{_digest(part)}{suffix}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(text: str) -> str:
    return hashlib.blake2b(_bytes(text), digest_size=8).hexdigest()


def path_beneath(folder: Path, name: str) -> Path:
    """Return where a name lies in a folder.

    Raises:
        OutputError: a link on the way there leads out of the folder.
    """
    path = folder / name
    root, parent = (os.path.realpath(place) for place in (folder, path.parent))
    if os.path.commonpath([root, parent]) != root:
        raise OutputError(f"{path.parent} leads out of {folder} through a link: remove the link")
    return path


class Lock:
    """A file that one process holds; the system lets go of it when the process dies.

    Args:
        path: of the file, which is made, and stays.
        wait: until another process lets go, in place of an error.

    Raises:
        OutputError: another process holds it, or it cannot be made.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        try:
            self._file = open_to_append(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            _lock(self._file, wait=wait)
        except OSError as error:
            self._file.close()
            raise OutputError(f"{path.parent} is being written by another process: wait for it, or stop it") from error

    def release(self) -> None:
        """Let go."""
        self._file.close()


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to add to, made where it is missing; OSError for a link, and for what would wait, such as a pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def _lock(file: BinaryIO, *, wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # file systems without locks
            raise


@contextlib.contextmanager
def locked_folder(folder: Path, share: tuple[int, int] = (0, 1)) -> Iterator[str]:
    """Keep other processes with the same share out of a folder; yield what to add to file names that are this share's.

    A process that does all the work first removes what killed ones left. A folder that stays empty is removed.

    Raises:
        OutputError: another process is writing there, it cannot be written, or was removed meanwhile.
    """
    part, parts = share
    label = "" if parts == 1 else f"-{part + 1}-of-{parts}"
    path = folder / f".lock{label}"
    make_folder(folder)
    lock = Lock(path)
    try:
        if parts == 1:
            remove_temporaries(folder)
        yield label
        if not path.exists():
            raise OutputError(f"{folder} was removed while it was being written: run the same command once more")
    finally:
        _discard(path)
        lock.release()
        with contextlib.suppress(OSError):  # where something was made
            folder.rmdir()
