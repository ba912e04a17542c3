"""What stops a command midway: errors of the system, full disks, signals, other processes; and what going on makes."""

from __future__ import annotations

import errno
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from robustness.calls import Call, Ended, Limit, Raises
from tests.cli.conftest import Vqtok
from tests.cli.test_train import TINY, stop_at, weights
from tokenizer.files import Lock

pytestmark = pytest.mark.slow

ENCODE = ("encode", "photos", "-m", "run", "-b", "2")
COMMANDS: dict[str, tuple[Sequence[str], str]] = {
    "train": (("train", "photos", "-c", "tiny.toml", "--steps", "6", "-o", "out/run"), "--resume"),
    "file": ((*ENCODE, "-o", "out/t.npy", "--image-size", "64"), "--resume"),
    "tar": ((*ENCODE, "-o", "out/t.tar"), "--resume"),
    "tree": ((*ENCODE, "-o", "out/tree"), "--resume"),
    "shards": ((*ENCODE, "-o", "out/shards", "--shard-size", "10"), "--resume"),
    "decode": (("decode", "t.npy", "-m", "run", "-b", "2", "-o", "out/back"), "--resume"),
    "sheet": (("decode", "t.npy", "-m", "run", "--contact-sheet", "-o", "out/sheet.png"), "-f"),
    "report": (("report", "t.npy", "-m", "run", "--html", "out/r.html", "--csv", "out/r.csv"), "-f"),
}
# Of a run and a page, clocks are part.
NOT_THE_SAME = re.compile(r"metrics\.jsonl|config\.json|states/|\.html$|\.tmp$|\.lock")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, photos: Path, run: Path) -> Path:
    """A folder with all that the commands read."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "photos").symlink_to(photos)
    (folder / "run").symlink_to(run)
    (folder / "tiny.toml").write_text(f"eval_every = 2\n{TINY}")
    np.save(folder / "t.npy", np.random.default_rng(0).integers(0, 32, (24, 8, 8)).astype(np.uint8))
    return folder


@pytest.fixture
def here(given: Path, tmp_path: Path) -> Path:
    """A folder with all that the commands read, and an empty one for what they write."""
    for path in given.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "out").mkdir()
    return tmp_path


def made(folder: Path) -> dict[str, bytes]:
    """The files below a folder whose bytes are promised."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not NOT_THE_SAME.search(name)}


