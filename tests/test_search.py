from __future__ import annotations

import pytest
import torch

from tokenizer import search
from tokenizer.search import nearest


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
