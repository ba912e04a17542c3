from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers import build
from tokenizer.quantizers.initialise import spread
from tokenizer.quantizers.revival import Revival


def quantizer(patience: int) -> torch.nn.Module:
    made = build({"name": "diveq-detach", "codebook_size": 4, "revival_patience": patience}, 2)
    with torch.no_grad():
        made.table.weight.copy_(torch.tensor([[0.0, 0], [1, 0], [90, 90], [99, 99]]))
    return made.train()


def test_a_code_is_dead_after_exactly_patience_steps_without_a_latent() -> None:
    made = quantizer(patience=3)
    z = torch.tensor([[0.1, 0], [0.9, 0], [1.1, 0.2]])
    for _ in range(2):
        made(z)
        (change,) = made.revive()
        assert not change.rows.any()
    made(torch.cat([z, torch.tensor([[91.0, 90]])]))  # the third code is chosen, the fourth is not
    (change,) = made.revive()
    assert change.rows.tolist() == [False, False, False, True]
    assert change.parameter is made.table.weight
    assert made.table.weight[3].norm() < 150
    assert torch.equal(made.table.weight[:3], torch.tensor([[0.0, 0], [1, 0], [90, 90]]))
    made(z)
    (change,) = made.revive()
    assert not change.rows.any(), "a code just re-seeded has its patience again"


def test_dead_codes_go_where_the_error_is() -> None:
    made = quantizer(patience=1)
    z = torch.cat([torch.zeros(1000, 2), torch.full((10, 2), 40.0)])
    made(z)
    made.revive()
    for row in (2, 3):
        assert (made.table.weight[row] - 40).norm() < 2


def test_zero_patience_turns_it_off() -> None:
    made = quantizer(patience=0)
    made(torch.zeros(5, 2))
    assert made.revive() == []
    with pytest.raises(ValueError, match="revival_patience is -1"):
        Revival(4, -1)


def test_evaluation_is_not_observed() -> None:
    made = quantizer(patience=1).eval()
    made(torch.zeros(5, 2))
    assert made.revive() == []
    assert made.revival.idle_steps.tolist() == [0, 0, 0, 0]


def test_counts_are_not_part_of_a_checkpoint() -> None:
    assert list(quantizer(patience=3).state_dict()) == ["table.weight"]


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_usage_recovers_from_any_initial_scale(scale: float) -> None:
    """METHODS.md's fault: dead codes that never come back."""
    torch.manual_seed(0)
    made = build({"name": "diveq", "codebook_size": 64, "revival_patience": 5}, 4).train()
    with torch.no_grad():
        made.table.weight.mul_(scale)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(120):
        z = torch.randn(512, 4)
        loss = (made(z).vectors - z).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.revive()
    tokens = made.eval().encode(torch.randn(8192, 4))
    assert tokens.unique().numel() >= 61


def test_spread_puts_codes_on_clusters() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    z = centres[torch.arange(3000) % 3] + 0.1 * torch.randn(3000, 2)
    codes = spread(z, 30)
    assert torch.cdist(codes, centres).amin(dim=1).max() < 0.6
    error = torch.cdist(z, codes).amin(dim=1).square().mean()
    assert error < 0.1**2 * 2 / 5, "30 codes must explain far more than 3 centres do"


def test_spread_with_fewer_latents_than_codes_gives_distinct_codes() -> None:
    torch.manual_seed(0)
    codes = spread(torch.randn(7, 3), 50)
    assert codes.shape == (50, 3)
    assert torch.isfinite(codes).all()
    assert len(codes.unique(dim=0)) == 50


def test_spread_of_equal_latents_is_finite() -> None:
    assert torch.equal(spread(torch.ones(10, 3), 4), torch.ones(4, 3))
