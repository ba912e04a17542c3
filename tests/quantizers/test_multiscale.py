"""Coarse grids before fine ones: the two maps between grids by hand, and blocks of two scales by hand."""

from __future__ import annotations

import pytest
import torch

from tokenizer import quantizers
from tokenizer.errors import ConfigError
from tokenizer.models.tokenizer import depth_to_space, space_to_depth
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.multiscale import Multiscale, _averaging, _spreading


def made(text: str, dim: int = 1, codebook_size: int = 2) -> Multiscale:
    torch.manual_seed(0)
    quantizer = quantizers.build_quantizer({"name": text, "codebook_size": codebook_size}, dim)
    assert isinstance(quantizer, Multiscale)
    return quantizer.train()


def place(quantizer: Multiscale, *codes: list[float]) -> Multiscale:
    for stage, values in zip(quantizer.stages, codes, strict=True):
        stage.table.place(torch.tensor(values)[:, None])
    return quantizer


def test_averages_over_squares_by_hand() -> None:
    assert _averaging(2, 1).tolist() == [[0.25] * 4]
    assert _averaging(2, 2).tolist() == torch.eye(4).tolist()
    # A block of 4 x 4, rows one after the other, on 2 x 2: each square is two neighbors of two rows.
    rows = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    wanted = [[0.25 if place in row else 0.0 for place in range(16)] for row in rows]
    assert _averaging(4, 2).tolist() == wanted


def test_bilinear_spreading_by_hand() -> None:
    assert _spreading(1, 2).tolist() == [[1.0]] * 4
    assert _spreading(2, 2).tolist() == torch.eye(4).tolist()
    # Along one side, 2 codes on 4 places: their centers lie at 0.5 and 2.5, the places at 0, 1, 2 and 3.
    side = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
    torch.testing.assert_close(_spreading(2, 4), torch.kron(side, side))


@pytest.mark.parametrize(("side", "block"), [(1, 4), (2, 4), (2, 6), (3, 6), (4, 8)])
def test_a_flat_block_stays_flat(side: int, block: int) -> None:
    torch.testing.assert_close(_averaging(block, side).sum(dim=1), torch.ones(side**2))
    torch.testing.assert_close(_spreading(side, block).sum(dim=1), torch.ones(block**2))


