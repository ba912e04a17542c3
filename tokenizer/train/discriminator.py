"""The discriminator of the adversarial loss, and its losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDTH = 64
_MOST = 512
_GROUPS = 32
_SLOPE = 0.2


class Discriminator(nn.Sequential):
    """Scores the patches of an image, each 70 pixels wide: high where they look real.

    Maps (B, 3, H, W) images in [-1, 1] to (B, 1, h, w), about an eighth of H and W; both are 24 or more.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017),
    https://arxiv.org/abs/1611.07004, section 3.2.2 and the appendix: PatchGAN, three layers that halve the resolution.
    A departure: statistics of groups of channels in one image (GroupNorm) in place of those of a batch. A score then
    depends on its own image alone, whatever the batch, its parts, and the devices that share it, and real and
    reconstructed images cannot be told apart by which batch they came in.

    Args:
        seed: of the weights, drawn from N(0, 0.02²) without touching torch's own random state.
    """

    def __init__(self, seed: int) -> None:
        with torch.device("meta"):
            super().__init__(*_layers())
        self.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.GroupNorm):
                layer.reset_parameters()


def _layers(halvings: int = 3) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(3, _WIDTH, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
    inputs = _WIDTH
    for number in range(1, halvings + 1):
        outputs = min(_WIDTH * 2**number, _MOST)
        stride = 2 if number < halvings else 1
        layers.append(nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=False))
        layers += [nn.GroupNorm(_GROUPS, outputs), nn.LeakyReLU(_SLOPE)]
        inputs = outputs
    return [*layers, nn.Conv2d(inputs, 1, 4, padding=1)]


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's () loss: how far scores of real images are below 1, of reconstructions above -1.

    Source: Lim and Ye, "Geometric GAN" (2017), https://arxiv.org/abs/1705.02894. The other side's is minus the mean
    score of the reconstructions.
    """
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def lecam_penalty(real: Tensor, fake: Tensor, usual_real: Tensor, usual_fake: Tensor) -> Tensor:
    """Return the () LeCam regularizer: how far scores are on their own side of the other kind's usual score.

    Source: Tseng et al., "Regularizing Generative Adversarial Networks under Limited Data" (2021),
    https://arxiv.org/abs/2104.03310, section 3; rectified, as in the authors' code (google/lecam-gan).

    Args:
        real: scores of real images, of any shape.
        fake: scores of reconstructions.
        usual_real: () moving average of the former over the steps before.
        usual_fake: () of the latter.
    """
    return functional.relu(real - usual_fake).square().mean() + functional.relu(usual_real - fake).square().mean()
