"""A few hundred inputs of each target of `robustness.fuzz_files`, drawn with a seed; the long runs are done by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from robustness.fuzz_files import changed
from robustness.fuzz_targets import TARGETS


@pytest.mark.parametrize(("name", "inputs"), [("tokens", 400), ("checkpoint", 120), ("config", 250), ("manifest", 250)])
def test_nothing_but_named_errors_escapes(tmp_path: Path, name: str, inputs: int) -> None:
    target, dice = TARGETS[name](tmp_path), random.Random(7)
    for data in target.seeds:
        target.check(data)
    sound = target.tried - target.refused
    assert sound >= len(target.seeds) - 1  # one tar of tokens holds headers alone
    for _ in range(inputs):
        target.check(changed(dice, dice.choice(target.seeds)))
    assert target.refused > inputs // 3
