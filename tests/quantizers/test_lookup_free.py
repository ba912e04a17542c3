"""FSQ, LFQ and BSQ against numbers made by hand, all codes enumerated, and an independent package."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
import vector_quantize_pytorch as vqp

from tokenizer import quantizers
from tokenizer.errors import ConfigError
from tokenizer.quantizers.binary import BSQ, LFQ, bit_entropies, entropy_of_mean
from tokenizer.quantizers.lookup_free import FSQ, LookupFreeQuantizer, choose_levels

METHODS = ["fsq", "lfq", "bsq"]


def make(name: str, dim: int, **options: Any) -> LookupFreeQuantizer:
    made = quantizers.build_quantizer({"name": name, **options}, dim)
    assert isinstance(made, LookupFreeQuantizer)
    return made


def bare(quantizer: LookupFreeQuantizer) -> LookupFreeQuantizer:
    """Make both maps the identity: what goes in are the inner numbers."""
    with torch.no_grad():
        for linear in (quantizer.inward, quantizer.outward):
            linear.weight.copy_(torch.eye(quantizer.dim))
            linear.bias.zero_()
    return quantizer


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Finite scalar quantization


def test_bound_of_an_odd_number_of_levels_by_hand() -> None:
    # L = 5: h = 4 * 0.999 / 2 = 1.998, no offset. tanh(0.5) = 0.46211716, tanh(-2) = -0.96402758.
    bounded = FSQ(1, levels=(5,)).bound(torch.tensor([[0.0], [0.5], [-2.0]]))
    torch.testing.assert_close(bounded, torch.tensor([[0.0], [0.92331008], [-1.92612711]]), rtol=1e-6, atol=1e-7)


def test_bound_of_an_even_number_of_levels_by_hand() -> None:
    # L = 4: h = 3 * 0.999 / 2 = 1.4985, o = 0.5, s = tan(0.5 / 1.4985) = tan(0.33366700) = 0.34662726.
    # tanh(s) = 0.33338104, tanh(s + 1) = 0.87325487, tanh(s - 2) = -0.92931899.
    bounded = FSQ(1, levels=(4,)).bound(torch.tensor([[0.0], [1.0], [-2.0]]))
    expected = torch.tensor([[-0.00042851], [0.80857242], [-1.89258451]])
    torch.testing.assert_close(bounded, expected, rtol=1e-5, atol=1e-6)


def test_values_and_tokens_by_hand() -> None:
    # Levels (3, 5, 4): z = (0.25, 0.6, -7) is bounded to (0.245, 1.073, -1.998), rounded to (0, 1, -2), halved widths
    # (1, 2, 2) make (0, 0.5, -1); digits from the lowest (1, 3, 0) make the token 1 + 3 * 3 + 0 * 15 = 10.
    fsq = bare(FSQ(3, levels=(3, 5, 4))).eval()
    result = fsq(torch.tensor([0.25, 0.6, -7.0]))
    assert result.tokens.tolist() == [10]
    assert result.vectors.tolist() == [0.0, 0.5, -1.0]
    assert fsq.decode(torch.tensor([[0], [1], [3], [15], [59]])).tolist() == [
        [-1.0, -1.0, -1.0],
        [0.0, -1.0, -1.0],
        [-1.0, -0.5, -1.0],
        [-1.0, -1.0, -0.5],
        [1.0, 1.0, 0.5],
    ]


def test_gradient_passes_the_rounding_and_not_tanh() -> None:
    # d value / d z = h / floor(L / 2) * (1 - tanh^2(z + s)).
    fsq = bare(FSQ(2, levels=(5, 4))).train()
    z = torch.tensor([[0.3, -0.8]], requires_grad=True)
    result = fsq(z)
    assert torch.equal(result.vectors, fsq.decode(result.tokens))
    result.vectors.backward(torch.tensor([[1.0, 10.0]]))
    shift = math.tan(0.5 / 1.4985)
    expected = [0.999 * (1 - math.tanh(0.3) ** 2), 10 * 1.4985 / 2 * (1 - math.tanh(-0.8 + shift) ** 2)]
    torch.testing.assert_close(z.grad, torch.tensor([expected]), rtol=1e-5, atol=0)
    assert result.loss == 0


def test_learned_step_starts_without_a_change_and_has_the_gradient_of_lsq() -> None:
    # value = r / 2 * round(b(z / r)): d value / d log r = r k / 2 - b'(z / r) z / 2; at r = 1, z = 0.3, L = 5:
    # k = round(1.998 tanh 0.3) = 1, b' = 1.998 (1 - tanh^2 0.3).
    plain, learned = bare(FSQ(1, levels=(5,))), bare(FSQ(1, levels=(5,), learn_step=True))
    z = torch.tensor([[0.3]])
    assert torch.equal(plain.train()(z).vectors, learned.train()(z).vectors)
    learned(z).vectors.sum().backward()
    assert isinstance(learned, FSQ)
    assert learned.log_step is not None
    expected = 1 / 2 - 1.998 * (1 - math.tanh(0.3) ** 2) * 0.3 / 2
    torch.testing.assert_close(learned.log_step.grad, torch.tensor([expected]), rtol=1e-5, atol=0)


def test_learned_step_scales_the_grid() -> None:
    learned = bare(FSQ(2, levels=(5, 5), learn_step=True)).eval()
    assert isinstance(learned, FSQ)
    assert learned.log_step is not None
    with torch.no_grad():
        learned.log_step.copy_(torch.tensor([2.0, 0.5]).log())
    # 1.2 / 2 and 1.2 / 0.5: 1.998 tanh(0.6) = 1.07 and 1.998 tanh(2.4) = 1.96; then 2 * 1 / 2 and 0.5 * 2 / 2.
    torch.testing.assert_close(learned(torch.tensor([1.2, 1.2])).vectors, torch.tensor([1.0, 0.5]))


@pytest.mark.parametrize(
    ("codebook_size", "levels"),
    [
        (2**8, (8, 6, 5)),
        (2**10, (8, 5, 5, 5)),
        (2**12, (7, 5, 5, 5, 5)),
        (2**14, (8, 8, 8, 6, 5)),
        (2**16, (8, 8, 8, 5, 5, 5)),
        (2, (2,)),
        (7, (7,)),
        (8, (8,)),
        (9, (3, 3)),
        (16, (4, 4)),
        (64, (8, 8)),
        (100, (5, 5, 4)),
        (125, (5, 5, 5)),
        (128, (5, 5, 5)),
        (512, (8, 8, 8)),
        (2048, (8, 7, 6, 6)),
    ],
)
def test_levels_are_chosen_for_a_codebook_size(codebook_size: int, levels: tuple[int, ...]) -> None:
    assert choose_levels(codebook_size) == levels
    assert FSQ(8, codebook_size=codebook_size).sizes == (math.prod(levels),)


@pytest.mark.parametrize("codebook_size", [2, 3, 11, 37, 124, 126, 600, 3000, 2**18, 2**20])
def test_chosen_levels_are_near_and_not_above(codebook_size: int) -> None:
    levels = choose_levels(codebook_size)
    assert 0.78 * codebook_size < math.prod(levels) <= codebook_size
    assert min(levels) >= (5 if codebook_size >= 125 else 2)
    assert max(levels) <= 8
    assert tuple(sorted(levels, reverse=True)) == levels


def test_levels_given_are_those_used_also_from_text() -> None:
    assert make("fsq", 4, levels="7 3 2").sizes == (42,)
    assert quantizers.fitting_width({"name": "fsq", "levels": [5, 5, 5, 5, 5]}, 2) == 5
    assert quantizers.fitting_width({"name": "fsq"}, 1) == 4
    assert quantizers.fitting_width({"name": "lfq"}, 8) == 10
    assert quantizers.fitting_width({"name": "bsq", "codebook_size": 2**14}, 16) == 16


def test_two_levels_are_finite_and_both_used() -> None:
    z = numbers(2000, 3)
    fsq = FSQ(3, levels=(2, 2, 2))
    fsq.initialize(z)
    assert fsq.encode(z).unique().numel() == 8


def test_most_levels_go_to_the_direction_of_most_variance() -> None:
    z = numbers(4000, 3) * torch.tensor([1.0, 10.0, 3.0])
    fsq = FSQ(3, levels=(3, 8, 5))
    fsq.initialize(z)
    strongest = (fsq.inward.weight * torch.tensor([1.0, 10.0, 3.0])).abs().argmax(dim=1)
    assert strongest.tolist() == [0, 1, 2]


# Signs


def test_signs_and_tokens_by_hand() -> None:
    # Zero counts as positive. Bits from the first: 0 1 1 0 make 0 + 2 + 4 + 0, on both.
    z = torch.tensor([[-0.2, 0.0, 3.0, -1.0]])
    lfq, bsq = bare(LFQ(4, codebook_size=16)).eval(), bare(BSQ(4, codebook_size=16)).eval()
    assert lfq(z).tokens.tolist() == bsq(z).tokens.tolist() == [[6]]
    assert lfq(z).vectors.tolist() == [[-1.0, 1.0, 1.0, -1.0]]
    assert bsq(z).vectors.tolist() == [[-0.5, 0.5, 0.5, -0.5]]


def test_gradient_of_lfq_passes_the_sign() -> None:
    lfq = bare(LFQ(2, codebook_size=4, entropy_weight=0, commitment=0)).train()
    z = torch.tensor([[-0.2, 3.0]], requires_grad=True)
    lfq(z).vectors.backward(torch.tensor([[1.0, 7.0]]))
    assert z.grad is not None
    assert z.grad.tolist() == [[1.0, 7.0]]


def test_gradient_of_bsq_passes_the_sign_and_not_the_sphere() -> None:
    # v = (3, 4): u = (0.6, 0.8), du/dv = (I - u u^T) / 5. For g = (1, 0): (0.64, -0.48) / 5, over sqrt 2.
    bsq = bare(BSQ(2, codebook_size=4, entropy_weight=0)).train()
    z = torch.tensor([[3.0, 4.0]], requires_grad=True)
    result = bsq(z)
    torch.testing.assert_close(result.vectors, torch.full((1, 2), 0.5**0.5))
    result.vectors.backward(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(z.grad, torch.tensor([[0.64, -0.48]]) / 5 / 2**0.5)


@pytest.mark.parametrize("name", METHODS)
def test_gradient_at_zero_is_finite(name: str) -> None:
    quantizer = bare(make(name, 3, **({"levels": (8, 5, 2)} if name == "fsq" else {"codebook_size": 8}))).train()
    z = torch.zeros(4, 3, requires_grad=True)
    result = quantizer(z)
    (result.vectors.sum() + result.loss).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_commitment_by_hand() -> None:
    # LFQ: mean of (1 - 0.2)^2, (3 - 1)^2, (-1.5 + 1)^2, 0 is (0.64 + 4 + 0.25) / 4 = 1.2225, times 0.25.
    lfq = bare(LFQ(4, codebook_size=16, entropy_weight=0)).train()
    assert lfq(torch.tensor([[0.2, 3.0, -1.5, 1.0]])).loss.item() == pytest.approx(0.305625)
    # BSQ: |(0.6, 0.8) - (1, 1) / sqrt 2|^2 = 2 - 1.4 sqrt 2, summed over numbers, mean over tokens, times 3.
    bsq = bare(BSQ(2, codebook_size=4, entropy_weight=0, commitment=3.0)).train()
    assert bsq(torch.tensor([[3.0, 4.0], [-3.0, 4.0]])).loss.item() == pytest.approx(3 * (2 - 1.4 * 2**0.5))


# Entropies


def entropy(log_p: torch.Tensor) -> torch.Tensor:
    return -(log_p.exp() * log_p).sum(dim=-1)


def soft_codes(z: torch.Tensor, unit: float, temperature: float) -> torch.Tensor:
    """Return the (N, 2^W) logarithm of the softmax over all codes, by enumeration."""
    codes = torch.tensor(list(product([-unit, unit], repeat=z.shape[1])), dtype=z.dtype)
    return torch.log_softmax(-(z[:, None] - codes).square().sum(dim=-1) / temperature, dim=1)


def mean_of(log_p: torch.Tensor) -> torch.Tensor:
    return log_p.logsumexp(dim=0) - math.log(len(log_p))


def test_bit_entropy_by_hand() -> None:
    # Odds of 1, 3 and 1/3: 0.25 ln 4 + 0.75 ln (4/3) = 0.56233514; far out nothing is left, and nothing is lost.
    log_odds = torch.tensor([0.0, 3.0, 1 / 3], dtype=torch.float64).log()
    log_odds[0] = 0.0
    found = bit_entropies(torch.cat([log_odds, torch.tensor([1e4, -1e4], dtype=torch.float64)]))
    expected = torch.tensor([math.log(2), 0.5623351446188083, 0.5623351446188083, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_entropy_of_the_mean_by_hand() -> None:
    # Two tokens that are certain of 11 and 00: each bit is 1 for half of them, but there are two codes, not four.
    certain = torch.tensor([[50.0, 50.0], [-50.0, -50.0]], dtype=torch.float64)
    assert entropy_of_mean(certain, 2).item() == pytest.approx(math.log(2))
    assert entropy_of_mean(certain, 1).item() == pytest.approx(2 * math.log(2))
    # One token with odds 3 and 1: p = (0.25, 0.75) x (0.5, 0.5).
    one = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    assert entropy_of_mean(one, 2).item() == pytest.approx(0.5623351446188083 + math.log(2))


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
@pytest.mark.parametrize("temperature", [0.01, 0.7, 3.0])
def test_entropies_are_those_of_all_codes(bits: int, temperature: float) -> None:
    z = numbers(40, bits).double().requires_grad_()
    log_odds = 4 / temperature * z * 0.6
    log_p = soft_codes(z, 0.6, temperature)
    torch.testing.assert_close(bit_entropies(log_odds).sum(dim=1), entropy(log_p))
    torch.testing.assert_close(entropy_of_mean(log_odds, bits), entropy(mean_of(log_p)))
    ours, theirs = (
        torch.autograd.grad(loss, z, retain_graph=True)[0]
        for loss in (
            bit_entropies(log_odds).sum(dim=1).mean() - entropy_of_mean(log_odds, bits),
            entropy(log_p).mean() - entropy(mean_of(log_p)),
        )
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_groups_of_bits_are_counted_apart_and_bound_the_entropy_from_above() -> None:
    z = numbers(60, 5).double() @ numbers(5, 5, seed=1).double()
    p = mean_of(soft_codes(z, 1.0, 4.0)).exp().reshape(2, 2, 2, 2, 2)
    # 5 bits in groups of 2 at most: 2, 2, 1.
    parts = [p.sum(dim=(2, 3, 4)), p.sum(dim=(0, 1, 4)), p.sum(dim=(0, 1, 2, 3))]
    found = entropy_of_mean(z, 2)
    torch.testing.assert_close(found, torch.stack([entropy(part.flatten().log()) for part in parts]).sum())
    assert entropy_of_mean(z, 5) < entropy_of_mean(z, 3) < entropy_of_mean(z, 1)


@pytest.mark.parametrize(("bits", "group"), [(14, 9), (14, 14), (18, 18)])
def test_no_tensor_has_a_number_for_each_token_and_code(bits: int, group: int) -> None:
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        entropy_of_mean(numbers(300, bits).requires_grad_(), group)
    assert max(kept) <= max(2**group, 300 * 2 ** -(-group // 2))


@pytest.mark.parametrize(("name", "unit"), [("lfq", 1.0), ("bsq", 0.5)])
def test_loss_is_the_formula(name: str, unit: float) -> None:
    options = {"entropy_weight": 0.3, "gamma": 0.8, "temperature": 0.9, "commitment": 0.2, "entropy_group": 4}
    quantizer = bare(make(name, 4, codebook_size=16, **options)).train()
    z = numbers(5, 7, 4)
    inner = z.reshape(-1, 4)
    if name == "bsq":
        inner = inner / inner.norm(dim=1, keepdim=True)
    log_p = soft_codes(inner, unit, 0.9)
    gaps = (inner - torch.where(inner >= 0, unit, -unit)).square()
    commitment = gaps.mean() if name == "lfq" else gaps.sum(dim=1).mean()
    expected = 0.3 * (entropy(log_p).mean() - 0.8 * entropy(mean_of(log_p))) + 0.2 * commitment
    torch.testing.assert_close(quantizer(z).loss, expected)


def test_loss_is_least_when_tokens_are_certain_and_codes_alike() -> None:
    # BSQ with one code for each corner, at a temperature that leaves no doubt: 0 - ln 4.
    bsq = bare(BSQ(2, codebook_size=4, entropy_weight=1.0, temperature=0.01)).train()
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert bsq(corners).loss.item() == pytest.approx(-math.log(4))
    assert bsq(corners[:1].expand(4, 2)).loss.item() == pytest.approx(0.0, abs=1e-6)


# Placement


@pytest.mark.parametrize(("name", "share"), [("fsq", 0.98), ("lfq", 0.98), ("bsq", 0.98)])
@pytest.mark.parametrize("placed", [True, False])
def test_every_code_is_used_on_normal_latents(name: str, share: float, placed: bool) -> None:
    torch.manual_seed(0)
    quantizer = make(name, 10, codebook_size=256)
    z = numbers(20_000, 10)
    if placed:
        # Correlated, of very unlike variances, and far from 0: nothing that placement cannot undo.
        z = (z * torch.logspace(0, -1.5, 10)) @ numbers(10, 10, seed=1) + 5
        quantizer.initialize(z)
    tokens = quantizer.encode(z)
    assert tokens.unique().numel() > share * quantizer.sizes[0]


@pytest.mark.parametrize(("name", "error"), [("fsq", 0.10), ("lfq", 0.42), ("bsq", 0.42)])
def test_error_after_placement_is_far_below_the_variance(name: str, error: float) -> None:
    """A sign keeps 2 / pi of a normal number's variance, so that 0.36 is the least that one bit each can leave."""
    torch.manual_seed(0)
    z = numbers(20_000, 8) @ numbers(8, 12, seed=1) + 3
    z = z[:, :8] if name != "fsq" else z @ torch.diag(torch.logspace(0, -3, 12))
    quantizer = make(name, z.shape[1], codebook_size=256)
    quantizer.initialize(z)
    with torch.no_grad():
        left = z - quantizer.decode(quantizer.encode(z))
    torch.testing.assert_close(left.mean(dim=0), torch.zeros(z.shape[1]), atol=2e-3, rtol=0)
    assert left.square().sum() < error * (z - z.mean(dim=0)).square().sum()


