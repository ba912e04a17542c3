"""What EfficientNet-Lite0 says of pictures and their originals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.images import Pixels
from tokenizer.perceptual.distance import FeatureDistance
from tokenizer.perceptual.frechet import DiagonalFrechet
from tokenizer.perceptual.lite0 import load_lite0

LITE0_LEAST = 32
# Of what it was trained on. Pictures resized to it are recognized no better than their centers, and hide their blur: of
# 24 Kodak pictures the first class has a mean probability of 0.41 resized, 0.48 cut, 0.03 whole at their own size.
_SIDE = 224
_ADVICE = "leave out --perceptual, or pass --device cpu"


@dataclass(frozen=True)
class Lite0Score:
    """One picture against its original.

    Attributes:
        distance: of the features at strides 2, 4, 8, 16 and 32, 0 to 20, of both at their own size.
        alike: both have the same first one of 1000 classes.
    """

    distance: float
    alike: bool


class Lite0Scores:
    """What EfficientNet-Lite0 says of pictures, one by one and over all; memory does not grow with their number.

    Recognition and the pooled features are of the central square of a picture at its own size, with a side of 224
    pixels, as the network was trained on, or the picture's shorter one where that is less.

    Args:
        device: where it computes.

    Raises:
        UsageError: the extra `perceptual` is not installed.
        InputError: its file is missing, damaged, or holds something else.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._network = load_lite0().to(device)
        self._distance = FeatureDistance(self._network.stages)
        self._frechet = DiagonalFrechet()
        self._pictures = self._alike = 0

    def add(self, original: Pixels, made: Pixels) -> Lite0Score | None:
        """Compare two (H, W, 3) pictures; None, and left out of all figures, when a side is under 32 pixels.

        Raises:
            DeviceError: out of memory.
        """
        if min(original.shape[:2]) < LITE0_LEAST:
            return None
        try:
            with torch.inference_mode(), runtime.autocast(self._device, "float32"):
                distance = float(self._distance(*(self._unit_range(pixels) for pixels in (made, original))))
                pooled, logits = self._network(
                    torch.cat([self._unit_range(_central_square(pixels)) for pixels in (original, made)])
                )
                features, (first, second) = pooled.cpu().numpy(), logits.argmax(dim=1).tolist()
        except RuntimeError as error:
            raise runtime.explain_error(error, _ADVICE) or error from error
        self._frechet.add(*features)
        self._pictures += 1
        self._alike += first == second
        return Lite0Score(distance, first == second)

    @property
    def frechet(self) -> float | None:
        """The Frechet distance of the 1280 pooled features, diagonal covariances; None of fewer than two pictures."""
        return self._frechet.distance()

    @property
    def recognized_alike(self) -> float | None:
        """Share of the pictures with the same first class as their originals, 0 to 1; None without pictures."""
        return self._alike / self._pictures if self._pictures else None

    def _unit_range(self, pixels: Pixels) -> Tensor:
        """Return a (H, W, 3) picture as (1, 3, H, W) in [-1, 1]."""
        image = torch.from_numpy(pixels.copy()).to(self._device)  # a copy: what came from a file is read-only
        return image.permute(2, 0, 1)[None].float() / 127.5 - 1


def _central_square(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    side = min(height, width, _SIDE)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
