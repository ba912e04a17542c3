"""Where a command runs: terminals, streams that nobody takes, umask, clocks, names, the environment."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path
from typing import TextIO

import matplotlib as mpl
import pytest
from packaging.version import Version

from cli.console import Lenient
from robustness.calls import Call
from tests.cli.conftest import Vqtok, environment
from tests.cli.test_train import TINY

pytestmark = pytest.mark.slow


@pytest.fixture
def words(photos: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[object]]:
    """The words of some commands, in a working directory of their own; they make `run`, `t.npy` and `back`."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    return {
        "train": ["train", photos, "-o", "run", "-c", "tiny.toml", "--steps", 6],
        "encode": ["encode", photos, "-m", run, "-o", "t.npy", "--image-size", 64],
        "decode": ["decode", "t.npy", "-m", run, "-o", "back"],
    }


def test_a_stream_that_was_closed_before_what_wraps_it() -> None:
    """As when both are collected: Python 3.13 tells of what fails then."""
    stream = io.StringIO()
    wrapped = Lenient(stream)
    stream.close()
    wrapped.close()
    assert wrapped.closed


def broken_stream(kind: str) -> TextIO:
    """Return a stream that fails: its disk is full, or its reader gone."""
    if kind == "full":
        return os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.parametrize("broken", ["full", "reader gone"])
def test_nobody_takes_the_messages(
    vqtok: Vqtok, words: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The work is done all the same, and the exit code says how it went."""
    for name, done in (("train", "run/model.safetensors"), ("encode", "t.npy"), ("decode", "back/a/00.png")):
        with broken_stream(broken) as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            assert vqtok(*words[name]).code == 0
            assert vqtok(*words[name]).code == 1  # it is there already
        assert Path(done).exists()


def attach(name: str) -> None:
    """Make a terminal stderr."""
    terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
    os.dup2(terminal, 2)
    os.close(terminal)


def drained(outer: int) -> bytes:
    """Return all that is written to a terminal, for as long as somebody has it open."""
    seen = b""
    with contextlib.suppress(OSError):
        while data := os.read(outer, 2**16):
            seen += data
    return seen


@pytest.mark.parametrize("columns", [80, 20, 0])
def test_narrow_terminals(words: dict[str, list[object]], tmp_path: Path, columns: int) -> None:
    outer, inner = os.openpty()
    termios.tcsetwinsize(inner, (24, columns))
    call = Call(words["train"], tmp_path, partial(attach, os.ttyname(inner)))
    seen = os.read(outer, 100)
    os.close(inner)  # now that the other process has it
    seen += drained(outer)
    os.close(outer)
    ended = call.end()
    assert (ended.code, ended.out) == (0, b"")
    assert b"Traceback" not in seen
    assert (tmp_path / "run/model.safetensors").is_file()


def test_a_terminal_that_goes_away(words: dict[str, list[object]], tmp_path: Path) -> None:
    """As after `disown`, when its window is closed."""
    outer, inner = os.openpty()
    words["train"][-1] = 40
    call = Call(words["train"], tmp_path, partial(attach, os.ttyname(inner)))
    assert os.read(outer, 100)
    os.close(inner)
    os.close(outer)
    assert call.end().code == 0
    assert (tmp_path / "run/model.safetensors").is_file()


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_modes_are_those_of_the_umask(
    vqtok: Vqtok, words: dict[str, list[object]], mask: int, file: int, folder: int
) -> None:
    words["tree"] = [*words["encode"][:5], "tree"]
    before = os.umask(mask)
    try:
        for call in words.values():
            assert vqtok(*call).code == 0
    finally:
        os.umask(before)
    made = [
        path
        for name in ("run", "t.npy", "t.npy.jsonl", "back", "tree")
        for path in (Path(name), *Path(name).rglob("*"))
    ]
    assert len(made) > 60
    for path in made:
        assert path.stat().st_mode & 0o777 == (folder if path.is_dir() else file), path


def test_a_clock_that_is_set_back(
    vqtok: Vqtok, words: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    """A budget in minutes is kept, and files of tomorrow are files."""
    hours = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600 * next(hours))
    result = vqtok("train", *words["train"][1:-2], "--minutes", 0.01, "--json")
    assert result.code == 0
    assert 0.5 < result.json["seconds"] < 30
    assert vqtok(*words["encode"]).code == 0
    for path in Path().glob("t.npy*"):
        os.utime(path, (2e9 * 2, 2e9 * 2))
    assert vqtok(*words["encode"], "--resume").code == 0
    assert vqtok(*words["decode"]).code == 0


def test_names_that_are_no_utf_8(vqtok: Vqtok, words: dict[str, list[object]]) -> None:
    """Of checkpoints, their states, and all that is written."""
    run = os.fsdecode(b"r\xff\n [x]")
    words["train"][3] = run
    assert vqtok(*words["train"], "-q").code == 0
    again = [word for word in words["train"] if word not in ("--steps", 6)]
    assert vqtok(*again, "--resume").code == 0
    assert vqtok(*words["train"][:3], "new", *words["train"][4:], "--init-from", run).code == 0
    tokens = os.fsdecode(b"t\xff.safetensors")
    assert vqtok(*words["encode"][:2], "-m", run, "-o", tokens).code == 0
    assert vqtok("decode", tokens, "-m", run, "-o", os.fsdecode(b"d\xff")).code == 0
    assert len(list(Path(os.fsdecode(b"d\xff")).rglob("*.png"))) == 24


SCRIPT = """
mkdir gone && cd gone && rmdir ../gone
vqtok encode ../photos -m "$RUN" -o t.npy 2> "$W/gone.txt"; test $? = 1 || exit 1
cd "$W" && mkdir é && cp "$PHOTO" é/é.png
export LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii TMPDIR=/nowhere PYTHONOPTIMIZE=2
export HOME=/proc/nowhere XDG_CACHE_HOME=/proc/nowhere MPLCONFIGDIR=/proc/nowhere CUDA_VISIBLE_DEVICES=-1,x
vqtok encode é -m "$RUN" -o é.safetensors -q || exit 1
PYTHONWARNINGS=$WARNINGS vqtok report é.safetensors -m "$RUN" --images é --html é.html > report.txt
"""


def test_surroundings_of_a_daemon(tmp_path: Path, run: Path, photos: Path) -> None:
    """No home, no place for temporary files, no locale, no asserts, and a working directory that was removed."""
    # Matplotlib before 3.10.8 calls what a newer pyparsing deprecates.
    old = Version(mpl.__version__) < Version("3.10.8")
    warnings = "error,ignore::DeprecationWarning" if old else "error"
    variables = environment(RUN=str(run), PHOTO=str(photos / "a/00.png"), W=str(tmp_path), WARNINGS=warnings)
    done = subprocess.run(["bash", "-c", SCRIPT], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("vqtok report: warning: 64 tokens are few")
    assert done.stderr.count("\n") == 1
    gone = (tmp_path / "gone.txt").read_text()
    assert gone == "vqtok encode: error: the working directory was removed: change to one that is there\n"
    assert "\\xe9" in (tmp_path / "report.txt").read_text() or "udc" in (tmp_path / "report.txt").read_text()
    assert (tmp_path / "é.html").is_file()


@pytest.mark.parametrize("name", ["a" * 250 + ".npy", "a" * 300])
def test_names_that_are_too_long(vqtok: Vqtok, words: dict[str, list[object]], name: str) -> None:
    words["encode"][5] = name
    result = vqtok(*words["encode"])
    assert result.code == 1
    assert result.error.endswith("File name too long")
    assert list(Path().glob("a*")) == []
