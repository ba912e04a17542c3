from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers.search.precision import full_precision


class Old:
    """A back end from before torch 2.9."""


@pytest.mark.parametrize("old", [True, False])
def test_products_are_exact_inside_and_as_before_outside(old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(600, 64), torch.randn(64, 600)
    exact = a @ b
    if old:
        monkeypatch.setattr(torch.backends, "mkldnn", Old())
    torch.set_float32_matmul_precision("medium")
    try:
        coarse = a @ b  # the same where the processor has no bfloat16
        with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
            assert (a @ b).dtype == torch.float32
            assert torch.equal(a @ b, exact)
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.equal(a @ b, coarse)
    finally:
        torch.set_float32_matmul_precision("highest")