def test_a_block_lies_in_the_latent_as_the_model_folds_it() -> None:
    image = torch.randn(2, 8, 12, 3, generator=torch.Generator().manual_seed(0))
    blocks = space_to_depth(image, 4)
    grid = (_averaging(4, 2) @ blocks.unflatten(-1, (16, 3))).flatten(-2)
    pooled = torch.nn.functional.avg_pool2d(image.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(depth_to_space(grid, 2), pooled)


def test_two_scales_by_hand() -> None:
    # The mean of (9, 11, 9, 11) is 10: code 1 of 0 and 10. What is left, (-1, 1, -1, 1), is exactly codes 0 and 1.
    quantizer = place(made("multiscale(2*ste, scales=1 2)"), [0.0, 10.0], [-1.0, 1.0])
    assert (quantizer.dim, quantizer.block, quantizer.sizes) == (4, 2, (2,) * 5)
    z = torch.tensor([[9.0, 11.0, 9.0, 11.0], [0.5, 2.0, -3.0, 0.1]])
    tokens = quantizer.encode(z)
    assert tokens.tolist() == [[1, 0, 1, 0, 1], [0, 1, 1, 0, 1]]
    assert quantizer.decode(tokens).tolist() == [[9, 11, 9, 11], [1, 1, -1, 1]]
    assert quantizer.prefixes == (1, 5)
    assert quantizer.decode(tokens[:, :1]).tolist() == [[10] * 4, [0] * 4]


def test_three_scales_with_one_stage_for_all() -> None:
    # Codes 0, 4 and 1: the mean of the first 2 x 2 square of 16 is 4 more than the others', all means are 1.
    quantizer = place(made("multiscale(ste, scales=1 2 4)", codebook_size=3), [0.0, 4.0, 1.0])
    assert quantizer.prefixes == (1, 5, 21)
    assert quantizer.sizes == (3,) * 21
    assert len(list(quantizer.parameters())) == 1
    z = torch.zeros(1, 4, 4, 1)
    z[:, :2, :2] = 4.0
    tokens = quantizer.encode(space_to_depth(z, 4).flatten(0, 2))
    # 4 / 4 = 1 on average; less that, the squares are 3 and -1: the nearest codes 4 and 0.
    assert tokens[0, :5].tolist() == [2, 1, 0, 0, 0]
    side = torch.tensor([1.0, 0.75, 0.25, 0.0])
    wanted = 1 + 4 * torch.outer(side, side)
    torch.testing.assert_close(quantizer.decode(tokens[:, :5]).unflatten(-1, (4, 4))[0], wanted)
    left = z[0, :, :, 0] - wanted
    nearest = torch.cdist(left.reshape(-1, 1), torch.tensor([[0.0], [4.0], [1.0]])).argmin(dim=1)
    assert torch.equal(tokens[0, 5:], nearest)


def test_the_codes_of_a_position_of_a_grid_lie_together() -> None:
    # A stage of two codes each: first both of one position, then both of the next.
    quantizer = made("multiscale(residual(2*ste), scales=2)", codebook_size=4)
    z = torch.randn(3, 4)
    tokens = quantizer.encode(z)
    assert tokens.shape == (3, 8)
    stage = quantizer.stages[0]
    assert isinstance(stage, Quantizer)
    for place_ in range(4):
        assert torch.equal(tokens[:, 2 * place_ : 2 * place_ + 2], stage.encode(z[:, place_, None]))


@pytest.mark.parametrize("text", ["2*ste", "ste, gumbel", "2*ema", "ibq", "ste, residual(gumbel, ste)"])
def test_the_gradient_of_the_vectors_reaches_each_latent_once(text: str) -> None:
    quantizer = made(f"multiscale({text}, scales=1 2)", dim=3)
    z = torch.randn(20, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
    g = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    quantizer(z).vectors.backward(g)
    torch.testing.assert_close(z.grad, g)


def test_diveq_stages_turn_the_gradient_as_their_own_steps_do() -> None:
    # Codes 1 and 0 of one number each: u is 1 or -1, so a step passes the code all of the gradient and the latent
    # none. One grid of one code for a block of four: the code gets the sum of g, the latents g less its mean.
    quantizer = place(made("multiscale(diveq-detach, scales=2)", codebook_size=1), [1.0])
    z, g = torch.zeros(1, 4, requires_grad=True), torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    quantizer(z).vectors.backward(g)
    torch.testing.assert_close(z.grad, torch.zeros(1, 4))
    torch.testing.assert_close(quantizer.stages[0].table.weight.grad, torch.tensor([[12.0]]))
    quantizer = place(made("multiscale(diveq-detach, ste(beta=0), scales=1 2)", codebook_size=1), [1.0], [0.0])
    z = torch.zeros(1, 4, requires_grad=True)
    quantizer(z).vectors.backward(g)
    torch.testing.assert_close(z.grad, g - 3)
    torch.testing.assert_close(quantizer.stages[0].table.weight.grad, torch.tensor([[12.0]]))


def test_training_gives_the_vectors_of_the_tokens_where_steps_are_exact() -> None:
    for text in (
        "multiscale(2*ste, scales=1 2)",
        "multiscale(2*diveq-detach, scales=1 2)",
        "multiscale(2*ema, scales=1 2)",
    ):
        quantizer = made(text, dim=3, codebook_size=16)
        z = torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
        tokens = quantizer.encode(z)
        wanted = quantizer.decode(tokens).detach()
        result = quantizer(z)
        assert torch.equal(result.tokens, tokens)
        torch.testing.assert_close(result.vectors.detach(), wanted)


def test_initialize_starts_each_grid_on_what_the_coarser_leave() -> None:
    # Blocks around 0 and 100 with -1 and 1 in them.
    torch.manual_seed(0)
    coarse = 100.0 * (torch.arange(200) % 2)
    z = coarse[:, None] + torch.tensor([-1.0, 1.0, 1.0, -1.0])
    quantizer = made("multiscale(2*ste, scales=1 2)")
    quantizer.initialize(z)
    assert sorted(quantizer.stages[0].table().flatten().tolist()) == [0, 100]
    assert sorted(quantizer.stages[1].table().flatten().tolist()) == [-1, 1]
    assert torch.equal(quantizer.decode(quantizer.encode(z)), z)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("multiscale(2*ste, scales=2 1)", "ascending divisors of the last"),
        ("multiscale(2*ste, scales=2 3)", "ascending divisors of the last"),
        ("multiscale(2*ste, scales=0 2)", "ascending divisors of the last"),
        ("multiscale(2*ste, scales=1 2 4)", "2 stages for 3 scales"),
        ("multiscale(2*ste, normalize=rms)", "nor normalize"),
        ("multiscale(product(2*ste, normalize=rms), scales=1)", "nor normalize"),
        ("multiscale(multiscale(ste, scales=1 2), scales=1 2)", "work in blocks"),
    ],
)
def test_what_cannot_be_made_says_so(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantizers.build_quantizer(quantizers.read_spec(text), 4)


def test_half_of_a_grid_is_no_prefix() -> None:
    quantizer = made("multiscale(ste, scales=1 2)")
    with pytest.raises(ValueError, match="tokens hold 3 codes per position, this quantizer takes 1 or 5"):
        quantizer.decode(torch.zeros(2, 3, dtype=torch.int64))
