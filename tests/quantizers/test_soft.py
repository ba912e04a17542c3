"""Gumbel-softmax and IBQ against their formulas, written out in float64."""

from __future__ import annotations

import math

import pytest
import torch

from tokenizer.quantizers import build_quantizer
from tokenizer.quantizers.search import nearest
from tokenizer.quantizers.soft import IBQ, Gumbel


def double(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def approximate(made: Gumbel | IBQ, z: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return made.approximate(z, codes, made.select(z, codes))


def distances(z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    return (z[:, None] - codes[None]).square().sum(dim=2)


def test_a_softmax_of_two_distances_by_hand() -> None:
    # z = 0, codes 1 and 2: squared distances 1 and 4, at t = 0.5 logits -2 and -8: the share of the second is
    # 1 / (1 + e^6) = 0.00247262, the mean 1.00247262.
    made = Gumbel(1, codebook_size=2, noise=False, temperature=0.5, diversity=0.0)
    z, codes = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    out, loss = approximate(made, z, codes)
    assert float(out) == pytest.approx(1 + 1 / (1 + math.exp(6)), rel=1e-12)
    assert float(loss) == 0


@pytest.mark.parametrize("top_k", [0, 9])
@pytest.mark.parametrize("noise", [False, True])
def test_mean_and_gradients_are_those_of_the_softmax_of_squared_distances(top_k: int, noise: bool) -> None:
    # With top_k = K the codes enter the softmax nearest first, and so does the noise.
    z, codes, g = double(20, 3, seed=0), double(9, 3, seed=1), double(20, 3, seed=2)
    made = Gumbel(3, codebook_size=9, noise=noise, temperature=0.75, top_k=top_k, diversity=0.0)
    first = [z.clone().requires_grad_(), codes.clone().requires_grad_()]
    torch.manual_seed(5)
    out, _ = approximate(made, *first)
    out.backward(g)

    torch.manual_seed(5)
    gumbel = -torch.empty(20, 9, dtype=torch.float64).exponential_().log() if noise else torch.zeros(20, 9)
    if top_k:
        gumbel = torch.empty(20, 9, dtype=torch.float64).scatter_(1, distances(z, codes).argsort(), gumbel.double())
    second = [z.clone().requires_grad_(), codes.clone().requires_grad_()]
    weights = torch.softmax((gumbel - distances(*second)) / 0.75, dim=1)
    wanted = weights @ second[1]
    wanted.backward(g)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(first[0].grad, second[0].grad)
    torch.testing.assert_close(first[1].grad, second[1].grad)


def test_noise_draws_each_code_as_often_as_its_weight() -> None:
    # The largest of logits plus Gumbel noise is a draw from their softmax, whatever the temperature: for squared
    # distances 0.25 and 1, the first code's share is 1 / (1 + e^-0.75) = 0.6792.
    made = Gumbel(1, codebook_size=2, temperature=0.01, lowest_temperature=0.001)
    torch.manual_seed(0)
    codes = torch.tensor([[0.5], [-1.0]])
    out, _ = approximate(made, torch.zeros(40_000, 1), codes)
    assert float((out > 0).float().mean()) == pytest.approx(1 / (1 + math.exp(-0.75)), abs=0.01)


def test_top_k_leaves_all_but_the_nearest_out() -> None:
    # z = 0, squared distances 1, 4 and 9: of two, the shares are 1 / (1 + e^-3) and the rest.
    made = Gumbel(1, codebook_size=3, noise=False, top_k=2, diversity=0.0)
    codes = torch.tensor([[3.0], [1.0], [-2.0]], dtype=torch.float64, requires_grad=True)
    out, _ = approximate(made, torch.zeros(1, 1, dtype=torch.float64), codes)
    share = 1 / (1 + math.exp(-3))
    assert float(out.detach()) == pytest.approx(share - 2 * (1 - share), rel=1e-12)
    out.sum().backward()
    assert codes.grad[0] == 0
    assert codes.grad[1:].all()


def test_top_k_keeps_no_tensor_of_n_times_k_for_backward() -> None:
    rows, codes, dim = 3000, 2000, 8
    made = Gumbel(dim, codebook_size=codes, top_k=4).train()
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made(torch.randn(rows, dim, requires_grad=True))
    assert kept
    assert max(kept) <= rows * 4 * dim


def test_the_temperature_falls_by_its_factor_to_its_floor() -> None:
    # 1, 0.5, 0.25, 0.125, and then 0.1 for ever.
    made = Gumbel(2, codebook_size=4, temperature=1.0, temperature_decay=0.5, lowest_temperature=0.1).train()
    seen = []
    for _ in range(6):
        seen.append(float(made.temperatures(torch.zeros(1, 2))))
        made(torch.zeros(1, 2))
    assert seen == pytest.approx([1, 0.5, 0.25, 0.125, 0.1, 0.1])
    made.eval()
    made(torch.zeros(1, 2))
    assert int(made.steps) == 6


@pytest.mark.parametrize("start", [0.2, 1.0, 30.0])
def test_a_learned_temperature_starts_at_the_temperature_for_every_latent(start: float) -> None:
    made = Gumbel(3, codebook_size=4, temperature=start, learn_temperature=True)
    z = 10 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.temperatures(z), torch.full((50, 1), start), rtol=1e-4, atol=0)
    with torch.no_grad():
        made.token_temperature.weight.fill_(1.0)
    warm = made.temperatures(torch.tensor([[1.0, 2.0, -0.5], [-1e3, 0.0, 0.0]])).flatten().tolist()
    inverse = math.log(math.expm1(start - 0.1))
    assert warm == pytest.approx([0.1 + math.log1p(math.exp(inverse + 2.5)), 0.1], rel=1e-4)


@pytest.mark.parametrize("top_k", [0, 3])
def test_diversity_is_the_negative_entropy_of_the_mean_weights(top_k: int) -> None:
    z, codes = double(30, 2, seed=0), double(5, 2, seed=1)
    made = Gumbel(2, codebook_size=5, noise=False, top_k=top_k, diversity=0.3)
    _, loss = approximate(made, z, codes)
    logits = -distances(z, codes)
    if top_k:
        logits = logits.where(logits >= logits.topk(top_k, dim=1).values[:, -1:], -torch.inf)
    share = torch.softmax(logits, dim=1).mean(dim=0)
    assert float(loss) == pytest.approx(0.3 * float((share * share.log()).sum()), rel=1e-6)


def test_diversity_is_least_when_all_codes_share_alike() -> None:
    # Four codes that all lie as far: shares of 1/4 each, and sum p log p = -log 4. One code with all of it: 0.
    made = Gumbel(2, codebook_size=4, noise=False, diversity=1.0)
    around = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    z = torch.zeros(3, 2, dtype=torch.float64)
    assert float(approximate(made, z, around)[1]) == pytest.approx(-math.log(4), rel=1e-12)
    far = torch.tensor([[0.0, 0.0], [99.0, 0.0], [0.0, 99.0], [99.0, 99.0]], dtype=torch.float64)
    assert float(approximate(made, z, far)[1]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("options", ["", "(top_k=3)", "(normalize=sphere)"])
def test_tokens_are_the_nearest_codes_and_never_depend_on_noise(options: str) -> None:
    made = build_quantizer({"name": f"gumbel{options}", "codebook_size": 16}, 4)
    z = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    tokens = made.encode(z)
    assert torch.equal(tokens[:, 0], nearest(made.prepare(z), made.code_vectors().detach()))
    made.train()
    for seed in range(3):
        torch.manual_seed(seed)
        assert torch.equal(made(z).tokens, tokens)


def test_soft_is_the_mean_without_noise_and_changes_nothing() -> None:
    made = Gumbel(2, codebook_size=3, temperature=0.5).train()
    with torch.no_grad():
        made.table.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    # Squared distances of (0, 1) are 1, 2 and 1, at t = 0.5 weights of 1, e^-2 and 1 over 2 + e^-2.
    total, random = 2 + math.exp(-2), torch.get_rng_state()
    out = made.soft(torch.tensor([[[0.0, 1.0]]]))
    assert out.shape == (1, 1, 2)
    assert out.flatten().tolist() == pytest.approx([math.exp(-2) / total, 2 / total])
    assert int(made.steps) == 0
    assert torch.equal(random, torch.get_rng_state())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made.soft(torch.tensor([[[0.0, 1.0]]])), out)
    with pytest.raises(ValueError, match=r"3 wide.*takes 2"):
        made.soft(torch.zeros(1, 3))


def test_settings_of_gumbel_out_of_range_are_refused() -> None:
    for options in ({"temperature": 0.05}, {"lowest_temperature": 0.0}, {"temperature_decay": 1.5}):
        with pytest.raises(ValueError, match="0 < lowest < temperature and 0 < decay <= 1"):
            Gumbel(2, codebook_size=4, **options)
    for top_k in (-1, 5):
        with pytest.raises(ValueError, match=rf"top_k is {top_k}, expected 0 to codebook_size \(4\)"):
            Gumbel(2, codebook_size=4, top_k=top_k)


def test_ibq_gives_the_code_of_the_largest_product_not_the_nearest() -> None:
    # (1, 1): products 1.8 and 8, squared distances 0.02 and 18.
    made = IBQ(2, codebook_size=2)
    with torch.no_grad():
        made.table.weight.copy_(torch.tensor([[0.9, 0.9], [4.0, 4.0]]))
    assert made.encode(torch.ones(1, 2)).tolist() == [[1]]


def test_ibq_gives_the_code_and_a_gradient_to_every_code() -> None:
    z, codes, g = double(20, 3, seed=0), double(7, 3, seed=1), double(20, 3, seed=2)
    first = [z.clone().requires_grad_(), codes.clone().requires_grad_()]
    out, _ = approximate(IBQ(3, codebook_size=7), *first)
    out.backward(g)

    second = [z.clone().requires_grad_(), codes.clone().requires_grad_()]
    products = second[0] @ second[1].T
    soft = torch.softmax(products, dim=1)
    hot = torch.nn.functional.one_hot(products.argmax(dim=1), 7).double()
    wanted = (hot + soft - soft.detach()) @ second[1]
    wanted.backward(g)
    torch.testing.assert_close(out.detach(), codes[(z @ codes.T).argmax(dim=1)])
    torch.testing.assert_close(first[0].grad, second[0].grad)
    torch.testing.assert_close(first[1].grad, second[1].grad)
    assert (first[1].grad.abs().sum(dim=1) > 0).all()


def test_the_entropy_loss_of_ibq_by_hand() -> None:
    """Two latents, each sure of another code: entropy 0 each, log 2 of the mean; unsure of two: log 2 and log 2."""
    codes = torch.eye(2)
    for z, wanted in ((10 * torch.eye(2), -math.log(2)), (torch.ones(2, 2), 0.0)):
        plain, weighted = (IBQ(2, codebook_size=2, entropy_weight=weight).train() for weight in (0.0, 3.0))
        chosen = torch.tensor([0, 1])
        difference = weighted.approximate(z, codes, chosen)[1] - plain.approximate(z, codes, chosen)[1]
        assert float(difference) == pytest.approx(3 * wanted, abs=1e-5)
    with pytest.raises(ValueError, match="entropy_temperature 0"):
        IBQ(2, entropy_temperature=0)


def test_the_three_terms_of_the_loss_of_ibq() -> None:
    # One latent (1, 0), the code (2, 2) of two alike: each term is the mean of 1 and 4, so 2.5 (1 + 1 + beta).
    z = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    codes = torch.tensor([[2.0, 2.0], [-9.0, 0.0]], dtype=torch.float64, requires_grad=True)
    _, loss = approximate(IBQ(2, codebook_size=2, beta=0.5), z, codes)
    assert float(loss.detach()) == 2.5 * 2.5
    loss.backward()
    # The second product is 11 below the first: the softmax passes next to nothing. Of d mean (q - z)^2 the code gets
    # (1, 2) from the first term and half of that from the last; the latent -(1, 2) from the first and the second.
    torch.testing.assert_close(codes.grad[0], torch.tensor([1.5, 3.0], dtype=torch.float64), rtol=0, atol=1e-2)
    torch.testing.assert_close(z.grad[0], torch.tensor([-2.0, -4.0], dtype=torch.float64), rtol=0, atol=1e-2)
