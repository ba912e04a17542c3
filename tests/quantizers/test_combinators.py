"""Residual and product: what reaches the decoder, and what gradient reaches latents and codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenizer import quantizers
from tokenizer.errors import ConfigError
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.diveq import DiVeQ, DiVeQDetach
from tokenizer.quantizers.search import nearest


def made(text: str, dim: int, seed: int = 0, **options: Any) -> Quantizer:
    torch.manual_seed(seed)
    return quantizers.build_quantizer({"name": text, "codebook_size": 8, **options}, dim).train()


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codebooks(quantizer: Quantizer) -> list[torch.Tensor]:
    return [part.table.weight for part in quantizer.stages]


def place(quantizer: Quantizer, *codes: list[list[float]]) -> Quantizer:
    for stage, rows in zip(quantizer.stages, codes, strict=True):
        stage.table.place(torch.tensor(rows))
    return quantizer


def test_each_stage_codes_what_those_before_left_over() -> None:
    # 13.2: of 0 and 10 the nearest is 10; of 0 and 3, for what is left, 3; of -0.5 and 0.5 0.5: 13.5.
    quantizer = made("residual(3*ste)", 1, codebook_size=2)
    place(quantizer, [[0.0], [10.0]], [[0.0], [3.0]], [[-0.5], [0.5]])
    tokens = quantizer.encode(torch.tensor([[13.2], [1.4]]))
    assert tokens.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert quantizer.decode(tokens).tolist() == [[13.5], [0.5]]
    assert quantizer.prefixes == (1, 2, 3)
    assert quantizer.decode(tokens[:, :2]).tolist() == [[13.0], [0.0]]
    assert quantizer.decode(tokens[:, :1]).tolist() == [[10.0], [0.0]]


def summed(z: torch.Tensor, tables: list[torch.Tensor]) -> torch.Tensor:
    """Return the sum of the codes that each stage of a residual chooses, with the tables' gradient."""
    total = torch.zeros_like(z)
    for table in tables:
        total = total + table[nearest(z.detach() - total.detach(), table)]
    return total


def side_by_side(z: torch.Tensor, tables: list[torch.Tensor]) -> torch.Tensor:
    parts = z.detach().chunk(len(tables), dim=1)
    return torch.cat([table[nearest(part, table)] for part, table in zip(parts, tables, strict=True)], dim=1)


@pytest.mark.parametrize("text", ["3*diveq(noise_std=0.2)", "3*diveq-detach", "2*diveq-detach(alpha=2)", "2*nsvq"])
@pytest.mark.parametrize(("combinator", "join"), [("residual", summed), ("product", side_by_side)])
def test_stages_of_the_diveq_family_take_one_step_on_the_whole_error(text: str, combinator: str, join: Any) -> None:
    quantizer = made(f"{combinator}({text})", 6)
    z, g = normal(40, 6, seed=1).requires_grad_(), normal(40, 6, seed=2)
    torch.manual_seed(3)
    result = quantizer(z)
    (result.vectors * g).sum().backward()

    again = z.detach().clone().requires_grad_()
    tables = [table.detach().clone().requires_grad_() for table in codebooks(quantizer)]
    torch.manual_seed(3)
    wanted = quantizer.stages[0].estimate(again, join(again, tables))
    (wanted * g).sum().backward()
    torch.testing.assert_close(result.vectors, wanted)
    torch.testing.assert_close(z.grad, again.grad)
    for table, other in zip(codebooks(quantizer), tables, strict=True):
        torch.testing.assert_close(table.grad, other.grad)
    assert result.loss == 0


def test_the_one_step_of_diveq_detach_by_hand() -> None:
    # z = (1, 2), codes (3, 0) and (1, 6) add up to (4, 6): e = (3, 4), as for one codebook. Each code gets u u^T g.
    quantizer = place(made("residual(2*diveq-detach)", 2, codebook_size=1), [[3.0, 0.0]], [[1.0, 6.0]])
    z = torch.tensor([[1.0, 2.0]], requires_grad=True)
    vectors = quantizer(z).vectors
    vectors.backward(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(vectors.detach(), torch.tensor([[4.0, 6.0]]))
    torch.testing.assert_close(z.grad, torch.tensor([[0.64, -0.48]]))
    for table in codebooks(quantizer):
        torch.testing.assert_close(table.grad, torch.tensor([[0.36, 0.48]]))


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        ("diveq", "diveq(codebook_size=4, dead_code_patience=3, transform=linear)", True),
        ("diveq", "diveq(noise_std=0.5)", False),
        ("diveq", "diveq-detach", False),
        ("diveq-detach", "diveq-detach(alpha=2)", False),
        ("ste", "ste", False),
        ("sf-diveq", "sf-diveq", False),
    ],
)
def test_one_step_is_taken_by_stages_of_one_method_with_equal_settings(first: str, second: str, one: bool) -> None:
    assert quantizers.combinators.is_one_step(list(made(f"residual({first}, {second})", 4).stages)) is one


