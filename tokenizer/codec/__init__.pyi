from .encode_options import EncodeOptions, token_header
from .readers import PixelBudget, read_ahead
from .results import Encoded, Unreadable, collect_tokens
from .to_images import TokenRow, decode_tokens
from .to_tokens import PIXELS_AHEAD, encode_images

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
