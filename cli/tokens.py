"""The token files that a command reads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import Console, binary_stdin, printable
from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.tokens import TokenFile, TokenFiles, TokenSet, find_token_files, read_tokens

if TYPE_CHECKING:
    from cli.models import Loaded


def read_all(
    inputs: Sequence[str], console: Console, grid: tuple[int, int] | None = None, codes: int = 1
) -> TokenFiles:
    """Return the token files that arguments name; folders are searched, `-` is one file on stdin.

    `grid` and `codes` are for arrays without a header, see `token_files.bare`.

    Raises:
        InputError: a folder holds none, or stdin is no token file; other files are opened later.
        UsageError: stdin is named twice, or is a terminal.
    """
    if inputs.count("-") > 1:
        raise UsageError("stdin is named twice")
    files: list[TokenFile] = []
    for name in inputs:
        if name == "-":
            files.append(TokenFile("stdin", tokens=_read_stdin(grid, codes)))
        elif Path(name).is_dir():
            files += _in_folder(Path(name), console)
        else:
            files.append(TokenFile(name))
    return TokenFiles(files, grid, codes)


def _in_folder(path: Path, console: Console) -> list[TokenFile]:
    folder = find_token_files(path)
    if not folder.finished:
        console.warn(f"{path} is unfinished: {len(folder.files)} token files are whole, vqtok encode --resume goes on")
    counts = itertools.repeat(None) if folder.images is None else folder.images
    return [TokenFile(name, count) for name, count in zip(folder.files, counts, strict=False)]


def _read_stdin(grid: tuple[int, int] | None, codes: int) -> TokenSet:
    data = binary_stdin().read()
    if not data:
        raise InputError("stdin is empty: expected a token file")
    try:
        return read_tokens(data, grid, codes)
    except (TokenFileError, UsageError) as error:
        raise type(error)(f"stdin: {error}") from error


def check_all(files: TokenFiles, loaded: Loaded) -> None:
    """Raise TokenFileError, which names the file, unless the checkpoint can decode all tokens of all files."""
    for name, tokens in zip(files.names, files, strict=True):
        check(name, tokens, loaded)


def check(name: str, tokens: TokenSet, loaded: Loaded, *, allow_mismatch: bool = False) -> None:
    """Raise TokenFileError, which names the file, unless the checkpoint can decode all these tokens."""
    from tokenizer.codec import check_tokens_fit

    try:
        check_tokens_fit(tokens, loaded.network, loaded.fingerprint, loaded.reads, allow_mismatch=allow_mismatch)
    except TokenFileError as error:
        where = f"{printable(name)}: "
        raise TokenFileError(where + str(error).removeprefix(where)) from error
