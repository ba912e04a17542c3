"""How images become tokens, and how a token file says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizer._version import __version__
from tokenizer.errors import UsageError

if TYPE_CHECKING:
    import torch

    from tokenizer.models import Tokenizer
    from tokenizer.tokens import Header

_MOST_READERS = 8


@dataclass(frozen=True)
class EncodeOptions:
    """How images become tokens.

    Attributes:
        image_size: side of the square in pixels that every image becomes; None keeps each image's size.
        resize_mode: how an image becomes a square: `crop`, `pad` or `squash`; None for `crop` where there is an
            `image_size`, and for `none` where there is none.
        alpha: (red, green, blue) under transparent pixels.
        batch_size: images of one size that go through the network together, at most.
        workers: threads that read images ahead, at least one; None for one a processor, up to 8.
        precision: of the network's arithmetic: float32, tf32, bfloat16 or float16; tokens of bfloat16 differ in a few
            percent from float32's.
        compile: compile the encoder with torch.compile, which takes a minute; it rounds differently, so that a few
            tokens may differ.

    Raises:
        UsageError: size and mode contradict each other.
    """

    image_size: int | None = None
    resize_mode: str | None = None
    alpha: tuple[int, int, int] = (255, 255, 255)
    batch_size: int = 16
    workers: int | None = None
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse a size without a mode, and a mode without a size."""
        if self.image_size is None and self.resize_mode not in (None, "none"):
            raise UsageError(f"--resize-mode {self.resize_mode} needs --image-size")
        if self.image_size is not None and self.resize_mode == "none":
            raise UsageError("--resize-mode none keeps sizes, --image-size sets them: pass one of the two")

    @property
    def mode(self) -> str:
        """How images are fitted."""
        return self.resize_mode or ("none" if self.image_size is None else "crop")

    @property
    def readers(self) -> int:
        """How many threads read images ahead."""
        from tokenizer.runtime import processor_count

        return max(1, min(_MOST_READERS, processor_count()) if self.workers is None else self.workers)


def token_header(model: Tokenizer, fingerprint: str, options: EncodeOptions) -> Header:
    """Return the header of the tokens that `encode_images` makes."""
    import PIL
    import torch
    from PIL import features

    from tokenizer.tokens import Header

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
            "resize_mode": options.mode,
            "alpha": "#{:02x}{:02x}{:02x}".format(*options.alpha),
            "precision": options.precision,
        },
    )


def _device_name(device: torch.device) -> str:
    import torch

    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
