"""The token files that a command reads."""

from __future__ import annotations

from collections.abc import Sequence

from cli.console import Console, binary_stdin
from tokenizer.errors import UsageError
from tokenizer.models import LoadedModel
from tokenizer.tokens import TokenFiles, open_token_files


def read_all(
    inputs: Sequence[str], console: Console, grid: tuple[int, int] | None = None, codes: int = 1
) -> TokenFiles:
    """Return the token files that arguments name, see `open_token_files`; `-` is one file on stdin."""
    if inputs.count("-") > 1:
        raise UsageError("stdin is named twice")
    files = open_token_files(inputs, grid, codes, stdin=binary_stdin() if "-" in inputs else None)
    for warning in files.warnings:
        console.warn(warning)
    return files


def check_all(files: TokenFiles, loaded: LoadedModel) -> None:
    """Raise TokenFileError, which names the file, unless the checkpoint can decode all tokens of all files."""
    for name, tokens in zip(files.names, files, strict=True):
        loaded.check(name, tokens)
