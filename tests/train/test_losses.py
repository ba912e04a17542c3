from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokenizer.config import LOSSES
from tokenizer.train.losses import TERMS, frequency, l1, l2, log_l2, loss_faults, multiscale, reconstruction_loss


def test_a_term_is_what_its_line_says() -> None:
    assert set(LOSSES) == {*TERMS, "perceptual", "adversarial"}
    for name, term in TERMS.items():
        assert (term.__doc__ or "").splitlines()[0] == f"Return {LOSSES[name]}."


def test_terms_by_hand() -> None:
    images = torch.zeros(1, 3, 8, 8)
    targets = torch.zeros(1, 3, 8, 8)
    targets[..., :4] = 0.5
    assert l1(images, targets) == 0.25
    assert l2(images, targets) == 0.125
    # Every scale of the pyramid keeps the half that differs: all four means are equal.
    assert multiscale(images, targets) == pytest.approx(0.25)


def test_log_l2_by_hand() -> None:
    """Two blocks, one right but for 0.1 and one for 0.2; the third, narrower, is exact."""
    images, targets = torch.zeros(1, 3, 16, 40, dtype=torch.float64), torch.zeros(1, 3, 16, 40, dtype=torch.float64)
    targets[..., :16], targets[..., 16:32] = 0.1, 0.2
    level = 1 / 127.5**2  # in [-1, 1]
    wanted = 0.01 * (math.log1p(0.01 / level) + math.log1p(0.04 / level)) / 3
    assert float(log_l2(images, targets)) == pytest.approx(wanted)


def test_log_l2_pulls_a_block_at_26_db_as_l2_does_and_a_flat_one_harder() -> None:
    for error, ratio in ((0.1, 1.0), (0.02, 0.01 / (0.0004 + 1 / 127.5**2))):
        images, targets = torch.full((1, 3, 16, 16), error, requires_grad=True), torch.zeros(1, 3, 16, 16)
        (one,) = torch.autograd.grad(l2(images, targets), images)
        (two,) = torch.autograd.grad(log_l2(images, targets), images)
        assert float((two / one).mean().detach()) == pytest.approx(ratio, rel=0.01)


def test_frequency_against_numpy() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 1, 3, 16, 16))
    wanted = np.abs(np.fft.rfft2(first - second, norm="ortho")).mean()
    assert float(frequency(torch.from_numpy(first), torch.from_numpy(second))) == pytest.approx(wanted)


def test_weights_multiply_terms() -> None:
    images, targets = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    assert float(reconstruction_loss(images, targets, {"l1": 2.0, "l2": 4.0})) == pytest.approx(2.0)
    assert float(reconstruction_loss(images, targets, {"l1": 0.0, "l2": 1.0})) == pytest.approx(0.25)


def test_faults_are_named_together() -> None:
    assert loss_faults({"l1": 1.0}) == []
    first, second = loss_faults({"l3": 1.0, "l2": -1.0})
    assert first.startswith("unknown setting 'loss.l3', did you mean")
    assert second == "loss.l2 is -1.0, expected 0 or more"
    (none,) = loss_faults({"l1": 0.0})
    assert none.startswith("loss has no term above 0, known: l1, l2")
