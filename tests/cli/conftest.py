"""How these tests call `vqtok`: through `main` in this process, or in a shell where the process itself matters."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
import safetensors.numpy

from cli.__main__ import main
from tokenizer.models import CONFIG_FILE, WEIGHTS_FILE

BIN = Path(sys.executable).parent

# All that a run needs to take a second, but a budget, a network and codes.
QUICK = """\
image_size = 32
batch_size = 8
precision = "float32"
device = "cpu"
workers = 0
val_images = 4
log_every = 4
"""


@dataclass(frozen=True)
class Result:
    """What one call did: exit code, the bytes on stdout, the text on stderr."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        """The one result object on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The only line on stderr, after nothing was written to stdout."""
        assert self.out == b""
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.rstrip("\n")


Vqtok = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No VQTOK_ variables from outside; signal handlers and the except hook as they were."""
    for name in [name for name in os.environ if name.startswith("VQTOK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def vqtok(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Vqtok:
    """Call `vqtok` in this process."""

    def call(*args: object, stdin: bytes | TextIO = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["vqtok", *map(str, args)])
        stream = io.TextIOWrapper(io.BytesIO(stdin)) if isinstance(stdin, bytes) else stdin
        monkeypatch.setattr(sys, "stdin", stream)
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfdbinary.readouterr()
        assert isinstance(stop.value.code, int)
        return Result(stop.value.code, out, err.decode())

    return call


@pytest.fixture
def shell(tmp_path: Path) -> Vqtok:
    """Run a script of bash, with `vqtok` on its path, in `tmp_path`."""

    def call(script: str, stdin: bytes = b"", **variables: str) -> Result:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {script}"],
            cwd=tmp_path,
            env=environment(**variables),
            input=stdin,
            capture_output=True,
            timeout=240,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    return call


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process that calls `vqtok`."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", **variables}


@pytest.fixture
def broken(run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make a copy of the checkpoint in which a function has changed the config or the weights."""

    def copy(
        config: Callable[[dict[str, Any]], object] | None = None,
        weights: Callable[[dict[str, np.ndarray]], object] | None = None,
    ) -> Path:
        folder = tmp_path / "broken"
        folder.mkdir()
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copy(run / name, folder / name)
        if config:
            values = json.loads((folder / CONFIG_FILE).read_text())
            config(values)
            (folder / CONFIG_FILE).write_text(json.dumps(values))
        if weights:
            arrays = safetensors.numpy.load_file(folder / WEIGHTS_FILE)
            weights(arrays)
            safetensors.numpy.save_file(arrays, folder / WEIGHTS_FILE)
        return folder

    return copy


@pytest.fixture
def other(broken: Callable[..., Path]) -> Path:
    """A checkpoint of the same shape with other weights."""

    def shift(arrays: dict[str, np.ndarray]) -> None:
        for name in arrays:
            arrays[name] = arrays[name] + np.asarray(0.5, arrays[name].dtype)

    return broken(weights=shift)
