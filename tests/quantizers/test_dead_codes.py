from __future__ import annotations

import pytest
import torch

from tokenizer.quantizers import DeadCodeReplacement, build_quantizer


def quantizer(patience: int) -> torch.nn.Module:
    made = build_quantizer({"name": "diveq-detach", "codebook_size": 4, "dead_code_patience": patience}, 2)
    with torch.no_grad():
        made.table.weight.copy_(torch.tensor([[0.0, 0], [1, 0], [90, 90], [99, 99]]))
    return made.train()


def test_a_code_is_dead_after_exactly_patience_steps_without_a_latent() -> None:
    made = quantizer(patience=3)
    z = torch.tensor([[0.1, 0], [0.9, 0], [1.1, 0.2]])
    for _ in range(2):
        made(z)
        (change,) = made.replace_dead_codes()
        assert not change.rows.any()
    made(torch.cat([z, torch.tensor([[91.0, 90]])]))  # the third code is chosen, the fourth is not
    (change,) = made.replace_dead_codes()
    assert change.rows.tolist() == [False, False, False, True]
    assert change.parameter is made.table.weight
    assert made.table.weight[3].norm() < 150
    assert torch.equal(made.table.weight[:3], torch.tensor([[0.0, 0], [1, 0], [90, 90]]))
    made(z)
    (change,) = made.replace_dead_codes()
    assert not change.rows.any(), "a code just replaced has its patience again"


def test_dead_codes_go_where_the_error_is() -> None:
    made = quantizer(patience=1)
    z = torch.cat([torch.zeros(1000, 2), torch.full((10, 2), 40.0)])
    made(z)
    made.replace_dead_codes()
    for row in (2, 3):
        assert (made.table.weight[row] - 40).norm() < 2


def test_a_dead_code_of_a_map_is_moved_before_the_map() -> None:
    made = build_quantizer(
        {"name": "ste", "codebook_size": 3, "transform": "linear", "dead_code_patience": 1}, 2
    ).train()
    with torch.no_grad():
        made.table.map.copy_(torch.tensor([[0.0, 2.0], [-0.5, 1.0]]))
    made.table.place(torch.tensor([[0.0, 0], [90, 90], [99, 99]]))
    made(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    (change,) = made.replace_dead_codes()
    assert change.parameter is made.table.basis
    assert change.rows.tolist() == [False, True, True]
    torch.testing.assert_close(made.code_vectors()[1:], torch.tensor([[3.0, 4.0]] * 2), rtol=0, atol=0.1)


def test_latents_are_noted_as_the_codes_see_them() -> None:
    made = build_quantizer(
        {"name": "ste", "codebook_size": 3, "normalize": "sphere", "dead_code_patience": 1}, 2
    ).train()
    made.table.place(torch.tensor([[1.0, 0], [-1, -0.1], [-1, -0.2]]))
    made(torch.tensor([[50.0, 0.0], [0.0, 70.0]]))  # both choose the first code; the second is badly served
    made.replace_dead_codes()
    torch.testing.assert_close(made.code_vectors()[1:], torch.tensor([[0.0, 1.0]] * 2), rtol=0, atol=0.05)


def test_zero_patience_turns_it_off() -> None:
    made = quantizer(patience=0)
    made(torch.zeros(5, 2))
    assert made.replace_dead_codes() == []
    with pytest.raises(ValueError, match="dead_code_patience is -1"):
        DeadCodeReplacement(4, -1)


def test_evaluation_is_not_observed() -> None:
    made = quantizer(patience=1).eval()
    made(torch.zeros(5, 2))
    assert made.replace_dead_codes() == []
    assert made.dead_codes.idle_steps.tolist() == [0, 0, 0, 0]


def test_counts_are_not_part_of_a_checkpoint() -> None:
    assert list(quantizer(patience=3).state_dict()) == ["table.weight"]


SCALES = [0.01, 0.1, 1.0, 10.0, 100.0]


def train(name: str, scale: float, patience: int) -> float:
    """Return the share of 32 codes, first spread `scale` times as far as the latents, in use after 80 steps."""
    torch.manual_seed(0)
    made = build_quantizer({"name": name, "codebook_size": 32, "dead_code_patience": patience}, 4).train()
    with torch.no_grad():
        made.table.weight.mul_(scale)
    learned = [parameter for parameter in made.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-2) if learned else None
    for _ in range(80):
        z = torch.randn(256, 4)
        result = made(z)
        made.zero_grad()
        if optimizer:
            ((result.vectors - z).square().mean() + result.loss).backward()
            optimizer.step()
        made.replace_dead_codes()
    return made.eval().encode(torch.randn(4096, 4)).unique().numel() / 32


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diveq", "diveq-detach", "nsvq", "ste", "ema", "rotation", "gumbel(top_k=8)"])
@pytest.mark.parametrize("scale", SCALES)
def test_usage_recovers_from_any_initial_scale(name: str, scale: float) -> None:
    """A fault of public code: dead codes that never come back."""
    assert train(name, scale, patience=5) >= 0.95


def test_without_replacement_codes_far_out_stay_dead() -> None:
    assert train("ste", 100.0, patience=0) < 0.2
