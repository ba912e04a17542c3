"""Files of tokens: integers with the names and sizes of the images they came from."""

from tokenizer.token_files.bare import bare
from tokenizer.token_files.entries import before
from tokenizer.token_files.files import FORMATS, SUFFIXES, read, select, sidecar, split_sidecar, to_bytes, write
from tokenizer.token_files.header import Header
from tokenizer.token_files.journal import PARTIAL, Journal, crc32_of, is_finished, refuse_another_job
from tokenizer.token_files.layout import header_line
from tokenizer.token_files.manifest import Failure, ImageRecord, line
from tokenizer.token_files.tokens import TokenSet, smallest_dtype
from tokenizer.token_files.writers import Row, StackWriter, TarWriter, Writer, absorb

__all__ = [
    "FORMATS",
    "PARTIAL",
    "SUFFIXES",
    "Failure",
    "Header",
    "ImageRecord",
    "Journal",
    "Row",
    "StackWriter",
    "TarWriter",
    "TokenSet",
    "Writer",
    "absorb",
    "bare",
    "before",
    "crc32_of",
    "header_line",
    "is_finished",
    "line",
    "read",
    "refuse_another_job",
    "select",
    "sidecar",
    "smallest_dtype",
    "split_sidecar",
    "to_bytes",
    "write",
]
