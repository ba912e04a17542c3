"""The share of one process."""

from __future__ import annotations

import pytest

from cli.sharing import share
from tokenizer.errors import UsageError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchrun outside."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("option", "wanted"), [(None, (0, 1)), ("1/1", (0, 1)), ("3/16", (2, 16)), ("16/16", (15, 16))]
)
def test_option(option: str | None, wanted: tuple[int, int]) -> None:
    assert share(option) == wanted


@pytest.mark.parametrize("option", ["", "0/4", "5/4", "1", "1/", "/4", "-1/4", "1/4/4", "a/b", "1.0/4", "²/4", "1/0"])
def test_wrong_option(option: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        share(option)


def test_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert share(None) == (2, 4)
    with pytest.raises(UsageError, match="--shard 1/2 and torchrun both share the work"):
        share("1/2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert (share(None), share("2/2")) == ((0, 1), (1, 2))


@pytest.mark.parametrize(("rank", "ranks"), [("4", "4"), ("x", "4"), ("0", ""), ("-1", "2"), ("0", "0")])
def test_damaged_environment(monkeypatch: pytest.MonkeyPatch, rank: str, ranks: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", ranks)
    with pytest.raises(UsageError, match="are no share of the work: unset them"):
        share(None)
