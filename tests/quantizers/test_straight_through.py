"""VQ-VAE, its moving averages and the rotation trick against numbers made by hand, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from tokenizer.quantizers import MovingAverages
from tokenizer.quantizers.straight_through import EMA, STE, Rotation

# Two latents of width 2 and their codes: gaps q - z are (1, -2) and (0, 3), so the mean square is 14 / 4 = 3.5.
Z = [[1.0, 2.0], [-1.0, 0.0]]
Q = [[2.0, 0.0], [-1.0, 3.0]]


def leaves() -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (Z, Q))  # type: ignore[return-value]


def test_ste_gives_the_code_and_copies_the_gradient() -> None:
    z, q = leaves()
    g = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    out = STE(2, codebook_size=4).estimate(z, q)
    assert out.tolist() == Q
    out.backward(g)
    assert torch.equal(z.grad, g)
    assert q.grad is None


@pytest.mark.parametrize("beta", [0.25, 1.0, 0.0])
def test_the_two_losses_of_ste_and_their_gradients(beta: float) -> None:
    # Codes: d mean (q - z)^2 / dq = 2 (q - z) / 4 = (0.5, -1), (0, 1.5). Latents: the opposite, times beta.
    z, q = leaves()
    loss = STE(2, codebook_size=4, beta=beta).auxiliary_loss(z, q)
    assert float(loss.detach()) == 3.5 + beta * 3.5
    loss.backward()
    assert q.grad.tolist() == [[0.5, -1.0], [0.0, 1.5]]
    assert z.grad.tolist() == [[-0.5 * beta, 1.0 * beta], [0.0, -1.5 * beta]]


def test_five_latents_share_the_gradient_of_the_codes_they_chose() -> None:
    # Codes 0, 10 and 20; latents 1, 2, 12, 9, 4 choose 0, 0, 1, 1, 0. Mean over 5: the gradient of code 0 is
    # 2 / 5 ((0 - 1) + (0 - 2) + (0 - 4)) = -2.8, of code 1 2 / 5 ((10 - 12) + (10 - 9)) = -0.4, of code 2 none.
    made = STE(1, codebook_size=3).train()
    with torch.no_grad():
        made.table.weight.copy_(torch.tensor([[0.0], [10.0], [20.0]]))
    result = made(torch.tensor([[1.0], [2.0], [12.0], [9.0], [4.0]]))
    assert result.tokens.flatten().tolist() == [0, 0, 1, 1, 0]
    result.loss.backward()
    torch.testing.assert_close(made.table.weight.grad, torch.tensor([[-2.8], [-0.4], [0.0]]))


def test_a_learned_beta_starts_there_and_settles_at_half_the_inverse_distance() -> None:
    # b d - log(b) / 2 has its least at b = 1 / (2 d): 1 / 7 for the distance of 3.5, where the loss is (1 + log 7) / 2.
    z, q = leaves()
    made = STE(2, codebook_size=4, beta=0.25, learn_beta=True).double()
    start = made.commitment_loss(z, q)
    assert float(start.detach()) == pytest.approx(0.25 * 3.5 - math.log(0.25) / 2, abs=1e-6)
    (slope,) = torch.autograd.grad(start, made.log_beta)
    assert float(slope) == pytest.approx(0.25 * 3.5 - 0.5, abs=1e-6)
    optimizer = torch.optim.SGD([made.log_beta], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        made.commitment_loss(z, q).backward()
        optimizer.step()
    assert float(made.log_beta.detach().exp()) == pytest.approx(1 / 7, rel=1e-9)
    assert float(made.commitment_loss(z, q).detach()) == pytest.approx((1 + math.log(7)) / 2, rel=1e-9)


def test_a_beta_that_cannot_be_is_refused() -> None:
    for options in ({"beta": -1.0}, {"beta": 0.0, "learn_beta": True}):
        with pytest.raises(ValueError, match="beta is"):
            STE(2, codebook_size=4, **options)
    with pytest.raises(ValueError, match="decay is 1"):
        EMA(2, codebook_size=4, decay=1.0)


def test_ema_has_the_commitment_loss_alone_and_no_gradient_at_its_codes() -> None:
    z, q = leaves()
    made = EMA(2, codebook_size=4)
    loss = made.auxiliary_loss(z, q)
    assert float(loss.detach()) == 0.25 * 3.5
    loss.backward()
    assert q.grad is None
    assert not any(parameter.requires_grad for parameter in made.parameters())


def ema(codes: list[float], decay: float, patience: int = 0) -> EMA:
    made = EMA(1, codebook_size=len(codes), decay=decay, dead_code_patience=patience).double().train()
    made.table.place(torch.tensor(codes, dtype=torch.float64)[:, None])
    made.averages.restart(made.table())
    return made


def note(made: EMA, latents: list[float], chosen: list[int]) -> list[float]:
    z, index = torch.tensor(latents, dtype=torch.float64)[:, None], torch.tensor(chosen, dtype=torch.int64)
    made.observe(z, made.table()[index].detach(), index)
    return made.table().flatten().tolist()


def test_three_steps_of_the_moving_averages_by_hand() -> None:
    # Decay 0.5, codes 0 and 10, each as if one latent had chosen it: sums 0 and 10, counts 1 and 1.
    # 1. Latents 1, 3 -> 0 and 9 -> 1: sums 0 + 4/2 = 2 and 5 + 9/2 = 9.5, counts 0.5 + 2/2 = 1.5 and 0.5 + 1/2 = 1.
    # 2. Latents 2 -> 0 and 8, 10 -> 1: sums 1 + 1 = 2 and 4.75 + 9 = 13.75, counts 0.75 + 0.5 = 1.25 and 0.5 + 1 = 1.5.
    # 3. Latents 0, 0 -> 0: sums 1 and 6.875, counts 0.625 + 1 = 1.625 and 0.75.
    made, eps = ema([0.0, 10.0], decay=0.5), 1e-5
    steps = [([1.0, 3.0, 9.0], [0, 0, 1]), ([2.0, 8.0, 10.0], [0, 1, 1]), ([0.0, 0.0], [0, 0])]
    after = [((2.0, 9.5), (1.5, 1.0)), ((2.0, 13.75), (1.25, 1.5)), ((1.0, 6.875), (1.625, 0.75))]
    for (latents, chosen), (sums, counts) in zip(steps, after, strict=True):
        codes = note(made, latents, chosen)
        assert made.averages.sums.flatten().tolist() == list(sums)
        assert made.averages.counts.tolist() == list(counts)
        total = sum(counts)
        smooth = [(count + eps) / (total + 2 * eps) * total for count in counts]
        assert codes == pytest.approx([s / n for s, n in zip(sums, smooth, strict=True)], rel=1e-14)
        assert codes == pytest.approx([s / n for s, n in zip(sums, counts, strict=True)], rel=1e-4)


def test_a_code_that_was_never_counted_stays_where_it_is() -> None:
    made = EMA(1, codebook_size=3, decay=0.5).double()
    made.table.place(torch.tensor([[0.0], [10.0], [-77.0]], dtype=torch.float64))
    assert note(made, [2.0, 12.0], [0, 1]) == pytest.approx([2.0, 12.0, -77.0], rel=1e-4)


def test_a_code_that_fades_out_never_runs_away() -> None:
    # Smoothed counts: sums of 0.5^n over counts of 0.5^n would stay at 10, over a count of eps they go to 0.
    made = ema([0.0, 10.0], decay=0.5)
    for _ in range(60):
        codes = note(made, [1.0, 1.0], [0, 0])
        assert -1e-3 <= codes[1] <= 10.001


@pytest.mark.parametrize("kind", [EMA, Rotation])
def test_a_replaced_code_stays_where_it_was_put(kind: type[EMA | Rotation]) -> None:
    """A fault of public code: stale sums put a replaced code back, or far out, one step after it was replaced."""
    options = {"update": "ema"} if kind is Rotation else {}
    made = kind(2, codebook_size=3, decay=0.9, dead_code_patience=4, **options).train()
    made.table.place(torch.tensor([[0.0, 0.0], [1.0, 1.0], [900.0, 900.0]]))
    made.averages.restart(made.table())
    z = torch.tensor([[0.1, 0.0], [-0.1, 0.0], [1.2, 1.0], [5.0, 5.0]])
    for step in range(4):
        made(z)
        (change,) = made.replace_dead_codes()
        assert change.rows.tolist() == [False, False, step == 3]
    put = made.table()[2].clone()
    assert put.norm() < 10
    for _ in range(3):  # no latent chooses it: they are all at the other two codes
        made(torch.zeros(4, 2))
        torch.testing.assert_close(made.table()[2], put, rtol=1e-3, atol=0)


def test_restart_takes_each_code_for_one_latent() -> None:
    averages = MovingAverages(3, 1, decay=0.9)
    averages.add(torch.tensor([[2.0], [4.0]]), torch.tensor([0, 0]))
    averages.restart(torch.tensor([[7.0], [8.0], [9.0]]), torch.tensor([False, False, True]))
    torch.testing.assert_close(averages.sums, torch.tensor([[0.6], [0.0], [9.0]]))
    torch.testing.assert_close(averages.counts, torch.tensor([0.2, 0.0, 1.0]))
    averages.restart(torch.tensor([[7.0], [8.0], [9.0]]))
    assert averages.sums.flatten().tolist() == [7, 8, 9]
    assert averages.counts.tolist() == [1, 1, 1]


def test_averages_are_not_part_of_a_checkpoint() -> None:
    assert list(EMA(2, codebook_size=4).state_dict()) == ["table.weight"]


def rotation(u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the (D, D) rotation of unit vector u onto unit vector t in their plane: Rodrigues' formula."""
    spin = torch.outer(t, u) - torch.outer(u, t)
    return torch.eye(len(u), dtype=u.dtype) + spin + spin @ spin / (1 + u @ t)


