"""Image files: opened, read, fitted to the network's grid and back, written."""

from __future__ import annotations

from tokenizer.images.color import parse_color
from tokenizer.images.opening import ImageFile
from tokenizer.images.pixels import Pixels, encode_image, resize
from tokenizer.images.placement import Placement, ResizeMode, placement_of
from tokenizer.images.reading import IMAGE_SUFFIXES, ImageInfo, Source, probe_image, read_image, read_scaled

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageFile",
    "ImageInfo",
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
