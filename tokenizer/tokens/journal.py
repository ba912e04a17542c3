"""Files that grow together, how much of them is safe, and for which inputs: what survives kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tokenizer.errors import InputError, OutputError
from tokenizer.files import Lock, canonical_json, make_folder, open_to_append, write_bytes
from tokenizer.tokens.manifest import PARSE_ERRORS, FailedInput, ImageRecord, record_from_json
from tokenizer.tokens.serialization import Stored

PARTIAL_SUFFIX = ".partial"
_STATE = "journal.json"
_LOCK = "lock"
_SECONDS = 2.0
_PENDING_BYTES = 2**24
_PIECE = 2**20
_WRONG = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class _Now:
    """The state of a journal.

    Attributes:
        files: size and checksum of each, as far as it is safe.
        pending: what waits to be added, and to which file.
        ready: how many of `pending` belong to inputs that are complete.
        done: how many inputs are complete.
    """

    files: dict[str, tuple[int, int]]
    pending: list[tuple[str, bytes]]
    ready: int
    done: int


class Journal:
    """Append-only files in a folder of their own, flushed to disk together every two seconds.

    `journal.json` says how many inputs are done, and the length and checksum of each file at that time. What a process
    wrote later, before it was killed, is cut off when the next one goes on.

    Args:
        folder: where they lie; made here, and gone after `discard`.
        job: plain values that say what is being done.
        resume: go on with what an earlier process of the same job left there, if it did.
        overwrite: drop what lies there.
        wait: for another process that is writing there.

    Raises:
        OutputError: the folder is there, and neither `resume` nor `overwrite` says what to do with it; another process
            is writing there; or it cannot be written.
        InputError: what lies there belongs to another job; each difference is named.
    """

    def __init__(
        self,
        folder: Path,
        job: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        wait: bool = False,
    ) -> None:
        if folder.exists() and not (resume or overwrite):
            raise OutputError(f"{folder} was left unfinished: pass --resume to go on, or --overwrite to start anew")
        self._folder, self._job = folder, dict(job)
        if folder.is_symlink():  # what lies there is cleared
            raise OutputError(f"{folder} is a link: remove it")
        self._now = _Now({}, [], 0, 0)
        self.finished = self._gone = False
        self._pending_bytes, self._committed = 0, time.monotonic()
        make_folder(folder)
        self._lock = Lock(folder / _LOCK, wait=wait)
        try:
            if resume:
                self._go_on()
            self._cut()
        except BaseException:
            self._lock.release()
            raise

    def _go_on(self) -> None:
        try:
            state = json.loads((self._folder / _STATE).read_text("utf-8"))
            job, done, finished = state["job"], int(state["done"]), bool(state["finished"])
            files = {str(name): (int(size), int(crc)) for name, (size, crc) in state["files"].items()}
        except (OSError, *_WRONG):
            return  # nothing was safe yet
        refuse_another_job(job, self._job, self._folder)
        if all(self._checksum(name, size) == crc for name, (size, crc) in files.items()):
            self._now, self.finished = _Now(files, [], 0, done), finished

    def _checksum(self, name: str, size: int) -> int | None:
        path = self._folder / name
        try:
            plain = Path(name).name == name and path.is_file() and not path.is_symlink() and size >= 0
            return _crc32(_pieces(path, size)) if plain else None
        except (OSError, EOFError):
            return None

    def _cut(self) -> None:
        try:
            for path in self._folder.iterdir():
                if path.name in self._now.files:  # no link: its checksum was taken
                    os.truncate(path, self._now.files[path.name][0])
                elif path.name not in (_LOCK, _STATE):
                    path.unlink()
        except OSError as error:
            raise OutputError(f"cannot clear {self._folder}: {error.strerror or error}") from error

    @property
    def done(self) -> int:
        """How many inputs are done."""
        return self._now.done

    def append(self, name: str, data: bytes) -> None:
        """Add data to the file of that name; it counts from the next `mark` on."""
        self._now.pending.append((name, data))
        self._pending_bytes += len(data)

    def mark(self, done: int) -> None:
        """Say that all of the first `done` inputs has been added; it is flushed to disk now and then."""
        self._now = replace(self._now, ready=len(self._now.pending), done=done)
        if time.monotonic() - self._committed > _SECONDS or self._pending_bytes > _PENDING_BYTES:
            self.commit()

    def commit(self) -> None:
        """Make everything safe up to the last `mark`.

        Raises:
            OutputError: it cannot be written.
        """
        now = self._now
        grown: dict[str, list[bytes]] = {}
        for name, data in now.pending[: now.ready]:
            grown.setdefault(name, []).append(data)
        files = dict(now.files)
        for name, pieces in grown.items():
            files[name] = self._extend(name, b"".join(pieces), *files.get(name, (0, 0)))
        state = {"job": self._job, "done": now.done, "finished": self.finished, "files": files}
        write_bytes(self._folder / _STATE, canonical_json(state).encode())
        # One assignment: Ctrl-C comes before or after it.
        self._now = _Now(files, now.pending[now.ready :], 0, now.done)
        self._pending_bytes, self._committed = 0, time.monotonic()

    def _extend(self, name: str, data: bytes, size: int, crc: int) -> tuple[int, int]:
        path = self._folder / name
        try:
            with open_to_append(path) as file:
                file.truncate(size)  # an attempt that failed, as on a full disk, may have left something
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        return size + len(data), zlib.crc32(data, crc)

    def stored(self, name: str) -> Stored:
        """Return what is safe of a file."""
        size = self._now.files.get(name, (0, 0))[0]
        return Stored(size, lambda: _pieces(self._folder / name, size))

    def path(self, name: str) -> Path:
        """Return where a file lies; it may be missing where nothing was added."""
        return self._folder / name

    def finish(self) -> None:
        """Make everything safe, and say that nothing will follow."""
        self.finished = True
        self.commit()

    def __enter__(self) -> Journal:
        """Return this journal; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Make safe what can be, and let another process go on; where nothing is done yet, nothing is left."""
        if self._gone:
            return
        with contextlib.suppress(OutputError):
            self.commit()
        if self._now.files or self.finished:
            self._lock.release()
        else:
            self.discard()

    def discard(self) -> None:
        """Remove the folder and all that is in it."""
        self._gone = True
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()
        with contextlib.suppress(OSError):  # left on Windows, which removes no open file
            self._folder.rmdir()


def is_finished(folder: Path) -> bool:
    """Return whether a journal lies there that nothing will follow in."""
    try:
        return bool(json.loads((folder / _STATE).read_text("utf-8"))["finished"])
    except (OSError, *_WRONG):
        return False


def refuse_another_job(before: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """Raise InputError, which names each setting with both values, unless two descriptions of a job are the same."""
    try:
        old, new = (_leaves(json.loads(canonical_json(job))) for job in (before, now))
    except _WRONG as error:
        raise InputError(f"cannot resume {where}, which is damaged: pass --overwrite to start anew") from error
    faults = [
        f"{key} was {old.get(key, 'not set')}, now {new.get(key, 'not set')}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    if faults:
        raise InputError(
            f"cannot resume {where} with other settings: {'; '.join(faults)}: pass --overwrite to start anew"
        )


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix.rstrip("."): values}
    return {key: value for name, held in values.items() for key, value in _leaves(held, f"{prefix}{name}.").items()}


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file; EOFError where it holds fewer."""
    if not size:
        return
    with path.open("rb") as file:
        while size:
            piece = file.read(min(size, _PIECE))
            if not piece:
                raise EOFError(f"{path} is shorter than it was")
            size -= len(piece)
            yield piece


