from .header import Header
from .headerless import headerless_tokens
from .journal import PARTIAL_SUFFIX, Journal, crc32_of, earlier_outcomes, is_finished, refuse_another_job
from .manifest import FailedInput, ImageRecord, manifest_line
from .named_files import NamedTokens, open_token_files, refuse_stream_twice
from .serialization import header_line
from .token_array import TokenArray, load_tokens
from .token_dataset import TokenDataset
from .token_files import (
    TOKEN_FORMATS,
    TOKEN_SUFFIXES,
    parse_sidecar,
    read_tokens,
    select_rows,
    sidecar_of,
    tokens_to_bytes,
    write_tokens,
)
from .token_folders import DONE_SUFFIX, INDEX_FILE, INDEX_FORMAT, INDEX_VERSION, MANIFEST_FILE, find_token_files
from .token_images import TokenFile, TokenFiles, TokenImages, select_images
from .token_set import TokenSet, smallest_dtype
from .writers import EncodedRow, StackWriter, TarWriter, Writer

__all__ = [
    "DONE_SUFFIX",
    "INDEX_FILE",
    "INDEX_FORMAT",
    "INDEX_VERSION",
    "MANIFEST_FILE",
    "PARTIAL_SUFFIX",
    "TOKEN_FORMATS",
    "TOKEN_SUFFIXES",
    "EncodedRow",
    "FailedInput",
    "Header",
    "ImageRecord",
    "Journal",
    "NamedTokens",
    "StackWriter",
    "TarWriter",
    "TokenArray",
    "TokenDataset",
    "TokenFile",
    "TokenFiles",
    "TokenImages",
    "TokenSet",
    "Writer",
    "crc32_of",
    "earlier_outcomes",
    "find_token_files",
    "header_line",
    "headerless_tokens",
    "is_finished",
    "load_tokens",
    "manifest_line",
    "open_token_files",
    "parse_sidecar",
    "read_tokens",
    "refuse_another_job",
    "refuse_stream_twice",
    "select_images",
    "select_rows",
    "sidecar_of",
    "smallest_dtype",
    "tokens_to_bytes",
    "write_tokens",
]
