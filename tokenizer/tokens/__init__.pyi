from .array import TokenArray, load_tokens
from .dataset import TokenDataset
from .file_sequence import TokenFile, TokenFiles, TokenImages, select_images
from .header import Header
from .headerless import headerless_tokens
from .journal import PARTIAL, Journal, crc32_of, is_finished, refuse_another_job
from .journal_entries import earlier_outcomes
from .manifest import FailedInput, ImageRecord, manifest_line
from .named_files import NamedTokens, open_token_files
from .serialization import header_line
from .token_files import FORMATS, SUFFIXES, read_tokens, select_rows, sidecar, split_sidecar, to_bytes, write_tokens
from .token_folders import DONE, INDEX, INDEX_FORMAT, INDEX_VERSION, MANIFEST, find_token_files
from .token_set import TokenSet, smallest_dtype
from .writers import EncodedRow, StackWriter, TarWriter, Writer, absorb

__all__ = [
    "DONE",
    "FORMATS",
    "INDEX",
    "INDEX_FORMAT",
    "INDEX_VERSION",
    "MANIFEST",
    "PARTIAL",
    "SUFFIXES",
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
    "absorb",
    "crc32_of",
    "earlier_outcomes",
    "find_token_files",
    "header_line",
    "headerless_tokens",
    "is_finished",
    "load_tokens",
    "manifest_line",
    "open_token_files",
    "read_tokens",
    "refuse_another_job",
    "select_images",
    "select_rows",
    "sidecar",
    "smallest_dtype",
    "split_sidecar",
    "to_bytes",
    "write_tokens",
]
