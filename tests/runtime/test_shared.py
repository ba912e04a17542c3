from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from tokenizer.quantizers.search.precision import full_precision
from tokenizer.runtime import SharedContext


def test_the_first_enters_and_the_last_leaves() -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def noted() -> Iterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    shared = SharedContext(noted)
    for _ in range(2):
        first, second = contextlib.ExitStack(), contextlib.ExitStack()
        first.enter_context(shared)
        second.enter_context(shared)
        first.close()  # not the other way around: threads end in any order
        assert seen == ["in"]
        second.close()
        assert seen == ["in", "out"]
        seen.clear()


def test_it_is_left_when_something_fails() -> None:
    seen: list[str] = []
    stack = contextlib.ExitStack()
    stack.callback(seen.append, "out")
    with pytest.raises(ValueError, match="no"), SharedContext(lambda: stack):
        raise ValueError("no")
    assert seen == ["out"]


def test_products_stay_exact_until_the_last_search_ends() -> None:
    def allowed() -> str:
        switch = getattr(torch.backends.mkldnn, "matmul", None)  # from torch 2.9 on
        return getattr(switch, "fp32_precision", torch.get_float32_matmul_precision())

    torch.set_float32_matmul_precision("medium")
    try:
        before = allowed()
        first, second = contextlib.ExitStack(), contextlib.ExitStack()
        first.enter_context(full_precision("cpu"))
        second.enter_context(full_precision("cpu"))
        assert allowed() in ("ieee", "highest")
        first.close()
        assert allowed() in ("ieee", "highest")
        second.close()
        assert allowed() == before
    finally:
        torch.set_float32_matmul_precision("highest")
