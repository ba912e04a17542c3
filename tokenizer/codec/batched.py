"""One batch through the network.

On a CPU the same image gives the same bits whatever it shares a batch or a tile with. That takes care: for one small
image torch leaves its fast kernels and rounds differently (`use_mkldnn` in ATen's Convolution.cpp: one image and 20480
numbers or fewer), and for 1x1 kernels it takes them from 16 images on, or where an operation may use several threads.
So a batch here holds 2 to 15 images, the second a copy where there is none and the image is small, and each operation
runs on one thread (`threads`).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer import runtime
from tokenizer.codec.tiling import Tile, scaled
from tokenizer.config import NetworkConfig
from tokenizer.images import Pixels
from tokenizer.models import Tokenizer, to_pixels, to_unit_range

T = TypeVar("T", bound=np.generic)

_PIXELS_PER_BATCH = 2**22
_NUMBERS_OF_A_SMALL_IMAGE = 20480
# What fits a core's cache pays, and leaves work for the other cores.
_PIXELS_PER_BATCH_ON_CPU = 2**18
_IMAGES_PER_BATCH_ON_CPU = 15


class BatchedNetwork:
    """A tokenizer's encoder and decoder as arrays go through them.

    Args:
        model: the tokenizer.
        precision: of its arithmetic.
        compiled: compile the encoder.
    """

    def __init__(self, model: Tokenizer, precision: str = "float32", *, compiled: bool = False) -> None:
        self.model, self._precision = model, precision
        self.device = next(model.parameters()).device
        self._on_cpu = self.device.type == "cpu"
        self._encoder = torch.compile(model.encoder, dynamic=True) if compiled else None
        self._small = _small(model.network)

    def room(self, pixels: int, batch_size: int) -> int:
        """Return how many images of so many pixels go through the network together."""
        if not self._on_cpu:
            return min(batch_size, max(1, _PIXELS_PER_BATCH // pixels))
        return min(batch_size, _IMAGES_PER_BATCH_ON_CPU, max(1, _PIXELS_PER_BATCH_ON_CPU // pixels))

    def encode(self, canvases: Pixels, tile: Tile) -> NDArray[np.int64]:
        """Return the (B, h, w, C) tokens of a tile of (B, H, W, 3) uint8 pixels.

        Raises:
            DeviceError: out of memory, or nothing to compile with.
            NonFiniteError: a latent is not finite.
        """
        seen = canvases[:, *scaled(tile.outer, self.model.downsample)]
        batch = self._several(seen, seen.shape[1] * seen.shape[2])
        try:
            with torch.inference_mode(), runtime.autocast(self.device, self._precision):
                latents = self.model.latents(to_unit_range(self._moved(batch)), self._encoder)
                tokens = self.model.quantizer.encode(latents[: len(seen), *tile.kept])
            found: NDArray[np.int64] = tokens.cpu().numpy()
        except RuntimeError as error:
            raise runtime.explain_error(error, "pass a smaller --batch-size, or --image-size") or error from error
        return found

    def decode(self, grids: NDArray[np.integer], tile: Tile) -> Pixels:
        """Return the (B, H, W, 3) uint8 pixels of a tile of (B, h, w, C) tokens.

        Raises:
            DeviceError: out of memory.
            ValueError: the quantizer cannot decode that many codes alone.
        """
        f = self.model.downsample
        seen = grids[:, *tile.outer].astype(np.int64)
        batch = self._several(seen, seen.shape[1] * seen.shape[2] * f**2)
        try:
            with runtime.autocast(self.device, self._precision):
                images = self.model.decode(self._moved(batch))
            pixels: Pixels = to_pixels(images[: len(seen), :, *scaled(tile.kept, f)]).cpu().numpy()
        except RuntimeError as error:
            raise runtime.explain_error(error, "pass a smaller --batch-size") or error from error
        return pixels

    def _several(self, batch: NDArray[T], pixels: int) -> NDArray[T]:
        """Return a small image twice: alone, it would be rounded differently."""
        alone = self._on_cpu and len(batch) == 1 and pixels <= self._small
        return np.concatenate([batch, batch]) if alone else batch

    def _moved(self, batch: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(batch)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def _small(config: NetworkConfig) -> int:
    """Return the pixels of the largest image that one of the network's kernels finds small."""
    shapes = (config.widths, config.decoder_shape[0])
    channels_at = [(1, 3), *((4 << stage, width) for widths in shapes for stage, width in enumerate(widths))]
    return max(_NUMBERS_OF_A_SMALL_IMAGE * side**2 // channels for side, channels in channels_at)
