"""Files of tokens: integers with the names and sizes of the images they came from."""

from tokenizer.token_files.files import FORMATS, SUFFIXES, read, sidecar, to_bytes, write
from tokenizer.token_files.header import Failure, Header, ImageRecord
from tokenizer.token_files.tokens import TokenSet, bare, smallest_dtype

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Failure",
    "Header",
    "ImageRecord",
    "TokenSet",
    "bare",
    "read",
    "sidecar",
    "smallest_dtype",
    "to_bytes",
    "write",
]
