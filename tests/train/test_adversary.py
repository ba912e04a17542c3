"""The discriminator, its losses, and when they count."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from tokenizer.config import TrainConfig
from tokenizer.train.adversary import Adversary, adaptive_weight, adversarial_ramp
from tokenizer.train.discriminator import Discriminator, hinge_loss, lecam_penalty

CPU = torch.device("cpu")


@pytest.fixture
def config(quick: TrainConfig) -> TrainConfig:
    return dataclasses.replace(quick, loss={"l2": 1.0, "adversarial": 0.5}, adversarial_after=0.0)


def test_hinge_by_hand() -> None:
    real, fake = torch.tensor([0.5, 2.0, -1.0]), torch.tensor([-3.0, 0.0, 1.0, -0.5])
    assert float(hinge_loss(real, fake)) == pytest.approx((0.5 + 0 + 2) / 3 + (0 + 1 + 2 + 0.5) / 4)
    assert hinge_loss(torch.tensor([1.0]), torch.tensor([-1.0])) == 0


def test_lecam_by_hand() -> None:
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-1.0, 3.0])
    found = lecam_penalty(real, fake, torch.tensor(1.5), torch.tensor(1.0))
    assert float(found) == pytest.approx((0 + 1**2) / 2 + (2.5**2 + 0) / 2)


@pytest.mark.parametrize(
    ("progress", "wanted"), [(0, 0), (0.5, 0), (0.599, 0), (0.6, 0), (0.65, 0.5), (0.675, 0.75), (0.7, 1), (1, 1)]
)
def test_ramp_by_hand(progress: float, wanted: float) -> None:
    assert adversarial_ramp(progress, 0.5, 0.1) == pytest.approx(wanted)


def test_ramp_without_a_warmup_is_a_step() -> None:
    assert (adversarial_ramp(0.49, 0.5, 0.0), adversarial_ramp(0.5, 0.5, 0.0)) == (0, 1)


def test_the_adaptive_weight_by_hand() -> None:
    others, adversarial = torch.zeros(2, 3, 3, 2, 2)
    others[:, 0, 0, 0] = torch.tensor([3.0, 1.0, 0.0])
    others[:, 2, 1, 1] = torch.tensor([4.0, 0.0, 0.0])
    adversarial[:, 1, 0, 0] = torch.tensor([2.0, 0.0, 7.0])
    assert adaptive_weight(others, adversarial, 50.0).flatten().tolist() == [2.5, 50.0, 0.0]


def test_a_score_sees_70_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.GroupNorm, "forward", lambda self, x: x)  # its statistics are the whole image's
    network = Discriminator(0)
    images = torch.rand(1, 3, 128, 128, requires_grad=True)
    assert network(images).shape == (1, 1, 14, 14)
    network(images)[0, 0, 7, 7].backward()
    assert images.grad is not None
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70


def test_a_score_does_not_depend_on_the_batch() -> None:
    network = Discriminator(0)
    images = torch.rand(4, 3, 32, 32) * torch.tensor([1.0, 5.0, 0.1, 1.0])[:, None, None, None]
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-5, atol=1e-6)
    assert network(torch.rand(1, 3, 24, 24)).numel() == 1


def test_its_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Discriminator(7).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = Discriminator(7).state_dict(), Discriminator(8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    spread = [value.std() for name, value in first.items() if value.ndim == 4]
    assert all(0.015 < s < 0.025 for s in spread)
    assert all(value.isfinite().all() for value in first.values())


def test_when_it_learns_and_at_which_rate(config: TrainConfig) -> None:
    config = dataclasses.replace(config, adversarial_after=0.5, adversarial_warmup=0.1, adversarial_lr=0.25)
    adversary = Adversary(config, CPU, "float32")
    found = []
    for progress in (0.0, 0.49, 0.5, 0.59, 0.65, 0.7, 1.0):
        adversary.begin(progress, 0.4)
        found.append((adversary.learning, round(adversary.weight, 6)))
    assert found == [(False, 0), (False, 0), (True, 0), (True, 0), (True, 0.25), (True, 0.5), (True, 0.5)]
    assert adversary.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def texture(count: int, *, blurred: bool) -> Tensor:
    noise = torch.rand(count, 3, 32, 32) * 2 - 1
    return torch.nn.functional.avg_pool2d(noise, 3, 1, 1) if blurred else noise


def learn(adversary: Adversary, steps: int) -> list[float]:
    """Train the discriminator alone on sharp against blurred noise, and return its losses."""
    losses = []
    for _ in range(steps):
        adversary.begin(0.0, 2e-3)
        fake = texture(8, blurred=True).requires_grad_()
        added = adversary.judge(fake, texture(8, blurred=False), torch.ones_like(fake), 1.0)
        adversary.end()
        losses.append(float(added.figures["discriminator"]))
    return losses


@pytest.mark.slow
def test_it_learns_to_tell_real_from_reconstructed(config: TrainConfig) -> None:
    torch.manual_seed(0)
    adversary = Adversary(dataclasses.replace(config, adversarial_warmup=0.5), CPU, "float32")
    losses = learn(adversary, 40)
    assert losses[0] == pytest.approx(2, abs=0.3)
    assert losses[-1] < 0.5
    assert (adversary.steps, adversary.skipped) == (40, 0)
    with torch.no_grad():
        real, fake = (adversary.network(texture(8, blurred=b)).mean() for b in (False, True))
    assert real > 0.5
    assert fake < -0.5


def test_lecam_counts_from_the_second_step_with_the_averages_of_those_before(config: TrainConfig) -> None:
    """Two steps against the same without LeCam: what it adds is its formula with debiased averages."""
    torch.manual_seed(0)
    fake, real = texture(2, blurred=True).requires_grad_(), texture(2, blurred=False)
    found, scores = [], []
    for weight in (0.0, 100.0):
        adversary = Adversary(dataclasses.replace(config, lecam=weight, adversarial_lr=1e-9), CPU, "float32")
        for _ in range(3):
            adversary.begin(0.0, 1e-3)
            added = adversary.judge(fake, real, torch.ones_like(fake), 1.0)
            adversary.end()
            found.append(float(added.figures["discriminator"]))
        scores = [adversary.network(images).detach() for images in (real, fake)]
    assert found[0] == found[3]
    # The discriminator hardly moves, so the averages are the means, however many steps they are over.
    wanted = 100 * float(lecam_penalty(*scores, scores[0].mean(), scores[1].mean()))
    assert found[4] - found[1] == pytest.approx(wanted, rel=1e-3)
    assert found[5] - found[2] == pytest.approx(wanted, rel=1e-3)


def test_a_gradient_that_is_not_finite_moves_nothing(config: TrainConfig) -> None:
    adversary = Adversary(config, CPU, "float32")
    learn(adversary, 2)
    before = {name: value.clone() for name, value in adversary.tensors().items()}
    adversary.begin(0.0, 1e-3)
    fake = texture(2, blurred=True).requires_grad_()
    adversary.judge(fake, torch.full_like(fake, math.nan), torch.ones_like(fake), 1.0)
    adversary.end()
    after = adversary.tensors()
    assert after.pop("counts").tolist() == [2, 1]
    assert before.pop("counts").tolist() == [2, 0]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    learn(adversary, 1)
    assert (adversary.steps, adversary.skipped) == (3, 1)


def test_a_step_that_never_ended_leaves_nothing(config: TrainConfig) -> None:
    first, second = Adversary(config, CPU, "float32"), Adversary(config, CPU, "float32")
    torch.manual_seed(0)
    fake = texture(2, blurred=True).requires_grad_()
    first.begin(0.0, 1e-3)
    first.judge(fake, texture(2, blurred=False), torch.ones_like(fake), 1.0)
    torch.manual_seed(1)
    learn(first, 2)
    torch.manual_seed(1)
    learn(second, 2)
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
