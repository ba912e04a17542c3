"""Whole jobs: images to tokens, tokens to images. In order, in bounded memory, and the same whatever shares the work.

The path of an image: `reading` decodes it ahead and fits it to the grid, within a `budget` of pixels; `encoding` puts
it into a batch with others of its grid, or lets `tiling` cut it; `network` makes tokens of that in one of the
`threads`; `encoding` hands them out in the order of the sources.
"""

from tokenizer.codec.decoding import decode
from tokenizer.codec.encoding import encode
from tokenizer.codec.options import EncodeOptions, header
from tokenizer.codec.results import Encoded, Unreadable, check_fits, collect

__all__ = ["EncodeOptions", "Encoded", "Unreadable", "check_fits", "collect", "decode", "encode", "header"]