@pytest.mark.parametrize(
    "text", ["residual(3*ste)", "residual(3*ema)", "product(2*ste)", "residual(ste, product(2*ste))"]
)
def test_straight_through_stages_pass_the_gradient_once(text: str) -> None:
    quantizer = made(text, 6)
    z, g = normal(30, 6, seed=1).requires_grad_(), normal(30, 6, seed=2)
    tokens = quantizer.encode(z)
    wanted = quantizer.decode(tokens).detach()
    vectors = quantizer(z).vectors
    vectors.backward(g)
    torch.testing.assert_close(vectors.detach(), wanted)
    torch.testing.assert_close(z.grad, g)


def test_the_losses_of_the_stages_add_up() -> None:
    # z = 13: gaps 3 and 3 - 5 = -2, each squared once for the code and a quarter for the latent: 1.25 (9 + 4).
    quantizer = place(made("residual(2*ste)", 1, codebook_size=1), [[10.0]], [[5.0]])
    z = torch.tensor([[13.0]], requires_grad=True)
    loss = quantizer(z).loss
    assert float(loss.detach()) == 1.25 * 13
    loss.backward()
    # Codes: 2 (10 - 13) and 2 (5 - 3), each stage on what it sees. Latent: 0.25 (2 * 3 - 2 * 2) = 0.5.
    assert [float(table.grad) for table in codebooks(quantizer)] == [-6, 4]
    assert float(z.grad) == 0.5


def test_mixed_stages_make_a_step_each() -> None:
    # diveq-detach from z to c1: u1 u1^T g for c1. ste: the second code learns by its loss alone, and what it sees
    # is z - c1 without c1's gradient. The latent gets (I - u1 u1^T) g, and the identity's gradient once.
    quantizer = made("residual(diveq-detach, ste(beta=0))", 4)
    z, g = normal(30, 4, seed=1).requires_grad_(), normal(30, 4, seed=2)
    first, second = codebooks(quantizer)
    result = quantizer(z)
    c1 = first.detach()[result.tokens[:, 0]]
    c2 = second.detach()[result.tokens[:, 1]]
    torch.testing.assert_close(result.vectors.detach(), c1 + c2)
    (result.vectors * g).sum().backward()
    u = torch.nn.functional.normalize(c1 - z.detach(), dim=1)
    along = (g * u).sum(dim=1, keepdim=True) * u
    torch.testing.assert_close(z.grad, g - along)
    torch.testing.assert_close(first.grad, torch.zeros(8, 4).index_add_(0, result.tokens[:, 0], along))
    assert second.grad is None


