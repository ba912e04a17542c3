"""Locks: one process at a time, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tokenizer.errors import OutputError
from tokenizer.files import Lock, locked_folder, make_folder, open_to_append

HOLD = """
import sys, time
from pathlib import Path
from tokenizer.files import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds a lock, and return it when it does."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as other:
        with pytest.raises(OutputError, match=r"is being written by another process: wait for it, or stop it$"):
            Lock(path)
        threading.Timer(0.3, other.kill).start()
        Lock(path, wait=True).release()
    assert other.returncode


def test_another_thread_may_let_go(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with pytest.raises(OutputError, match="another process"):
        Lock(tmp_path / "lock")
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    Lock(tmp_path / "lock").release()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="cannot write"):
        Lock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with contextlib.suppress(OutputError):  # older releases of filelock refuse it
        Lock(tmp_path / "lock").release()
    with pytest.raises(OSError, match="No such device"):
        open_to_append(tmp_path / "lock")


@pytest.mark.parametrize("place", ["gone/lock", "folder", "n" * 300])
def test_what_cannot_be_a_lock(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        Lock(tmp_path / place)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked_folder(tmp_path / "out"):
        Lock(tmp_path / "out/.lock").release()
        (tmp_path / "out/a").touch()
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/a"]


def test_a_lock_that_is_removed_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep nobody out: the file of that name is another one by then."""
    fcntl = pytest.importorskip("fcntl")
    path, locked = tmp_path / "lock", fcntl.flock

    def flock(file: int, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        locked(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = Lock(path, wait=True)
    assert path.exists()
    with pytest.raises(OutputError, match="another process"):
        Lock(path)
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="removes no open file")
def test_a_folder_that_is_removed_while_one_waits(tmp_path: Path) -> None:
    """As the process does that makes one file of what all made."""
    folder = tmp_path / "parts"
    folder.mkdir()
    with holder(folder / "lock") as other:

        def done() -> None:
            shutil.rmtree(folder)
            other.kill()

        threading.Timer(0.3, done).start()
        with pytest.raises(OutputError, match="cannot write"):
            Lock(folder / "lock", wait=True)
    assert not folder.exists()


class TestFolder:
    def test_one_process_a_share(self, tmp_path: Path) -> None:
        folder = tmp_path / "new/out"
        with locked_folder(folder, (0, 2)) as first, locked_folder(folder, (1, 2)) as second:
            assert (first, second) == ("-1-of-2", "-2-of-2")
            with pytest.raises(OutputError, match="another process"), locked_folder(folder, (1, 2)):
                pass
        assert not folder.exists()

    def test_what_killed_processes_left_goes(self, tmp_path: Path) -> None:
        left, mine = tmp_path / ".a.npy.01234567.tmp", tmp_path / ".b.tmp"
        left.touch()
        mine.touch()
        with locked_folder(tmp_path, (0, 2)):
            assert left.exists()
        with locked_folder(tmp_path) as label:
            assert label == ""
            assert not left.exists()
        assert list(tmp_path.iterdir()) == [mine]

    def test_it_is_removed_midway(self, tmp_path: Path) -> None:
        folder = tmp_path / "out"
        with pytest.raises(OutputError, match="was removed while it was being written"), locked_folder(folder):
            shutil.rmtree(folder)
        make_folder(folder)
        with locked_folder(folder):
            pass
        assert not folder.exists()
