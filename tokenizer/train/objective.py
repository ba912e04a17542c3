"""What reconstructions are trained for, as a gradient at the images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tokenizer.config import TrainConfig
from tokenizer.losses import reconstruction_loss


class Objective:
    """The weighted terms of a run's loss.

    A term is differentiated down to the reconstructed images only, where gradients of several terms can be weighed
    against each other; the network takes the sum from there.

    Args:
        config: of the run; `loss` names the terms and their weights.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.weights: Mapping[str, float] = config.loss

    def gradient(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss's gradient at (B, 3, H, W) `images`, of their shape, and the () loss, a mean over images.

        Args:
            images: reconstructions, float32, about [-1, 1], detached.
            targets: (B, 3, H, W) float32 in [-1, 1].
        """
        free = images.requires_grad_()
        loss = reconstruction_loss(free, targets, self.weights)
        return torch.autograd.grad(loss, free)[0], loss.detach()