@pytest.fixture(scope="module")
def whole(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """What an undisturbed run of a command makes."""
    known: dict[str, dict[str, bytes]] = {}

    def make(name: str) -> dict[str, bytes]:
        if name not in known:
            folder = tmp_path_factory.mktemp("whole")
            for path in given.iterdir():
                (folder / path.name).symlink_to(path)
            (folder / "out").mkdir()
            ended = Call(COMMANDS[name][0], folder).end()
            assert ended.code == 0, ended.err
            known[name] = made(folder / "out")
        return known[name]

    return make


def go_on(name: str, here: Path, wanted: dict[str, bytes]) -> None:
    """Run a command once more, and look whether its result is that of an undisturbed run."""
    words, again = COMMANDS[name]
    ended = Call([*words, again], here).end()
    if "no training to resume" in ended.err:  # it died before it first saved
        ended = Call([*words, "-f"], here).end()
    assert ended.code == 0, ended.err
    assert made(here / "out") == wanted
    if name not in ("sheet", "report"):
        assert not list((here / "out").rglob("*.tmp"))


def check_failed(ended: Ended, name: str, number: int) -> None:
    """Look whether a command said in one line that it failed, and why."""
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    (line,) = ended.lines
    assert line.startswith(f"vqtok {COMMANDS[name][0][0]}: error: ")
    assert line.endswith(f": {os.strerror(number)}")


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_of_the_system(here: Path, whole: Callable[[str], dict[str, bytes]], name: str, number: int) -> None:
    """At some file: what was there is whole, what was not is not, and going on ends as if nothing had been."""
    wanted = whole(name)
    count = {errno.EIO: 3, errno.EDQUOT: 8}[number]
    ended = Call(COMMANDS[name][0], here, Raises(str(here / "out"), count, number)).end()
    if ended.code:
        check_failed(ended, name, number)
        found = made(here / "out")
        assert all(found[file] == wanted[file] for file in found.keys() & wanted.keys() if name != "train")
    go_on(name, here, wanted)


@pytest.mark.parametrize("name", ["file", "decode", "train"])
def test_too_few_open_files(here: Path, name: str) -> None:
    ended = Call(COMMANDS[name][0], here, Limit(resource.RLIMIT_NOFILE, 4)).end()
    assert ended.code == 1
    assert "Traceback" not in ended.err
    (line,) = ended.lines
    assert "oo many open files" in line


@pytest.mark.parametrize("name", ["file", "decode", "train"])
def test_out_of_memory(here: Path, name: str) -> None:
    words = [*COMMANDS[name][0], *(["--image-size", "2048"] if name == "train" else [])]
    if name == "file":
        words[words.index("64")] = "4096"
    np.save(here / "large.npy", np.zeros((1, 3000, 3000), np.uint8))
    words = ["large.npy" if word == "t.npy" else word for word in words]
    # A large piece has to be what is refused: where a small one is, native libraries end the process themselves.
    ended = Call(words, here, Limit(resource.RLIMIT_AS, 300 if name == "decode" else 60)).end()
    assert ended.code == 1
    assert "Traceback" not in ended.err
    (line,) = ended.lines
    assert "out of memory" in line or line.endswith("it needs more memory than there is")
    assert made(here / "out").keys() <= {"run/validation.txt"}


@pytest.fixture
def mounted(here: Path) -> Iterator[Callable[..., None]]:
    """Mount a file system in memory on `out`, with options, or change its options."""

    def mount(options: str) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", here / "out"], capture_output=True)
        if done.returncode:
            pytest.skip("only root may mount")

    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    yield mount
    subprocess.run(["umount", here / "out"], capture_output=True)


@pytest.mark.parametrize("name", ["train", "file", "tree", "decode"])
def test_a_full_file_system(
    here: Path, mounted: Callable[[str], None], whole: Callable[[str], dict[str, bytes]], name: str
) -> None:
    """`test_full_disk` of each command, and `test_an_error_of_the_system`, do it without root."""
    wanted = whole(name)
    mounted(f"nr_blocks={2 if name == 'file' else 12}")
    check_failed(Call(COMMANDS[name][0], here).end(), name, errno.ENOSPC)
    mounted("remount,nr_blocks=100000")
    go_on(name, here, wanted)


def test_a_file_system_that_is_read_only(here: Path, mounted: Callable[[str], None]) -> None:
    mounted("ro")
    for name in ("train", "file", "tree", "shards", "decode", "sheet", "report"):
        ended = Call(COMMANDS[name][0], here).end()
        assert ended.code == 1, ended.err
        assert [line for line in ended.err.splitlines() if "warning" not in line] == ended.lines
        assert "cannot write out/" in ended.lines[0]


@pytest.mark.parametrize("name", ["tree", "shards", "decode", "file"])
def test_the_output_is_removed_midway(here: Path, whole: Callable[[str], dict[str, bytes]], name: str) -> None:
    wanted = whole(name)
    ended = Call(COMMANDS[name][0], here, partial(remove_after, here / "out", 12)).end()
    assert (ended.code, "Traceback" in ended.err) == (1, False)
    (line,) = ended.lines
    assert "was removed while it was being written" in line or line.endswith("No such file or directory")
    (here / "out").mkdir(exist_ok=True)
    go_on(name, here, wanted)


def remove_after(folder: Path, count: int) -> None:
    """Remove a folder once that many files were flushed to disk."""
    flush, flushed = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal flushed
        flush(descriptor)
        flushed += 1
        if flushed == count or (flushed < count and (folder / "t.npy.partial").exists()):
            gone = folder.rename(folder.with_name("gone"))  # at once, whatever other threads make in it meanwhile
            shutil.rmtree(gone)

    os.fsync = fsync


@pytest.mark.parametrize("name", ["decode", "shards", "sheet"])
def test_killed(here: Path, whole: Callable[[str], dict[str, bytes]], name: str) -> None:
    """In the middle of a file: nothing half is there under its name, and what it left goes."""
    wanted = whole(name)
    call = Call(COMMANDS[name][0], here, partial(kill_at, 5 if name != "sheet" else 1))
    assert call.end().code == -signal.SIGKILL
    found = made(here / "out")
    assert list((here / "out").rglob("*.tmp"))
    assert all(found[file] == wanted[file] for file in found.keys() & wanted.keys())
    go_on(name, here, wanted)


def kill_at(count: int) -> None:
    """Kill this process when a file is flushed to disk for that time."""
    flush, flushed = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal flushed
        flushed += 1
        if flushed == count:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(descriptor)

    os.fsync = fsync


def test_a_closed_terminal_saves_a_run(
    vqtok: Vqtok, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    words, again = COMMANDS["train"]
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGHUP)
        stopped = vqtok(*words)
    assert (stopped.code, stopped.out) == (129, b"")
    again_typed = shlex.join(["vqtok", "train", "--resume", *map(str, words[1:])])
    assert stopped.err.endswith(f"everything is saved. To go on: {again_typed}\n")
    assert vqtok(*words, again).code == 0
    assert vqtok(*words[:-1], "whole").code == 0
    one, other = weights(here / "whole"), weights(here / "out/run")
    assert all(np.array_equal(one[name], other[name]) for name in one)


LOCKS = {
    "train": "run/.lock",
    "file": "t.npy.partial/lock",
    "tar": "t.tar.partial/lock",
    "tree": "tree/.lock",
    "shards": "shards/.lock",
    "decode": "back/.lock",
}


@pytest.mark.parametrize("name", LOCKS)
def test_two_processes(vqtok: Vqtok, here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The second is refused in one line, and touches nothing; the lock of one that died is in nobody's way."""
    monkeypatch.chdir(here)
    path = here / "out" / LOCKS[name]
    path.parent.mkdir()
    (path.parent / ".x.00001111.tmp").write_text("of the first")
    lock = Lock(path)
    words = [*COMMANDS[name][0], "-f", "-q"]
    result = vqtok(*words)
    assert result.code == 1
    assert result.error.endswith(
        f"out/{Path(LOCKS[name]).parent} is being written by another process: wait for it, or stop it"
    )
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([path.name, ".x.00001111.tmp"])
    lock.release()
    assert vqtok(*words).code == 0
    assert not path.exists()
    assert not list((here / "out").rglob("*.tmp"))


def test_two_comparisons(vqtok: Vqtok, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (here / "out/cmp").mkdir()
    lock = Lock(here / "out/cmp/.lock")
    tiny = (here / "tiny.toml").read_text().partition("[quantizer]")[0]
    (here / "small.toml").write_text(tiny)
    words = ["compare", "photos", "-o", "out/cmp", "-c", "small.toml", "--quantizers", "fsq", "--steps", 2, "-q", "-f"]
    result = vqtok(*words)
    assert (result.code, result.out) == (1, b"")
    assert result.err.endswith("error: out/cmp is being written by another process: wait for it, or stop it\n")
    lock.release()
    assert vqtok(*words).code == 0
    assert not (here / "out/cmp/.lock").exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a memory object"),
        ImportError("libtorch.so: failed to map segment from shared object"),
    ],
)
def test_memory_is_short_anywhere(vqtok: Vqtok, here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tokenizer.tokens.open_token_files", fail)
    result = vqtok("info", here / "t.npy")
    assert (result.code, result.error) == (1, "vqtok info: error: out of memory")
