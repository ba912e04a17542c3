"""The table of what has to be seen on a CUDA machine, on a processor: rows, faults, time."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Row, outcomes, rows
from benchmarks.gpu_setting import Found, Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(torch.device("cpu"), None, ["photo-f8"], tmp_path, small=True)


def broken(_: Setting) -> Found:
    raise RuntimeError("no such kernel\nand much more")


def test_a_fault_does_not_stop_the_next(setting: Setting) -> None:
    wanted = [
        Row("a", "broken", "nothing", broken),
        Row("a", "wrong", "x", lambda _: Found("2 differ", passed=False)),
        Row("a", "right", "x", lambda _: Found("0 differ", passed=True)),
        Row("a", "plain", "", lambda _: Found("a | b")),
        Row("a", "elsewhere", "x", broken, needs_cuda=True),
    ]
    found = list(outcomes(wanted, setting, 60))
    assert [each.verdict for each in found] == ["FAIL", "FAIL", "pass", "-", "no CUDA"]
    assert [each.found for each in found] == ["RuntimeError: no such kernel", "2 differ", "0 differ", "a | b", ""]
    assert gpu.line(found[3]).startswith("| a | plain |  | a / b | - | ")
    assert {gpu.line(each).count("|") for each in found} == {7}


def test_no_row_begins_too_late(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=10)
    monkeypatch.setattr("benchmarks.gpu.time.monotonic", lambda: float(next(clock)))
    row = Row("a", "right", "x", lambda _: Found("", passed=True))
    # The end is at 25; rows begin at 10, and at 30.
    assert [each.verdict for each in outcomes([row, row], setting, 25)] == ["pass", "no time"]


def test_what_is_looked_at(setting: Setting) -> None:
    every = list(rows(setting))
    groups = list(dict.fromkeys(row.group for row in every))
    assert groups == ["machine", "search", "quantizers", "training", "encoding", "memory", "ranks", "commands"]
    assert len({(row.group, row.title) for row in every}) == len(every)
    assert {row.title for row in every if row.needs_cuda and row.group == "training"} == {
        "tf32",
        "float16",
        "--compile",
    }
    assert all(row.compared for row in every if row.group != "machine")


def test_search_and_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--small", "--device", "cpu", "--only", "machine", "search", "quantizers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    verdicts = [line.split(" | ")[4] for line in lines[2:9]]
    assert verdicts == ["-", "pass", "no CUDA", "no CUDA", "pass", "pass", "pass"]
    assert lines[-1].startswith("7 rows, 0 failed, ")


def test_one_that_fails_is_told_to_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "rows", lambda _: [Row("a", "broken", "x", broken)])
    assert gpu.main(["--small", "--device", "cpu"]) == 1
    assert "1 rows, 1 failed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("group", ["training", "encoding", "memory", "ranks", "commands"])
def test_every_group_on_a_processor(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--small", "--device", "cpu", "--only", group]) == 0, capsys.readouterr().out
    verdicts = {line.split(" | ")[4] for line in capsys.readouterr().out.splitlines()[2:-2]}
    assert verdicts <= {"pass", "no CUDA"}