@pytest.mark.parametrize("name", METHODS)
def test_grid_and_tokens_are_inverse_in_the_inner_space(name: str) -> None:
    quantizer = bare(make(name, 3, **({"levels": (8, 5, 4)} if name == "fsq" else {"codebook_size": 8})))
    tokens = torch.arange(quantizer.sizes[0])[:, None]
    vectors = quantizer.decode(tokens)
    assert vectors.unique(dim=0).shape == (quantizer.sizes[0], 3)
    rounded = vectors / quantizer.unit()
    again = (quantizer.digits(rounded) * quantizer.radix).sum(dim=1, keepdim=True)
    assert torch.equal(again, tokens)


@pytest.mark.parametrize("name", METHODS)
def test_codes_encode_to_themselves_after_placement_on_normal_latents(name: str) -> None:
    """No law: the maps are learned apart. The outermost of 8 levels lie at the border of their cells."""
    torch.manual_seed(0)
    quantizer = make(name, 8, **({"levels": (7, 5, 5)} if name == "fsq" else {"codebook_size": 256}))
    quantizer.initialize(numbers(20_000, 8) * torch.logspace(0, -1, 8))
    tokens = torch.arange(quantizer.sizes[0])[:, None]
    assert torch.equal(quantizer.encode(quantizer.decode(tokens)), tokens)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "z",
    [
        torch.zeros(100, 6),
        torch.full((100, 6), 3.7),
        numbers(1, 6),
        numbers(3, 6),
        numbers(100, 1).expand(100, 6),
        1e-20 * numbers(100, 6),
        1e6 * numbers(100, 6),
        numbers(100, 6).to(torch.bfloat16),
    ],
    ids=["zero", "constant", "one", "three", "line", "tiny", "huge", "bfloat16"],
)
def test_degenerate_latents_leave_finite_numbers(name: str, z: torch.Tensor) -> None:
    torch.manual_seed(0)
    quantizer = make(name, 6, codebook_size=16)
    quantizer.initialize(z)
    assert all(torch.isfinite(parameter).all() for parameter in quantizer.parameters())
    z = z.float().clone().requires_grad_()
    result = quantizer.train()(z)
    (result.vectors.sum() + result.loss).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(result.vectors).all()
    torch.testing.assert_close(result.vectors.mean(dim=0), z.detach().mean(dim=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_training_keeps_all_codes_and_lowers_the_error(name: str) -> None:
    torch.manual_seed(0)
    quantizer = make(name, 6, codebook_size=64).train()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=3e-3)
    mix = numbers(6, 6, seed=1) / 6**0.5
    errors = []
    for step in range(200):
        z = numbers(1000, 6, seed=step + 2) @ mix
        result = quantizer(z)
        error = (result.vectors - z).square().mean()
        optimizer.zero_grad()
        (error + result.loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-20:]) < 0.9 * sum(errors[:20])
    assert result.tokens.unique().numel() > 0.8 * quantizer.sizes[0]


