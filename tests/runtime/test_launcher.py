"""The share of one process in work that several do."""

from __future__ import annotations

import pytest

from tokenizer.errors import UsageError
from tokenizer.runtime import choose_share


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchrun outside."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("option", "wanted"), [(None, (0, 1)), ("1/1", (0, 1)), ("3/16", (2, 16)), ("16/16", (15, 16))]
)
def test_option(option: str | None, wanted: tuple[int, int]) -> None:
    assert choose_share(option) == wanted


@pytest.mark.parametrize("option", ["", "0/4", "5/4", "1", "1/", "/4", "-1/4", "1/4/4", "a/b", "1.0/4", "²/4", "1/0"])
def test_wrong_option(option: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        choose_share(option)


def test_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert choose_share(None) == (2, 4)
    with pytest.raises(UsageError, match="--shard 1/2 and torchrun both share the work"):
        choose_share("1/2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert (choose_share(None), choose_share("2/2")) == ((0, 1), (1, 2))


@pytest.mark.parametrize(("rank", "ranks"), [("4", "4"), ("x", "4"), ("0", ""), ("-1", "2"), ("0", "0")])
def test_damaged_environment(monkeypatch: pytest.MonkeyPatch, rank: str, ranks: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", ranks)
    with pytest.raises(UsageError, match="are no share of the work: unset them"):
        choose_share(None)