def test_two_steps_of_different_noise_by_hand() -> None:
    # Two diveq-detach steps with different alpha: the latent gets g - u1 u1^T g - 2 u2 u2^T g.
    quantizer = made("residual(diveq-detach, diveq-detach(alpha=2))", 3, codebook_size=1)
    place(quantizer, [[3.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]])
    z = torch.zeros(1, 3, requires_grad=True)
    # u1 = (1, 0, 0); what is left is (-3, 0, 0), and from there to (0, 4, 0) u2 = (0.6, 0.8, 0).
    vectors = quantizer(z).vectors
    vectors.backward(torch.tensor([[1.0, 1.0, 1.0]]))
    torch.testing.assert_close(vectors.detach(), torch.tensor([[3.0, 4.0, 0.0]]))
    torch.testing.assert_close(z.grad, torch.tensor([[1 - 1 - 2 * 1.4 * 0.6, 1 - 2 * 1.4 * 0.8, 1.0]]))
    first, second = codebooks(quantizer)
    torch.testing.assert_close(first.grad, torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(second.grad, torch.tensor([[2 * 1.4 * 0.6, 2 * 1.4 * 0.8, 0.0]]))


@pytest.mark.parametrize(
    "late", ["gumbel", "ibq", "fsq", "product(2*gumbel)", "residual(gumbel, ste)", "product(gumbel, ste)"]
)
@pytest.mark.parametrize("first", ["ste", "multiscale(ste, scales=1)"])
def test_a_later_stage_without_an_identity_adds_none_and_takes_none(first: str, late: str) -> None:
    quantizer = made(f"residual({first}, {late})", 6)
    z, g = normal(30, 6, seed=1).requires_grad_(), normal(30, 6, seed=2)
    quantizer(z).vectors.backward(g)
    torch.testing.assert_close(z.grad, g)


def test_a_first_stage_without_an_identity_keeps_its_own_gradient() -> None:
    quantizer, alone = made("residual(gumbel(noise=false), ste)", 6), made("gumbel", 6, noise=False)
    alone.table.place(codebooks(quantizer)[0])
    z, g = normal(30, 6, seed=1).requires_grad_(), normal(30, 6, seed=2)
    quantizer(z).vectors.backward(g)
    again = z.detach().clone().requires_grad_()
    alone(again).vectors.backward(g)
    torch.testing.assert_close(z.grad, again.grad)


def test_a_product_is_its_stages_side_by_side() -> None:
    quantizer = place(made("product(2*ste)", 4, codebook_size=2), [[0.0, 0.0], [9.0, 9.0]], [[1.0, 1.0], [5.0, 5.0]])
    tokens = quantizer.encode(torch.tensor([[8.0, 7.0, 1.0, 2.0]]))
    assert tokens.tolist() == [[1, 0]]
    assert quantizer.decode(tokens).tolist() == [[9, 9, 1, 1]]
    assert quantizer.sizes == (2, 2)
    assert quantizer.prefixes == (2,)


def test_a_product_of_other_methods_trains_each_part_by_itself() -> None:
    quantizer = made("product(ste, gumbel)", 6)
    z = normal(20, 6, seed=1)
    torch.manual_seed(5)
    result = quantizer(z)
    torch.manual_seed(5)
    left, right = quantizer.stages[0](z[:, :3]), quantizer.stages[1](z[:, 3:])
    torch.testing.assert_close(result.vectors[:, :3], left.vectors)
    assert torch.equal(result.tokens, torch.cat([left.tokens, right.tokens], dim=1))
    torch.testing.assert_close(result.loss, left.loss + right.loss, rtol=1e-3, atol=0)


def test_a_product_normalizes_each_part() -> None:
    # (3, 4) and (0, 2): each part has length 1, so their product sqrt(2).
    quantizer = made("product(2*diveq, normalize=sphere)", 4)
    z = torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    torch.testing.assert_close(quantizer.prepare(z), torch.tensor([[0.6, 0.8, 0.0, 1.0]]))
    assert torch.equal(quantizer.encode(z), quantizer.encode(quantizer.prepare(z)))
    torch.testing.assert_close(quantizer(z).vectors.norm(), torch.tensor(2.0).sqrt(), rtol=1e-2, atol=0)


def test_the_one_step_of_a_product_starts_from_the_normalized_latent() -> None:
    quantizer = made("product(2*diveq-detach, normalize=sphere)", 4)
    z, g = normal(20, 4, seed=1).requires_grad_(), normal(20, 4, seed=2)
    result = quantizer(z)
    result.vectors.backward(g)
    again = z.detach().clone().requires_grad_()
    parts = torch.nn.functional.normalize(again.unflatten(1, (2, 2)), dim=2).flatten(1)
    DiVeQDetach(4, codebook_size=1).estimate(parts, quantizer.decode(result.tokens).detach()).backward(g)
    torch.testing.assert_close(z.grad, again.grad)


@pytest.mark.parametrize("method", ["diveq-detach", "ste"])
def test_drop_gives_its_share_of_samples_each_shorter_length(method: str) -> None:
    # Stages of one code each, 1, 10 and 100: a sum says how many were kept. Of a share of 0.6, half keep one stage
    # and half keep two. A binomial share of 20,000 strays less than 0.02.
    quantizer = made(f"residual(3*{method}, drop=0.6)", 1, codebook_size=1)
    place(quantizer, [[1.0]], [[10.0]], [[100.0]])
    vectors = quantizer(torch.zeros(20_000, 2, 1)).vectors.detach()
    assert torch.equal(vectors[:, 0], vectors[:, 1]), "a sample is dropped as a whole"
    for value, share in ((1, 0.3), (11, 0.3), (111, 0.4)):
        assert float(vectors[:, 0].isclose(torch.tensor(float(value))).float().mean()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("method", ["diveq-detach", "ste(beta=0)"])
def test_a_dropped_stage_gets_no_gradient_from_the_vectors(method: str) -> None:
    quantizer = made(f"residual(2*{method}, drop=1)", 3)
    z, g = normal(50, 3, seed=1).requires_grad_(), normal(50, 3, seed=2)
    result = quantizer(z)
    assert result.tokens.shape == (50, 2), "tokens are those of all stages"
    (result.vectors * g).sum().backward()
    first, second = codebooks(quantizer)
    torch.testing.assert_close(result.vectors.detach(), first.detach()[result.tokens[:, 0]])
    assert second.grad is None or not second.grad.any()
    if method != "diveq-detach":
        torch.testing.assert_close(z.grad, g)


def test_nothing_is_dropped_in_evaluation_or_of_one_stage() -> None:
    quantizer = made("residual(2*ste, drop=1)", 3)
    z = normal(50, 3, seed=1)
    random = torch.get_rng_state()
    assert torch.equal(quantizer.eval()(z).vectors, quantizer.decode(quantizer.encode(z)))
    assert torch.equal(random, torch.get_rng_state())
    single = made("residual(ste, drop=1)", 3)
    torch.testing.assert_close(single(z).vectors, single.decode(single.encode(z)))


def test_initialize_starts_each_stage_on_what_is_left() -> None:
    # Clusters at 0 and 100, each of two at -1 and +1: the first stage finds the clusters, the second the rest.
    torch.manual_seed(0)
    z = (100.0 * (torch.arange(400) % 2) + 2.0 * (torch.arange(400) // 2 % 2) - 1)[:, None]
    quantizer = made("residual(2*ste)", 1, codebook_size=2)
    quantizer.initialize(z)
    first, second = codebooks(quantizer)
    assert sorted(first.flatten().tolist()) == [0, 100]
    assert sorted(second.flatten().tolist()) == [-1, 1]
    product = made("product(2*ste)", 2, codebook_size=2)
    product.initialize(torch.cat([z, -3 * z], dim=1)[: 2 * 200 : 1])
    assert sorted(round(v) for v in codebooks(product)[1].flatten().tolist()) == [-300, 0]


def test_dead_codes_are_replaced_in_every_stage() -> None:
    quantizer = made("residual(diveq, product(2*diveq), dead_code_patience=1)", 4)
    quantizer(normal(2, 4, seed=1))
    changes = quantizer.replace_dead_codes()
    assert len(changes) == 3
    assert all(change.rows.sum() >= 6 for change in changes), "two latents choose at most two of eight codes"


@pytest.mark.parametrize(
    ("text", "dim", "message"),
    [
        ("residual(2*ste, normalize=sphere)", 4, "cannot normalize"),
        ("residual(ste, product(2*ste, normalize=rms))", 4, "cannot normalize"),
        ("residual(2*ste, drop=1.5)", 4, "drop is 1.5, expected 0 to 1"),
        ("residual(ste, multiscale(ste, scales=1 2))", 4, "blocks of one size"),
        ("product(3*ste)", 4, "4 wide cannot be cut into 3"),
        ("product(2*multiscale(ste, scales=1 2))", 4, "cannot work in blocks"),
    ],
)
def test_what_cannot_be_combined_says_so(text: str, dim: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantizers.build_quantizer(quantizers.read_spec(text), dim)


def test_a_combinator_without_stages_is_refused() -> None:
    for name in ("residual", "product", "multiscale"):
        with pytest.raises(ConfigError):
            quantizers.build_quantizer({"name": name, "stages": []}, 4)


@pytest.mark.parametrize(
    ("text", "wanted", "width"),
    [
        ("diveq", 6, 6),
        ("product(4*diveq)", 6, 8),
        ("product(2*product(3*diveq))", 7, 12),
        ("residual(product(2*diveq), product(3*diveq))", 7, 12),
        ("multiscale(product(2*diveq), scales=1 2)", 5, 6),
    ],
)
def test_width_is_the_least_that_all_parts_can_work_with(text: str, wanted: int, width: int) -> None:
    spec = quantizers.read_spec(text)
    assert quantizers.fitting_width(spec, wanted) == width
    assert quantizers.build_quantizer(spec, width).dim % width == 0


def test_the_step_of_a_residual_is_that_of_its_method() -> None:
    assert isinstance(made("residual(2*diveq)", 4).stages[0], DiVeQ)
    assert isinstance(made("residual(2*diveq-detach)", 4).stages[0], DiVeQDetach)
