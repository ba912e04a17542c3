from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tokenizer import search
from tokenizer.search import largest_product, nearest, nearest_several


def brute_force(z: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return torch.cdist(z.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist")


@pytest.mark.parametrize(
    ("rows", "codes", "dim", "offset"), [(1, 1, 1, 0), (513, 700, 3, 0), (100, 5000, 64, 0), (300, 50, 8, 1e4)]
)
def test_same_as_float64_brute_force(rows: int, codes: int, dim: int, offset: float) -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(rows, dim) + offset, torch.randn(codes, dim) + offset
    distances = brute_force(z, codebook)
    found = nearest(z, codebook)
    best = distances.amin(dim=1)
    chosen = distances.gather(1, found[:, None])[:, 0]
    # A float32 score of size s carries an error of some s * 2^-24 * dim; squared distances here are below 4 dim.
    assert ((chosen.square() - best.square()) <= 8 * dim * dim * 2**-24 * max(1, offset * 1e-2)).all()
    assert (found == distances.argmin(dim=1)).float().mean() > 0.99


def test_lowest_index_among_equal_codes() -> None:
    codebook = torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert nearest(torch.tensor([[0.9, 0.1], [-0.7, 0.0]]), codebook).tolist() == [1, 3]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(1000, 16), torch.randn(300, 16)
    whole = nearest(z, codebook)
    monkeypatch.setitem(search._BLOCK_SCORES, "cpu", 300 * 7)
    assert torch.equal(nearest(z, codebook), whole)


def test_no_latents() -> None:
    found = nearest(torch.zeros(0, 4), torch.zeros(3, 4))
    assert found.shape == (0,)
    assert found.dtype == torch.int64


def test_half_precision_inputs_are_searched_in_float32() -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(200, 8).bfloat16(), torch.randn(100, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest(z, codebook)
    assert torch.equal(found, nearest(z.float(), codebook.float()))


@pytest.mark.parametrize(("rows", "codes", "dim", "count"), [(1, 1, 1, 1), (200, 300, 5, 7), (50, 9, 3, 9)])
def test_nearest_several_are_those_of_float64_brute_force_nearest_first(
    rows: int, codes: int, dim: int, count: int
) -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(rows, dim), torch.randn(codes, dim)
    distances = brute_force(z, codebook)
    found = nearest_several(z, codebook, count)
    assert found.shape == (rows, count)
    assert found.dtype == torch.int64
    reached = distances.gather(1, found)
    torch.testing.assert_close(reached, distances.sort(dim=1).values[:, :count], rtol=0, atol=1e-5)
    assert torch.equal(found.sort(dim=1).values.diff(dim=1) > 0, torch.ones(rows, count - 1, dtype=torch.bool))
    assert (found[:, 0] == nearest(z, codebook)).all()


def test_nearest_several_take_all_of_equal_codes() -> None:
    codebook = torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    assert sorted(nearest_several(torch.tensor([[0.9, 0.1]]), codebook, 3)[0].tolist()) == [1, 2, 4]


@pytest.mark.parametrize(("rows", "codes", "dim"), [(1, 1, 1), (513, 700, 3), (100, 2000, 64)])
def test_largest_product_is_that_of_float64_brute_force(rows: int, codes: int, dim: int) -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(rows, dim), torch.randn(codes, dim)
    products = z.double() @ codebook.double().T
    found = largest_product(z, codebook)
    torch.testing.assert_close(products.gather(1, found[:, None])[:, 0], products.amax(dim=1), rtol=1e-5, atol=1e-5)
    assert (found == products.argmax(dim=1)).float().mean() > 0.99


def test_largest_product_is_the_lowest_index_of_equals_and_not_the_nearest() -> None:
    codebook = torch.tensor([[0.9, 0.9], [4.0, 4.0], [5.0, 3.0], [4.0, 4.0]])
    assert largest_product(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), codebook).tolist() == [1, 0]


@pytest.mark.parametrize("search_for", [lambda z, c: nearest_several(z, c, 4), largest_product])
def test_blocks_and_half_precision_change_nothing(
    search_for: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    z, codebook = torch.randn(1000, 16).bfloat16(), torch.randn(300, 16).bfloat16()
    whole = search_for(z.float(), codebook.float())
    monkeypatch.setitem(search._BLOCK_SCORES, "cpu", 300 * 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(search_for(z, codebook), whole)
    assert len(search_for(z[:0], codebook)) == 0
