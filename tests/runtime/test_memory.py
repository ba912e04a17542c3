"""The most memory held, as the system tells it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tokenizer.runtime import memory


def test_peak_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  204800 kB\nVmRSS:\t 100 kB\n")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "clear")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert memory.PeakMemory(cpu).megabytes == 200
    assert (tmp_path / "clear").read_text() == "5"
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "clear")
    assert memory.PeakMemory(cpu).megabytes is None, "what earlier entries took would stand there"
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "clear")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    assert memory.PeakMemory(cpu).megabytes is None
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("resource.getrusage", lambda _: SimpleNamespace(ru_maxrss=3 * 2**20))
    assert memory.PeakMemory(cpu).megabytes == 3