def test_rotation_gives_the_code_and_turns_and_scales_the_gradient() -> None:
    torch.manual_seed(0)
    z = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    q = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    g = torch.randn(20, 5, dtype=torch.float64)
    out = Rotation(5, codebook_size=1).estimate(z, q)
    assert torch.equal(out.detach(), q.detach())
    out.backward(g)
    assert q.grad is None
    for row in range(20):
        a, b = z[row].detach(), q[row].detach()
        matrix = rotation(a / a.norm(), b / b.norm())
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(5, dtype=torch.float64))
        assert float(torch.linalg.det(matrix)) == pytest.approx(1)
        torch.testing.assert_close(b.norm() / a.norm() * matrix @ a, b)
        torch.testing.assert_close(z.grad[row], b.norm() / a.norm() * matrix.T @ g[row])


def test_rotation_by_a_right_angle_by_hand() -> None:
    # From (2, 0) to (0, 6): R turns by 90 degrees, the scale is 3. R^T turns g = (0, 1) back to (1, 0), scaled (3, 0).
    z = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    out = Rotation(2, codebook_size=1).estimate(z, torch.tensor([[0.0, 6.0]], dtype=torch.float64))
    out.backward(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(z.grad, torch.tensor([[3.0, 0.0]], dtype=torch.float64))


def test_rotation_keeps_the_angle_between_gradient_and_vector() -> None:
    torch.manual_seed(1)
    z, q, g = torch.randn(3, 50, 4, dtype=torch.float64).unbind(0)
    z.requires_grad_()
    Rotation(4, codebook_size=1).estimate(z, q).backward(g)
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(z.grad, z, dim=1), cosine(g, q, dim=1))


@pytest.mark.parametrize(
    ("latent", "code"),
    [((1.0, 2.0), (-2.0, -4.0)), ((0.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (0.0, 0.0)), ((0.0, 0.0), (0.0, 0.0))],
    ids=["opposite", "zero latent", "zero code", "both zero"],
)
def test_rotation_is_finite_where_no_rotation_is_defined(latent: tuple[float, ...], code: tuple[float, ...]) -> None:
    z, q = torch.tensor([latent], requires_grad=True), torch.tensor([code])
    out = Rotation(2, codebook_size=1).estimate(z, q)
    assert torch.equal(out.detach(), q)
    out.sum().backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().max() < 1e7


def test_rotation_has_the_losses_of_the_update_it_was_given() -> None:
    z, q = leaves()
    assert float(Rotation(2, codebook_size=4).auxiliary_loss(z, q).detach()) == 1.25 * 3.5
    assert float(Rotation(2, codebook_size=4, update="ema").auxiliary_loss(z, q).detach()) == 0.25 * 3.5
