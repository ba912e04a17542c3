"""The token files that arguments name: files, folders of them, a stream, or tokens in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.tokens.token_files import read_tokens
from tokenizer.tokens.token_folders import find_token_files
from tokenizer.tokens.token_images import TokenFile, TokenFiles
from tokenizer.tokens.token_set import TokenSet

NamedTokens = str | os.PathLike[str] | TokenSet


def open_token_files(
    inputs: NamedTokens | Sequence[NamedTokens],
    grid: tuple[int, int] | None = None,
    codes: int = 1,
    *,
    stdin: BinaryIO | None = None,
) -> TokenFiles:
    """Return the token files that arguments name, in order; each is opened when it is asked for.

    Args:
        inputs: one or several: a token file; a folder, which is searched; `-` for what `stdin` holds; tokens in memory.
        grid: (h, w) of the sequences in arrays without a header, see `headerless_tokens`.
        codes: codes per position of these.
        stdin: a stream of one token file.

    Returns:
        The files; their `warnings` name the folders that somebody has not finished writing.

    Raises:
        InputError: a folder holds no token file, or the stream is none.
        UsageError: `-` is named twice, or there is no stream.
    """
    inputs = [inputs] if isinstance(inputs, str | os.PathLike | TokenSet) else inputs
    refuse_stream_twice(inputs)
    files: list[TokenFile] = []
    warnings: list[str] = []
    for number, named in enumerate(inputs):
        if isinstance(named, TokenSet):
            files.append(TokenFile(f"tokens {number + 1}", tokens=named))
        elif named == "-":
            files.append(TokenFile("stdin", tokens=_read_stream(stdin, grid, codes)))
        elif Path(named).is_dir():
            files += _in_folder(Path(named), warnings)
        else:
            files.append(TokenFile(os.fspath(named)))
    return TokenFiles(files, grid, codes, tuple(warnings))


def refuse_stream_twice(inputs: Sequence[NamedTokens]) -> None:
    """Raise UsageError where `-` is named twice: a stream is read once."""
    if sum(isinstance(named, str) and named == "-" for named in inputs) > 1:
        raise UsageError("stdin is named twice")


def _in_folder(path: Path, warnings: list[str]) -> Iterator[TokenFile]:
    folder = find_token_files(path)
    if not folder.finished:
        whole = len(folder.files)
        warnings.append(f"{path} is unfinished: {whole} token files are whole, vqtok encode --resume goes on")
    counts = itertools.repeat(None) if folder.images is None else folder.images
    return itertools.starmap(TokenFile, zip(folder.files, counts, strict=False))


def _read_stream(stream: BinaryIO | None, grid: tuple[int, int] | None, codes: int) -> TokenSet:
    if stream is None:
        raise UsageError("- stands for a stream, and none was given: pass stdin")
    data = stream.read()
    if not data:
        raise InputError("stdin is empty: expected a token file")
    try:
        return read_tokens(data, grid, codes)
    except (TokenFileError, UsageError) as error:
        raise type(error)(f"stdin: {error}") from error
