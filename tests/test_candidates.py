"""The candidate methods of `benchmarks`: the contract of a quantizer, and their formulas by hand."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from tokenizer import quantizers
from tokenizer.errors import ConfigError
from tokenizer.quantizers import METHODS, Quantizer

DIM = 6
SPECS = [
    "optvq",
    "optvq(transform=linear)",
    "wasserstein",
    "wasserstein(root=true, both=true)",
    "stablevq",
    "stablevq(dynamic=false, region=false, transform=none)",
    "stablevq(window=1, dead_code_patience=0)",
    "diveq-wasserstein",
]


@pytest.fixture(scope="module", autouse=True)
def candidates() -> Iterator[ModuleType]:
    """Register the candidates for this module alone: other tests go through every method there is."""
    before = dict(METHODS)
    sys.modules.pop("benchmarks.candidates", None)  # imported before, they would not register again
    yield importlib.import_module("benchmarks.candidates")
    METHODS.clear()
    METHODS.update(before)


@pytest.fixture(params=SPECS)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return make(request.param).eval()


def make(spec: str, codes: int = 16) -> Quantizer:
    torch.manual_seed(1)
    made = quantizers.build_quantizer({**quantizers.read_spec(spec), "codebook_size": codes}, DIM)
    made.initialize(torch.randn(500, DIM))
    return made


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(7))


def train(quantizer: Quantizer, z: torch.Tensor, steps: int) -> None:
    """Take steps, dead-code replacement included, as the trainer would."""
    quantizer.train()
    optimizer = torch.optim.Adam([p for p in quantizer.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        result = quantizer(z)
        optimizer.zero_grad()
        ((result.vectors - z).square().mean() + result.loss).backward()
        optimizer.step()
        quantizer.replace_dead_codes()
    quantizer.eval()


def test_importing_registers_these(candidates: ModuleType) -> None:
    ours = {name for name, method in METHODS.items() if method.cls.__module__ == candidates.__name__}
    assert ours == {"optvq", "wasserstein", "stablevq", "diveq-wasserstein"}


def test_evaluation_is_decode_of_encode_and_draws_nothing(quantizer: Quantizer) -> None:
    train(quantizer, latents(60), 3)
    z, random = latents(2, 25), torch.get_rng_state()
    result = quantizer(z)
    assert torch.equal(result.tokens, quantizer.encode(z))
    assert torch.equal(result.vectors, quantizer.decode(quantizer.encode(z)))
    assert torch.equal(random, torch.get_rng_state())
    assert result.loss == 0
    assert result.tokens.unique().numel() > 1


def test_encode_of_parts_is_part_of_encode(quantizer: Quantizer) -> None:
    z = latents(300)
    for mode in (False, True):
        quantizer.train(mode)
        parts = [quantizer.encode(part) for part in (z[:1], z[1:8], z[8:])]
        assert torch.equal(torch.cat(parts), quantizer.encode(z))


def test_gradients_are_finite_and_reach_every_latent(quantizer: Quantizer) -> None:
    quantizer.train()
    with torch.no_grad():
        on_codes = quantizer.decode(torch.arange(16)[:, None])
    for values in (latents(200), on_codes, torch.zeros(40, DIM), latents(1)):
        z = values.clone().requires_grad_()
        quantizer.zero_grad()
        result = quantizer(z)
        (result.vectors.square().sum() + result.loss).backward()
        assert z.grad is not None
        assert torch.isfinite(z.grad).all()
        for name, parameter in quantizer.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert (z.grad.abs().sum(dim=1) > 0).all()


def test_empty_batch(quantizer: Quantizer) -> None:
    quantizer.train()
    result = quantizer(torch.zeros(0, 4, DIM))
    assert result.tokens.shape == (0, 4, 1)
    assert torch.isfinite(result.loss)
    assert not any(change.rows.any() for change in quantizer.replace_dead_codes())


def test_training_lowers_the_error(quantizer: Quantizer) -> None:
    z = latents(300)
    with torch.no_grad():
        quantizer.table.place(quantizer.table() + 1)
    before = (quantizer(z).vectors - z).square().mean()
    train(quantizer, z, 40)
    assert (quantizer(z).vectors - z).square().mean() < before


def test_merging_keeps_every_token_and_the_spec_that_builds_it(quantizer: Quantizer) -> None:
    train(quantizer, latents(60), 3)
    z = latents(200)
    tokens, vectors = quantizer.encode(z), quantizer(z).vectors
    quantizer.merge_()
    other = quantizers.build_quantizer(quantizer.spec, DIM).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(z), tokens)
    torch.testing.assert_close(other.decode(tokens), vectors)


def test_sinkhorn_by_hand(candidates: ModuleType) -> None:
    sinkhorn = candidates.sinkhorn
    # exp(-cost) = [[1, 1/2], [1/2, 1]] is balanced up to a factor: sums of 3/2, so the plan is a third of it.
    cost = torch.tensor([[0.0, 2.0], [2.0, 0.0]]) * torch.tensor(0.5).log().abs() / 2
    torch.testing.assert_close(sinkhorn(cost, 1.0, 1), torch.tensor([[2.0, 1.0], [1.0, 2.0]]) / 6)
    # Both latents prefer code 0, the second less: balance sends it to code 1.
    plan = sinkhorn(torch.tensor([[0.0, 5.0], [0.0, 1.0]]), 0.01, 200)
    torch.testing.assert_close(plan, torch.tensor([[0.5, 0.0], [0.0, 0.5]]), atol=0.01, rtol=0)


@pytest.mark.parametrize("epsilon", [0.5, 0.1])
def test_sinkhorn_marginals(candidates: ModuleType, epsilon: float) -> None:
    cost = torch.rand(40, 7, generator=torch.Generator().manual_seed(0))
    kept = cost.clone()
    plan = candidates.sinkhorn(cost, epsilon, 200)
    assert torch.equal(cost, kept)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((40,), 1 / 40), rtol=1e-5, atol=0)
    torch.testing.assert_close(plan.sum(dim=0), torch.full((7,), 1 / 7), rtol=1e-3, atol=0)


def test_transport_uses_codes_that_no_latent_is_nearest_to(candidates: ModuleType) -> None:
    quantizer = make("optvq")
    with torch.no_grad():
        quantizer.table.weight[8:] += 30
    z = latents(400)
    assert quantizer.eval().encode(z).max() < 8
    learnt = quantizer.train()(z)
    assert learnt.tokens.unique().numel() == 16
    torch.testing.assert_close(learnt.vectors, quantizer.decode(learnt.tokens))


def test_gaussian_distance_by_hand(candidates: ModuleType) -> None:
    distance = candidates.gaussian_distance
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    z, codes = corners * torch.tensor([1.0, 2.0]), corners * torch.tensor([3.0, 0.5]) + torch.tensor([3.0, -4.0])
    # |m1 - m2|^2 = 25, (1 - 3)^2 + (2 - 0.5)^2 = 6.25
    torch.testing.assert_close(distance(z, codes), torch.tensor(31.25), rtol=1e-5, atol=0)
    assert distance(z, z) < 1e-5
    # Turning both alike changes nothing, turning one by a quarter swaps its deviations: 25 + (1 - 0.5)^2 + (2 - 3)^2.
    turn = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    torch.testing.assert_close(distance(z @ turn, codes @ turn), torch.tensor(31.25), rtol=1e-5, atol=0)
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    shifted = (codes - codes.mean(dim=0)) @ quarter + codes.mean(dim=0)
    torch.testing.assert_close(distance(z, shifted), torch.tensor(26.25), rtol=1e-5, atol=0)


def test_gaussian_distance_has_a_gradient_where_eigenvalues_coincide(candidates: ModuleType) -> None:
    distance = candidates.gaussian_distance
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    codes = (2 * corners).requires_grad_()
    distance(corners, codes).backward()
    # (s - 1)^2 for each dimension, s the root mean square of 4 numbers of size 2: 2 (s - 1) c / (4 s) = c / 4.
    torch.testing.assert_close(codes.grad, codes.detach() / 4, rtol=1e-4, atol=0)
    points = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    others = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(distance, (points, others), atol=1e-5)


def test_weights_by_hand(candidates: ModuleType) -> None:
    quantizer = candidates.StableVQ(2, codebook_size=2, region=False, transform="none")
    codes = torch.tensor([[0.0, 0.0], [10.0, 0.0]], requires_grad=True)
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [10.0, 3.0]], requires_grad=True)
    vectors, _ = quantizer.approximate(z, codes, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(vectors, codes[[0, 0, 1]])
    vectors.sum().backward()
    # Squared distances 1 and 4 to code 0, 9 to code 1: the best of each code keeps its gradient, the other a quarter.
    torch.testing.assert_close(z.grad, torch.tensor([[1.0, 1.0], [0.25, 0.25], [1.0, 1.0]]))


def test_region_targets_by_hand(candidates: ModuleType) -> None:
    codes = torch.tensor([[0.0], [10.0], [4.0], [7.0], [20.0]])
    z, chosen = torch.tensor([[1.0], [3.0], [9.0], [11.0], [12.0], [30.0]]), torch.tensor([0, 0, 1, 1, 1, 4])
    region_targets = candidates.region_targets
    targets, known = region_targets(z, codes, chosen, torch.zeros(5, dtype=torch.bool))
    # Means 2 and 32 / 3. Two dead codes, 2 and 3, in shares of 2/5 and 3/5: 0.8 and 1.2 places, so one each. Code 0
    # hands its target to code 2, code 1 to code 3; code 4, which one latent chose, hands on nothing.
    third = 32 / 3
    torch.testing.assert_close(targets[:, 0], torch.tensor([2.0, third, 2.0, third, 30.0]))
    assert known.all()
    _, known = region_targets(z, codes, chosen, torch.tensor([0, 0, 1, 1, 0]).bool())
    assert known.tolist() == [True, True, False, False, True]
    # Code 2 is the nearest dead code to both now; code 3 is handed nothing.
    codes[3] = 100.0
    targets, known = region_targets(z, codes, chosen, torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(targets[2, 0], torch.tensor((2 + third) / 2))
    assert known.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("transform", ["none", "linear"])
def test_targets_bring_dead_codes_back(transform: str) -> None:
    quantizer = make(f"stablevq(window=2, dead_code_patience=0, transform={transform})")
    with torch.no_grad():
        codes = quantizer.table().clone()
        codes[8:] += 3
        quantizer.table.place(codes)
    z = latents(400)
    assert quantizer.eval().encode(z).unique().numel() <= 9
    train(quantizer, z, 300)
    assert quantizer.encode(z).unique().numel() == 16


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError):
        make("optvq(epsilon=0)")
