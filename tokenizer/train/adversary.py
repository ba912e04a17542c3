"""The adversarial term: a discriminator that learns alongside, and its gradient at the reconstructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.train.discriminator import Discriminator, hinge_loss, lecam_penalty
from tokenizer.train.optimizers import optimizer_state, restore_optimizer_state

_BETAS = (0.5, 0.9)
_MEMORY = 0.99  # decay of the usual scores
_TINY = 1e-12


def adversarial_ramp(progress: float, after: float, warmup: float) -> float:
    """Return the share of its weight that the adversarial term has at `progress`; all three are shares of the budget.

    The discriminator learns from `after` on. It learns alone for `warmup`; then, for as long again, the term grows
    linearly from 0 to its weight.
    """
    grown = progress - after - warmup
    if grown < 0:
        return 0.0
    return 1.0 if grown >= warmup else grown / warmup


@dataclass(frozen=True)
class Contribution:
    """What the adversarial term adds at reconstructions.

    Attributes:
        gradient: at the images, of their shape; None while the term is 0.
        loss: () weighted term.
        figures: () each: `adversarial`, `discriminator`, and `adaptive_weight` once the term counts.
    """

    gradient: Tensor | None
    loss: Tensor
    figures: Mapping[str, Tensor]


class Adversary:
    """A discriminator, its optimizer, and the weight of what it says.

    Source: Esser et al., "Taming Transformers for High-Resolution Image Synthesis" (2021),
    https://arxiv.org/abs/2012.09841, equation 7: the term's weight follows the ratio of the norms of the two
    gradients, that of the other terms over that of this one. Departures: they are compared at the images in place of
    the decoder's last layer, which costs nothing more; for each image alone, so that neither the batch, its parts nor
    the devices that share it matter; and the term starts with a ramp.

    Args:
        config: of the run; `loss` has the term.
        device: where it runs.
        precision: in which the discriminator computes; its losses are float32.

    Attributes:
        skipped: steps of the discriminator that were left out because their gradient was not finite.
    """

    def __init__(self, config: TrainConfig, device: torch.device, precision: str) -> None:
        self.config, self._device, self._precision = config, device, precision
        self.network = Discriminator(config.seed).to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, betas=_BETAS, weight_decay=0.0, fused=True
        )
        self.steps = self.skipped = 0
        self.learning, self.weight = False, 0.0
        self._usual = torch.zeros(2, device=device)  # of real and fake scores: decayed sums
        self._scores = torch.zeros(2, device=device)  # this step's means

    def begin(self, progress: float, rate: float) -> None:
        """Begin a step at `progress` (0 to 1) and the run's learning rate."""
        config = self.config
        self.learning = progress >= config.adversarial_after
        share = adversarial_ramp(progress, config.adversarial_after, config.adversarial_warmup)
        self.weight = config.loss["adversarial"] * share
        for group in self.optimizer.param_groups:
            group["lr"] = rate * config.adversarial_lr
        self.optimizer.zero_grad(set_to_none=True)
        self._scores.zero_()

    def judge(self, images: Tensor, targets: Tensor, gradient: Tensor, share: float) -> Contribution:
        """Return what the term adds for a part of a batch, and add `share` of the discriminator's gradient there.

        Args:
            images: (B, 3, H, W) reconstructions that require a gradient.
            targets: (B, 3, H, W) in [-1, 1].
            gradient: of the other terms at `images`.
            share: of the batch that this part is.
        """
        with runtime.autocast(self._device, self._precision):
            fake, real = self.network(images).float(), self.network(targets).float()
        added, loss, figures = None, fake.new_zeros(()), {"adversarial": -fake.detach().mean()}
        if self.weight:
            down = torch.autograd.grad(-fake.mean(), images, retain_graph=True)[0]
            adaptive = adaptive_weight(gradient, down, self.config.adversarial_max)
            added = self.weight * adaptive * down
            loss = -self.weight * (adaptive * fake.detach().mean(dim=(1, 2, 3), keepdim=True)).mean()
            figures["adaptive_weight"] = adaptive.mean()
        discriminator = hinge_loss(real, fake)
        if self.steps and self.config.lecam:
            usual_real, usual_fake = self._usual / (1 - _MEMORY**self.steps)
            discriminator = discriminator + self.config.lecam * lecam_penalty(real, fake, usual_real, usual_fake)
        figures["discriminator"] = discriminator.detach()
        torch.autograd.backward(share * discriminator, inputs=list(self.network.parameters()))
        self._scores += share * torch.stack([real.detach().mean(), fake.detach().mean()])
        return Contribution(added, loss, figures)

    def end(self) -> None:
        """Move the discriminator along the mean gradient of all ranks, unless that is not finite."""
        if not self.learning:
            return
        parameters = list(self.network.parameters())
        runtime.average_gradients(parameters)
        scores = runtime.sum_over_ranks(self._scores) / runtime.world_size()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        if not torch.isfinite(norm + scores.sum()):
            self.skipped += 1
            return
        self.optimizer.step()
        self._usual.lerp_(scores, 1 - _MEMORY)
        self.steps += 1

    def tensors(self) -> dict[str, Tensor]:
        """Return what an exact continuation needs, by flat names; not copies."""
        found = {f"discriminator/{name}": value.detach() for name, value in self.network.state_dict().items()}
        found |= {f"optimizer/{name}": value for name, value in optimizer_state(self.optimizer).items()}
        return found | {"usual": self._usual, "counts": torch.tensor([self.steps, self.skipped])}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned.

        Raises:
            KeyError: one is missing.
            RuntimeError: one has another shape.
        """
        state = {name: tensors[f"discriminator/{name}"] for name in self.network.state_dict()}
        self.network.load_state_dict(state)
        prefix = "optimizer/"
        moments = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        restore_optimizer_state(self.optimizer, moments)
        self._usual.copy_(tensors["usual"])
        self.steps, self.skipped = tensors["counts"].tolist()


def adaptive_weight(others: Tensor, adversarial: Tensor, most: float) -> Tensor:
    """Return the (B, 1, 1, 1) ratio of the norms of (B, 3, H, W) gradients at each image, `most` at most."""
    norms = [gradient.flatten(1).norm(dim=1) for gradient in (others, adversarial)]
    return (norms[0] / norms[1].clamp_min(_TINY)).clamp_max(most)[:, None, None, None]
