from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenizer.config import LOSSES
from tokenizer.train.losses import TERMS, frequency, l1, l2, loss_faults, multiscale, reconstruction_loss


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
