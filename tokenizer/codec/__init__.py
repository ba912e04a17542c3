"""Whole jobs: images to tokens, tokens to images. In order, in bounded memory, and the same whatever shares the work.

The path of an image: `reading` decodes it ahead and fits it to the grid, within a `budget` of pixels; `encoding` puts
it into a batch with others of its grid, or lets `tiling` cut it; `network` makes tokens of that in one of the
`threads`; `encoding` hands them out in the order of the sources.
"""

from __future__ import annotations

from tokenizer.codec.encode_options import EncodeOptions, token_header
from tokenizer.codec.pixel_budget import PixelBudget
from tokenizer.codec.read_ahead import read_ahead
from tokenizer.codec.results import Encoded, Unreadable, collect_tokens
from tokenizer.codec.to_images import TokenRow, decode_tokens
from tokenizer.codec.to_tokens import PIXELS_AHEAD, encode_images

__all__ = [
    "PIXELS_AHEAD",
    "EncodeOptions",
    "Encoded",
    "PixelBudget",
    "TokenRow",
    "Unreadable",
    "collect_tokens",
    "decode_tokens",
    "encode_images",
    "read_ahead",
    "token_header",
]
