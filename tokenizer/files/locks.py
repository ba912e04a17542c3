"""Locks that keep other processes out of a file or a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tokenizer.errors import OutputError
from tokenizer.files.writing import discard, make_folder, remove_temporaries

_POLL_SECONDS = 0.05
# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Lock:
    """A file that one process holds; the system lets go of it when the process dies.

    A link in its place is not followed, and a pipe not waited for. On a file system without locks nothing is held.

    Args:
        path: of the file, which is made, and may stay.
        wait: until another process lets go, in place of an error.

    Raises:
        OutputError: another process holds it, its folder is missing, or it cannot be made.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        from filelock import FileLock, Timeout  # here: it imports much, and most commands take no lock

        # Any thread may release it. A soft lock, which is a file that is there, would outlast a killed process.
        self._lock = FileLock(path, thread_local=False, fallback_to_soft=False)
        try:
            self._acquire(path, wait=wait)
        except Timeout as error:
            raise OutputError(f"{path.parent} is being written by another process: wait for it, or stop it") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def _acquire(self, path: Path, *, wait: bool) -> None:
        from filelock import Timeout

        # Not filelock's own waiting: where who held the lock has removed its folder, most releases make that again.
        while True:
            path.parent.stat()
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                if not wait:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def release(self) -> None:
        """Let go."""
        self._lock.release()


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to add to, made where it is missing; OSError for a link, and for what would wait, such as a pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "ab")


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
        # Removed while it is held: who opened the file before, and holds it then, finds it gone and makes another.
        # Windows removes no open file, and filelock does it there when it lets go.
        discard(path)
        lock.release()
        with contextlib.suppress(OSError):  # where something was made
            folder.rmdir()
