"""What reconstructions are trained for, as a gradient at the images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.perceptual import FeatureDistance
from tokenizer.train.adversary import Adversary
from tokenizer.train.losses import reconstruction_loss
from tokenizer.train.perceptual import perceptual_distance

_DIGEST = "perceptual/digest"
_ADVERSARY = "adversary/"


class Objective:
    """The weighted terms of a run's loss.

    Each term's gradient is computed down to the reconstructed images, and no further. There the gradients of several
    terms can be weighed against each other; their sum then goes back through the network, once.

    `begin` is called before each step of the network, and `end` after it if it succeeded: `end` moves the
    discriminator.

    The networks of the perceptual and the adversarial term run in the run's precision, but in float32 where that is
    float16: their gradients are too small, or too large, for its range.

    Args:
        config: of the run, planned; `loss` names the terms and their weights.

    Raises:
        UsageError: the perceptual term is on, and neither a file of weights is named nor the extra installed.
        InputError: the weights cannot be read.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.weights: Mapping[str, float] = config.loss
        self.perceptual: FeatureDistance | None = None
        self.adversary: Adversary | None = None
        self._means = _Means()
        if not (self.weights.get("perceptual") or self.weights.get("adversarial")):
            return
        self._device = runtime.choose_device(config.device)
        precision = runtime.choose_precision(config.precision, self._device)
        self._precision = "float32" if precision == "float16" else precision
        if self.weights.get("perceptual"):
            self.perceptual = perceptual_distance(config.perceptual_weights).to(self._device)
        if self.weights.get("adversarial"):
            self.adversary = Adversary(config, self._device, self._precision)

    def begin(self, progress: float, rate: float) -> None:
        """Begin a step of the network; what an earlier one that failed has left is dropped.

        Args:
            progress: share of the budget spent, 0 to 1.
            rate: the network's learning rate.
        """
        self._means.drop()
        if self.adversary is not None:
            self.adversary.begin(progress, rate)

    def gradient(self, images: Tensor, targets: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the loss's gradient at (B, 3, H, W) `images`, of their shape, and the () loss, a mean over images.

        Neither is multiplied by `share`.

        Args:
            images: reconstructions, float32, about [-1, 1], detached.
            targets: (B, 3, H, W) float32 in [-1, 1].
            share: of the batch that these images are, by which their figures count.
        """
        free = images.detach().requires_grad_()
        loss = reconstruction_loss(free, targets, self.weights)
        if self.perceptual is not None:
            with runtime.autocast(self._device, self._precision):
                distance = self.perceptual(free, targets)
            loss = loss + self.weights["perceptual"] * distance
            self._means.add({"perceptual": distance.detach()}, share)
        gradient = torch.autograd.grad(loss, free)[0]
        if self.adversary is None or not self.adversary.learning:
            return gradient, loss.detach()
        judged = self.adversary.judge(free, targets, gradient, share)
        self._means.add(judged.figures, share)
        return gradient if judged.gradient is None else gradient + judged.gradient, loss.detach() + judged.loss

    def end(self) -> None:
        """End a step in which the network moved, on all ranks: the discriminator moves too."""
        if self.adversary is not None:
            self.adversary.end()
        self._means.keep()

    def figures(self) -> dict[str, float]:
        """Return means over the steps since the last call, of this rank; empty where no term has a network.

        `perceptual`, `adversarial` and `discriminator` are losses without their weights. `adaptive_weight` balances the
        gradient of the adversarial term with that of the others. Each is there if its term was. `discriminator_skipped`
        counts the steps of the discriminator that were left out, since the run began.
        """
        found = self._means.take()
        if self.adversary is not None:
            found["discriminator_skipped"] = float(self.adversary.skipped)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return what an exact continuation needs, by flat names; empty where neither term is on. Not copies."""
        found = {} if self.perceptual is None else {_DIGEST: self.perceptual.digest}
        if self.adversary is not None:
            found |= {_ADVERSARY + name: value for name, value in self.adversary.tensors().items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned.

        Raises:
            KeyError: one is missing.
            RuntimeError: one does not fit, or the perceptual loss has other weights than it had.
        """
        if self.perceptual is not None and not torch.equal(tensors[_DIGEST].cpu(), self.perceptual.digest):
            raise RuntimeError("the perceptual term has other weights than those that the run began with")
        if self.adversary is not None:
            self.adversary.restore(
                {name.removeprefix(_ADVERSARY): value for name, value in tensors.items() if name.startswith(_ADVERSARY)}
            )


class _Means:
    """Means over steps of () values, which come in one share for each part of a batch.

    They stay on the device until they are asked for.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._pending: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor], share: float) -> None:
        for name, value in values.items():
            self._pending[name] = self._pending.get(name, torch.zeros_like(value)) + share * value

    def keep(self) -> None:
        """Count the step that was added."""
        for name, value in self._pending.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._pending = {}

    def drop(self) -> None:
        """Forget the step that was added."""
        self._pending = {}

    def take(self) -> dict[str, float]:
        """Return the means of the steps kept, and begin anew."""
        found = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        return found
