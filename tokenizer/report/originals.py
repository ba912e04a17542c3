"""Original images as the network saw them: decoded, and fitted as their tokens say."""

from __future__ import annotations

from dataclasses import replace

from tokenizer.errors import ImageError, InputError
from tokenizer.images import File, Pixels, Placement, read_scaled


def original_canvas(name: str, file: File, placement: Placement, alpha: tuple[int, int, int]) -> Pixels:
    """Return the (H, W, 3) uint8 canvas of an original: decoded at the same scale where its file has it, and fitted.

    Raises:
        InputError: it cannot be read, or has another size than when it was encoded.
    """
    try:
        decoded = read_scaled(file, alpha, lambda opened: min(placement.scale, max(opened.scales)))
    except ImageError as error:
        raise InputError(f"cannot read {name}: {error}") from error
    if decoded.original != placement.original:
        height, width = decoded.original
        raise InputError(f"{name} is {width}x{height} pixels, it was not when encoded")
    return replace(placement, scale=decoded.scale).apply(decoded.pixels)
