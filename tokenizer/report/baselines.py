"""Codec baselines: what JPEG and WebP make of the same pictures with as many bits."""

from __future__ import annotations

import bisect
import functools
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tokenizer.images import Pixels
from tokenizer.metrics import mean_or_none, psnr, ssim
from tokenizer.report.flat_areas import FLAT_BLOCK, FlatAreas, measure_flat_areas


@dataclass(frozen=True)
class Baseline:
    """An image format at the bits of the tokens, over the pictures that it can hold.

    Each picture is written at the highest quality setting whose file, its header included and metadata left out, is
    not larger than log2 of the alphabet size summed over the tokens of that picture; at the lowest setting where even
    that file is larger. Settings are found by bisection. JPEG has 4:2:0 color and its own Huffman tables.

    Attributes:
        name: `JPEG` or `WebP`.
        bits_per_pixel: bits of all files per pixel of all pictures.
        psnr: dB, mean over pictures; those that came back exactly have none.
        ssim: mean over pictures with both sides of 11 pixels or more.
        reached: no file is larger than the tokens.
        larger: pictures whose file is larger than their tokens even at the lowest setting.
        images: pictures written; those of longer sides than the format allows are left out.
        flat_psnr: dB, over all flat blocks together; None without any, or without error in them.
    """

    name: str
    bits_per_pixel: float
    psnr: float | None
    ssim: float | None
    reached: bool
    larger: int
    images: int
    flat_psnr: float | None = None


@dataclass(frozen=True)
class ImageFormat:
    """An image format: its quality settings, lowest first, and the longest side it holds in pixels."""

    name: str
    qualities: range
    longest: int
    options: dict[str, Any]

    def write(self, pixels: Pixels, quality: int) -> bytes:
        """Return (H, W, 3) uint8 pixels as a file without metadata."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, self.name, quality=quality, **self.options)
        return file.getvalue()


BASELINE_FORMATS = (
    ImageFormat("JPEG", range(1, 101), 65500, {"optimize": True, "subsampling": "4:2:0"}),
    ImageFormat("WebP", range(101), 16383, {}),
)


def encode_within_bits(pixels: Pixels, bits: float, kind: ImageFormat) -> bytes:
    """Return (H, W, 3) uint8 pixels as a file of at most `bits`, or the file of the lowest quality."""
    write = functools.cache(lambda quality: kind.write(pixels, quality))
    fitting = bisect.bisect_right(kind.qualities, bits, key=lambda quality: 8 * len(write(quality)))
    return write(kind.qualities[max(0, fitting - 1)])


class BaselineScores:
    """One format's figures, summed up as pictures come."""

    def __init__(self, kind: ImageFormat) -> None:
        self._kind = kind
        self._bits = self._pixels = self._larger = self._images = 0
        self._decibels: list[float | None] = []
        self._similarities: list[float | None] = []
        self._flat = FlatAreas()

    def add(self, original: Pixels, bits: float) -> None:
        """Write a (H, W, 3) picture with as many bits as its tokens need, and compare."""
        if max(original.shape) > self._kind.longest:
            return
        file = encode_within_bits(original, bits, self._kind)
        with Image.open(io.BytesIO(file)) as image:
            made = np.asarray(image.convert("RGB"))
        self._images += 1
        self._bits += 8 * len(file)
        self._pixels += original.shape[0] * original.shape[1]
        self._larger += 8 * len(file) > bits
        decibels = psnr(original, made)
        self._decibels.append(None if math.isinf(decibels) else decibels)
        self._similarities.append(ssim(original, made))
        self._flat += measure_flat_areas(original, made, FLAT_BLOCK)

    def result(self) -> Baseline | None:
        """Return the figures, or None without pictures."""
        if not self._images:
            return None
        return Baseline(
            name=self._kind.name,
            bits_per_pixel=self._bits / self._pixels,
            psnr=mean_or_none(self._decibels),
            ssim=mean_or_none(self._similarities),
            reached=not self._larger,
            larger=self._larger,
            images=self._images,
            flat_psnr=self._flat.psnr,
        )