def crc32_of(path: Path) -> int:
    """Return the CRC-32 of a file; OSError where it cannot be read."""
    return _crc32(_pieces(path, path.stat().st_size))


def _crc32(pieces: Iterable[bytes]) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


T = TypeVar("T")

MANIFEST = "manifest"


def earlier_outcomes(journal: Journal) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each input in a journal's manifest, and the reason where it has no tokens, else None.

    Raises:
        InputError: it is damaged.
    """
    return _lines(journal, lambda values: (str(values["name"]), values.get("reason")))


def journal_entries(journal: Journal, downsample: int | None) -> Iterator[tuple[int | None, ImageRecord | FailedInput]]:
    """Yield what became of each input in a journal's manifest, after its row in the array of its grid."""

    def parse(values: Mapping[str, Any]) -> tuple[int | None, ImageRecord | FailedInput]:
        if values["status"] == "done":
            return int(values["row"]), record_from_json(values, downsample)
        return None, FailedInput(str(values["name"]), str(values["reason"]))

    return _lines(journal, parse)


def _lines(journal: Journal, parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    left = b""
    for piece in journal.stored(MANIFEST).pieces():
        *whole, left = (left + piece).split(b"\n")
        try:
            yield from [parse(json.loads(line)) for line in whole]
        except PARSE_ERRORS as error:
            raise damaged_journal(journal, f"{type(error).__name__} {error}") from error
    if left:
        raise damaged_journal(journal, "its manifest is truncated")


def damaged_journal(journal: Journal, reason: str) -> InputError:
    """Return the error of a journal whose checksums are right and whose manifest is wrong."""
    return InputError(
        f"{journal.path(MANIFEST).parent} is damaged: {' '.join(reason.split())}: pass --overwrite to start anew"
    )
