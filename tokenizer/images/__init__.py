"""Image files: opening, color, reading, writing, fitting to the network's grid and back."""

from __future__ import annotations

from tokenizer.images.opening import File
from tokenizer.images.placement import Placement, ResizeMode, placement_of
from tokenizer.images.reading import (
    SUFFIXES,
    Opened,
    Pixels,
    Source,
    encode_image,
    parse_color,
    probe_image,
    read_image,
    read_scaled,
    resize,
)

__all__ = [
    "SUFFIXES",
    "File",
    "Opened",
    "Pixels",
    "Placement",
    "ResizeMode",
    "Source",
    "encode_image",
    "parse_color",
    "placement_of",
    "probe_image",
    "read_image",
    "read_scaled",
    "resize",
]
