"""What every reader of files promises, whatever the bytes: checked for each input that a target is fed."""

from __future__ import annotations

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tokenizer.errors import VqtokError

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NEVER = (
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
)
_MOVES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")


class Target(ABC):
    """Something that reads files.

    Attributes:
        name: of the target.
        scratch: a folder that it may write to, and no other.
        seeds: sound inputs, of the project's own making.
        tried, refused: how many inputs came, and how many of these ended in a named error.
    """

    name: ClassVar[str]

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.tried, self.refused = scratch, 0, 0
        self.seeds: list[bytes] = self.make()

    @abstractmethod
    def make(self) -> list[bytes]:
        """Return sound inputs."""

    @abstractmethod
    def read(self, data: bytes) -> None:
        """Read all that an input holds."""

    def check(self, data: bytes) -> None:
        """Read an input; AssertionError, or whatever escapes, where a promise is broken."""
        self.tried += 1
        try:
            with _kept_inside(self.scratch):
                self.read(data)
        except VqtokError as error:
            self.refused += 1
            said = str(error).replace(str(self.scratch), "")
            assert said, "an error without a word"
            assert len(said) < 20_000 + len(data), "an error of any length"


_inside: list[Path] = []
_hooked: list[bool] = []


@contextlib.contextmanager
def _kept_inside(folder: Path) -> Iterator[None]:
    """Raise AssertionError where something is executed, or written outside of a folder."""
    if not _hooked:
        sys.addaudithook(_judge)
        _hooked.append(True)
    _inside.append(folder)
    try:
        yield
    finally:
        _inside.pop()


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    if not _inside:
        return
    assert event not in _NEVER, f"{event} {arguments}"
    if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
        return  # of a folder that was judged when its removal began
    writes = event in _MOVES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES)
    if writes and isinstance(arguments[0], (str, bytes, os.PathLike)):
        where = os.path.realpath(os.fsdecode(arguments[0]))
        assert where == os.devnull or where.startswith(os.path.realpath(_inside[-1])), f"{event} of {where}"
