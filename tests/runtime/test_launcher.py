"""What the environment says of the processes that one command started."""

from __future__ import annotations

import pytest

from tokenizer.errors import UsageError
from tokenizer.runtime import Launch, choose_share, launch

VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_RUN_ID",
    "MASTER_ADDR",
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No launcher's variables."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone(environment: pytest.MonkeyPatch) -> None:
    assert launch() == Launch(0, 1, None, 0, under_torchrun=False, has_address=False)
    assert launch().share == (0, 1)


def test_under_torchrun(environment: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("5", "8", "1", "2", "none", "localhost"), strict=True):
        environment.setenv(name, value)
    assert launch() == Launch(5, 8, 1, 2, under_torchrun=True, has_address=True)
    assert launch().share == (5, 8)


def test_shares_without_a_launcher(environment: pytest.MonkeyPatch) -> None:
    """As a batch system sets them, of processes that never meet."""
    environment.setenv("RANK", "2")
    environment.setenv("WORLD_SIZE", "3")
    assert launch() == Launch(2, 3)


@pytest.mark.parametrize(
    ("rank", "world_size"),
    [
        ("x", "2"),
        ("", "2"),
        ("-1", "2"),
        ("2", "2"),
        ("0", ""),
        ("0", "0"),
        ("0", "²"),
        ("1.0", "2"),
        ("0", "9" * 5000),
    ],
)
def test_shares_that_make_no_sense(environment: pytest.MonkeyPatch, rank: str, world_size: str) -> None:
    environment.setenv("RANK", rank)
    environment.setenv("WORLD_SIZE", world_size)
    with pytest.raises(UsageError, match=r"^RANK=.* and WORLD_SIZE=.* are no share of the work: unset them$"):
        launch()


def test_a_rank_without_a_number_of_processes(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RANK", "1")
    with pytest.raises(UsageError, match=r"^RANK=1 and WORLD_SIZE=1 "):
        launch()


@pytest.mark.parametrize("name", ["LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"])
@pytest.mark.parametrize("value", ["x", "", "-1"])
def test_other_numbers_that_make_no_sense(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(UsageError, match=f"^{name}={value} in the environment is no number from 0: unset it$"):
        launch()


@pytest.mark.parametrize(
    ("option", "wanted"), [(None, (0, 1)), ("1/1", (0, 1)), ("3/16", (2, 16)), ("16/16", (15, 16))]
)
def test_share_of_an_option(environment: pytest.MonkeyPatch, option: str | None, wanted: tuple[int, int]) -> None:
    assert choose_share(option) == wanted


@pytest.mark.parametrize("option", ["", "0/4", "5/4", "1", "1/", "/4", "-1/4", "1/4/4", "a/b", "1.0/4", "²/4", "1/0"])
def test_options_that_make_no_sense(environment: pytest.MonkeyPatch, option: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        choose_share(option)


def test_share_under_torchrun(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RANK", "2")
    environment.setenv("WORLD_SIZE", "4")
    assert choose_share(None) == (2, 4)
    with pytest.raises(UsageError, match="--shard 1/2 and torchrun both share the work"):
        choose_share("1/2")
    environment.setenv("RANK", "0")
    environment.setenv("WORLD_SIZE", "1")
    assert (choose_share(None), choose_share("2/2")) == ((0, 1), (1, 2))


@pytest.mark.parametrize(("rank", "ranks"), [("4", "4"), ("x", "4"), ("0", ""), ("-1", "2"), ("0", "0")])
def test_no_share_of_a_damaged_environment(environment: pytest.MonkeyPatch, rank: str, ranks: str) -> None:
    environment.setenv("RANK", rank)
    environment.setenv("WORLD_SIZE", ranks)
    with pytest.raises(UsageError, match="are no share of the work: unset them"):
        choose_share(None)
