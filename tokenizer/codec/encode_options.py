"""How images become tokens, and how a token file says so."""

from __future__ import annotations

from dataclasses import dataclass

import PIL
import torch
from PIL import features

from tokenizer._version import __version__
from tokenizer.models import Tokenizer
from tokenizer.tokens import Header


@dataclass(frozen=True)
class EncodeOptions:
    """How images become tokens.

    Attributes:
        image_size: side of the square in pixels, for every mode but `none`.
        resize_mode: `none` keeps each image's size; `crop`, `pad`, `squash`.
        alpha: (red, green, blue) under transparent pixels.
        batch_size: images of one size that go through the network together, at most.
        workers: threads that read images ahead, at least one.
        precision: of the network's arithmetic: float32, tf32, bfloat16 or float16; tokens of bfloat16 differ in a few
            percent from float32's.
        compile: compile the encoder with torch.compile, which takes a minute; it rounds differently, so that a few
            tokens may differ.
    """

    image_size: int | None = None
    resize_mode: str = "none"
    alpha: tuple[int, int, int] = (255, 255, 255)
    batch_size: int = 16
    workers: int = 2
    precision: str = "float32"
    compile: bool = False


def token_header(model: Tokenizer, fingerprint: str, options: EncodeOptions) -> Header:
    """Return the header of tokens that `encode` makes."""
    return Header(
        model=fingerprint,
        codebook_sizes=model.codebook_sizes,
        downsample=model.downsample,
        made_by={
            "vqtok": __version__,
            "torch": torch.__version__,
            "pillow": PIL.__version__,
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg") or "none",
            "device": _device_name(next(model.parameters()).device),
        },
        options={
            "image_size": options.image_size,
            "resize_mode": options.resize_mode,
            "alpha": "#{:02x}{:02x}{:02x}".format(*options.alpha),
            "precision": options.precision,
        },
    )


def _device_name(device: torch.device) -> str:
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
