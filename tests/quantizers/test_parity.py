"""`diveq` and `diveq-detach` against the authors' package: same latents, codebook and noise."""

from __future__ import annotations

import pytest
import torch
from diveq import DIVEQ, DIVEQDetach

from tokenizer.quantizers import CodebookQuantizer
from tokenizer.quantizers.diveq import DiVeQ, DiVeQDetach


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (DIVEQ(40, 8, noise_var=0.05, allow_warning=False, verbose=False), DiVeQ(8, codebook_size=40, noise_std=0.05)),
        (DIVEQDetach(40, 8, allow_warning=False, verbose=False), DiVeQDetach(8, codebook_size=40)),
    ],
)
def test_outputs_tokens_and_gradients(theirs: torch.nn.Module, ours: CodebookQuantizer) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        theirs.codebook.copy_(torch.randn(40, 8))
        ours.table.weight.copy_(theirs.codebook)
    first = torch.randn(300, 8, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    g = torch.randn(300, 8)

    torch.manual_seed(1)
    vectors, tokens, _ = theirs.train()(first)
    torch.manual_seed(1)
    result = ours.train()(second)
    assert torch.equal(result.tokens[:, 0], tokens)
    torch.testing.assert_close(result.vectors, vectors)
    vectors.backward(g)
    result.vectors.backward(g)
    torch.testing.assert_close(second.grad, first.grad)
    torch.testing.assert_close(ours.table.weight.grad, theirs.codebook.grad)

    hard, tokens, _ = theirs.inference(first)
    result = ours.eval()(second)
    assert torch.equal(result.tokens[:, 0], tokens)
    assert torch.equal(result.vectors, hard)
