"""What every registered quantizer must obey. A new method is tested here without another line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenizer import quantizers
from tokenizer.quantizers import METHODS, Quantizer

DIM = 6
SMALL: dict[str, Any] = {"codebook_size": 16}


@pytest.fixture(params=sorted(METHODS))
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    torch.manual_seed(1)
    made = quantizers.build({"name": request.param, **SMALL}, DIM)
    made.initialise(torch.randn(500, DIM))
    return made.eval()


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(7))


def test_shapes_and_types(quantizer: Quantizer) -> None:
    z = latents(2, 3, 5)
    tokens = quantizer.encode(z)
    assert tokens.shape == (2, 3, 5, len(quantizer.sizes))
    assert tokens.dtype == torch.int64
    vectors = quantizer.decode(tokens)
    assert vectors.shape == z.shape
    assert vectors.dtype == torch.float32


def test_tokens_are_in_range_and_not_all_alike(quantizer: Quantizer) -> None:
    tokens = quantizer.encode(3 * latents(400))
    for slot, size in enumerate(quantizer.sizes):
        assert tokens[:, slot].min() >= 0
        assert tokens[:, slot].max() < size
        assert tokens[:, slot].unique().numel() > 1


def test_evaluation_is_decode_of_encode(quantizer: Quantizer) -> None:
    z = latents(50)
    result = quantizer(z)
    assert torch.equal(result.tokens, quantizer.encode(z))
    assert torch.equal(result.vectors, quantizer.decode(quantizer.encode(z)))
    assert result.loss.shape == ()
    assert result.loss == 0


def test_evaluation_changes_no_state_and_draws_no_random_number(quantizer: Quantizer) -> None:
    before = {name: value.clone() for name, value in [*quantizer.named_parameters(), *quantizer.named_buffers()]}
    random = torch.get_rng_state()
    first, second = quantizer(latents(50)), quantizer(latents(50))
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(random, torch.get_rng_state())
    for name, value in [*quantizer.named_parameters(), *quantizer.named_buffers()]:
        assert torch.equal(value, before[name]), name


def test_encode_and_decode_change_no_state_in_training_mode(quantizer: Quantizer) -> None:
    quantizer.train()
    before = {name: value.clone() for name, value in [*quantizer.named_parameters(), *quantizer.named_buffers()]}
    tokens = quantizer.encode(latents(50))
    quantizer.decode(tokens)
    assert torch.equal(tokens, quantizer.encode(latents(50)))
    for name, value in [*quantizer.named_parameters(), *quantizer.named_buffers()]:
        assert torch.equal(value, before[name]), name


def test_encode_of_parts_is_part_of_encode(quantizer: Quantizer) -> None:
    z = latents(300)
    parts = [quantizer.encode(part) for part in (z[:1], z[1:8], z[8:173], z[173:])]
    assert torch.equal(torch.cat(parts), quantizer.encode(z))


def test_empty_batch(quantizer: Quantizer) -> None:
    for mode in (True, False):
        quantizer.train(mode)
        result = quantizer(torch.zeros(0, 4, DIM))
        assert result.tokens.shape == (0, 4, len(quantizer.sizes))
        assert result.vectors.shape == (0, 4, DIM)
        assert torch.isfinite(result.loss)
        assert quantizer.revive() == []


def test_wrong_width_names_both_numbers(quantizer: Quantizer) -> None:
    with pytest.raises(ValueError, match=f"9 wide.*{DIM}"):
        quantizer.encode(torch.zeros(3, 9))
    codes = len(quantizer.sizes)
    with pytest.raises(ValueError, match=f"{codes + 2} codes.*{codes}"):
        quantizer.decode(torch.zeros(3, codes + 2, dtype=torch.int64))


def test_state_dict_round_trip_gives_the_same_tokens(quantizer: Quantizer, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(99)
    name = request.node.callspec.params["quantizer"]
    other = quantizers.build({"name": name, **SMALL}, DIM).eval()
    z = latents(100)
    assert not torch.equal(other(z).vectors, quantizer(z).vectors)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(z), quantizer.encode(z))
    assert torch.equal(other(z).vectors, quantizer(z).vectors)


def test_gradients_reach_latents_and_every_chosen_code(quantizer: Quantizer) -> None:
    quantizer.train()
    z = latents(200).requires_grad_()
    result = quantizer(z)
    (result.vectors.square().sum() + result.loss).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert (z.grad.abs().sum(dim=1) > 0).all()
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    codebook = getattr(quantizer, "codebook", None)
    if codebook is not None:
        touched = codebook.grad.abs().sum(dim=1) > 0
        assert touched[result.tokens[:, 0].unique()].all()


def test_latents_on_a_code_give_finite_gradients(quantizer: Quantizer) -> None:
    quantizer.train()
    with torch.no_grad():
        z = quantizer.decode(quantizer.encode(latents(10)))
    z.requires_grad_()
    result = quantizer(z)
    (result.vectors.sum() + result.loss).backward()
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    assert all(torch.isfinite(p.grad).all() for p in quantizer.parameters() if p.grad is not None)


def test_bfloat16_autocast_changes_no_token(quantizer: Quantizer) -> None:
    z = latents(500)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, learned = quantizer.encode(z), quantizer.train()(z)
    assert torch.equal(tokens, quantizer.encode(z))
    assert learned.vectors.dtype == torch.float32
    assert torch.isfinite(learned.vectors).all()


def test_resolved_spec_builds_the_same_quantizer(quantizer: Quantizer, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["quantizer"]
    spec = quantizers.resolve({"name": name, **SMALL})
    assert spec == quantizers.resolve(spec)
    assert quantizers.build(spec, DIM).sizes == quantizer.sizes
