"""The search that can be exported, against the one that runs."""

from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers.search import largest_product, nearest
from tokenizer.quantizers.search.graph import scan_graph


@pytest.mark.parametrize("count", [1, 5, 16, 17, 4096, 4097, 9000])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_answers_are_the_same(count: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(count)
    codes = torch.randn(count, 4, generator=generator) + offset
    codes[count // 2 :] = codes[: count - count // 2].clone()  # each twice: the lower one wins
    z = torch.randn(500, 4, generator=generator) + offset
    assert torch.equal(scan_graph(z, codes, by_distance=True), nearest(z, codes))
    assert torch.equal(scan_graph(z, codes, by_distance=False), largest_product(z, codes))


def test_float64_decides() -> None:
    # The middle of two codes, but for a hair that float32 scores do not see.
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    codes = torch.tensor([[1.0, 1.0], [1.0, -1.0 + 2.0**-24]])
    assert nearest(z, codes).tolist() == [1, 1]
    assert scan_graph(z, codes, by_distance=True).tolist() == [1, 1]


def test_a_program_searches_without_branches() -> None:
    class Search(torch.nn.Module):
        def forward(self, z: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return nearest(z, codes), largest_product(z, codes)

    generator = torch.Generator().manual_seed(0)
    z, codes = torch.randn(7, 4, generator=generator), torch.randn(40, 4, generator=generator)
    shapes = ({0: torch.export.Dim("latents", max=2**40)}, None)
    program = torch.export.export(Search(), (z, codes), dynamic_shapes=shapes, strict=False)
    more = torch.randn(300, 4, generator=generator)
    by_distance, by_product = program.module()(more, codes)
    assert torch.equal(by_distance, nearest(more, codes))
    assert torch.equal(by_product, largest_product(more, codes))
