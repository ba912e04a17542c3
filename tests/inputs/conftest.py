"""Shared by the tests of what names images."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tokenizer.inputs import archives, gathering, size_limit, urls


@pytest.fixture
def max_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets how many bytes an image may have."""

    def limit(count: int) -> None:
        for module in (archives, gathering, size_limit, urls):
            monkeypatch.setattr(module, "MAX_BYTES", count)

    return limit