@pytest.mark.parametrize("name", METHODS)
def test_a_later_stage_leaves_the_gradient_of_the_first_alone(name: str) -> None:
    torch.manual_seed(0)
    options = {} if name == "fsq" else {"entropy_weight": 0.0}
    residual = quantizers.build_quantizer({"name": f"residual(2*{name})", "codebook_size": 16, **options}, 6).train()
    residual.initialize(numbers(500, 6))
    z, g = numbers(50, 6, seed=1).requires_grad_(), numbers(50, 6, seed=2)
    (both,) = torch.autograd.grad(residual(z).vectors, z, g)
    first = next(part for part in residual.modules() if isinstance(part, LookupFreeQuantizer))
    (alone,) = torch.autograd.grad(first.learn(z).vectors, z, g)
    torch.testing.assert_close(both, alone)


def test_options_out_of_range_are_refused() -> None:
    for options, message in [
        ({"codebook_size": 1}, "codebook_size is 1"),
        ({"levels": (8, 1)}, r"levels are \(8, 1\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            FSQ(8, **options)  # type: ignore[arg-type]
    for cls in (LFQ, BSQ):
        for options, message in [
            ({"codebook_size": 1000}, "codebook_size is 1000, expected a power of two"),
            ({"codebook_size": 1}, "codebook_size is 1"),
            ({"temperature": 0.0}, "temperature 0"),
            ({"entropy_weight": -1.0}, "entropy_weight -1"),
            ({"gamma": -0.5}, "gamma -0.5"),
            ({"commitment": -0.5}, "commitment -0.5"),
            ({"entropy_group": 0}, "entropy_group is 0"),
            ({"entropy_group": 25}, "entropy_group is 25"),
        ]:
            with pytest.raises(ValueError, match=message):
                cls(16, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "least"), [("fsq", 4), ("lfq", 10), ("bsq", 10)])
def test_latents_narrower_than_the_numbers_are_refused(name: str, least: int) -> None:
    with pytest.raises(ConfigError, match=rf"latents are 3 wide.*take {least}"):
        make(name, 3)


# An independent package: vector_quantize_pytorch


def test_fsq_codes_tokens_and_gradients_are_those_of_vqp() -> None:
    """That package has a range of 1.001 where the paper has 0.999, and the inverse tanh for its tangent.

    So its numbers of levels and tokens are the same, but for latents next to a border.
    """
    levels = (8, 5, 4, 3)
    theirs, ours = vqp.FSQ(list(levels)), bare(FSQ(4, levels=levels)).train()
    first = 1.5 * numbers(1, 3000, 4)
    distance = (ours.bound(first) - ours.bound(first).floor() - 0.5).abs().amin(dim=-1)
    first = first[:, distance[0] > 1e-2].requires_grad_()
    second = first.detach().clone().requires_grad_()
    vectors, tokens = theirs(first)
    result = ours(second)
    assert torch.equal(result.tokens[..., 0], tokens.long())
    torch.testing.assert_close(result.vectors, vectors)
    vectors.sum().backward()
    result.vectors.sum().backward()
    torch.testing.assert_close(second.grad, first.grad, rtol=5e-3, atol=5e-3)


def reversed_bits(tokens: torch.Tensor, bits: int) -> torch.Tensor:
    return sum(((tokens >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))  # type: ignore[return-value]


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_lfq_is_that_of_vqp(temperature: float) -> None:
    """That package makes the first number the highest bit, where equation 4 of the paper makes it the lowest.

    Its entropies stop at probabilities of 1e-5, and its inverse temperature of 100 is the temperature of 0.01.
    """
    theirs = vqp.LFQ(codebook_size=64, entropy_loss_weight=0.1, commitment_loss_weight=0.25).train()
    options = {"entropy_weight": 0.1, "commitment": 0.25, "temperature": temperature}
    ours = bare(make("lfq", 6, codebook_size=64, **options)).train()
    first = numbers(2, 500, 6).requires_grad_()
    second = first.detach().clone().requires_grad_()
    found = theirs(first, inv_temperature=1 / temperature)
    result = ours(second)
    assert torch.equal(reversed_bits(result.tokens[..., 0], 6), found.indices)
    torch.testing.assert_close(result.vectors, found.quantized)
    torch.testing.assert_close(result.loss, found.entropy_aux_loss, rtol=1e-3, atol=1e-3)
    (found.quantized.square().sum() + found.entropy_aux_loss).backward()
    (result.vectors.square().sum() + result.loss).backward()
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-3, atol=1e-4)


def test_bsq_is_that_of_vqp_but_for_the_gradient_of_the_sign() -> None:
    """That package passes the gradient to u as it is; the paper multiplies the sign by `1 / sqrt(W)` after it."""
    theirs = vqp.LFQ(codebook_size=64, spherical=True, entropy_loss_weight=0.1).train()
    ours = bare(make("bsq", 6, codebook_size=64, entropy_weight=0.1, temperature=0.5)).train()
    first = numbers(2, 500, 6).requires_grad_()
    second = first.detach().clone().requires_grad_()
    g = numbers(2, 500, 6, seed=1)
    found = theirs(first, inv_temperature=2.0)
    result = ours(second)
    assert torch.equal(reversed_bits(result.tokens[..., 0], 6), found.indices)
    torch.testing.assert_close(result.vectors, found.quantized)
    torch.testing.assert_close(result.loss, found.entropy_aux_loss, rtol=1e-4, atol=1e-5)
    found.quantized.backward(g)
    result.vectors.backward(g)
    assert first.grad is not None
    torch.testing.assert_close(second.grad, first.grad / 6**0.5)


@pytest.mark.parametrize("name", ["fsq", "lfq", "bsq"])
def test_tokens_do_not_depend_on_the_company(name: str) -> None:
    """Products of float32 matrices add up in other orders for other numbers of rows."""
    torch.manual_seed(0)
    made = quantizers.build_quantizer({"name": name, "codebook_size": 1024}, 16).eval()
    z = torch.randn(1, 120, 168, 16)
    numbers, tokens = made._inward_alike(z), made.encode(z)
    for rows, columns in ((slice(0, 60), slice(0, 90)), (slice(15, 75), slice(30, 120)), (slice(9, 10), slice(15, 16))):
        assert torch.equal(made._inward_alike(z[:, rows, columns]), numbers[:, rows, columns])
        assert torch.equal(made.encode(z[:, rows, columns]), tokens[:, rows, columns])
