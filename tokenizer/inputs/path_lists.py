"""Lists of inputs, as `find -print` and `find -print0` write them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from tokenizer.errors import InputError

_LONGEST = 2**16  # bytes of an entry; the longest there are: signed URLs, and paths of 4,096


def read_path_list(files_from: Path | BinaryIO, *, null: bool = False) -> Iterator[str]:
    """Yield the entries of a list, one a line, or with `null` each before a NUL; empty ones are left out.

    Args:
        files_from: the list, a file or an open stream.
        null: NULs separate its entries, which may then hold newlines.

    Raises:
        InputError: it cannot be read, has no entries, or one is too long or holds a NUL, as when the list is separated
            in the other way.
    """
    empty = True
    try:
        with files_from.open("rb") if isinstance(files_from, Path) else nullcontext(files_from) as stream:
            for entry in _entries(stream, null=null):
                empty = False
                yield entry
    except OSError as error:
        which = f" {files_from}" if isinstance(files_from, Path) else ""
        raise InputError(f"cannot read the list{which}: {error.strerror or error}") from error
    if empty:
        raise InputError("the list of --files-from names no file")


def _entries(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    separator, rest = b"\0" if null else b"\n", b""
    while data := stream.read(_LONGEST):
        *whole, rest = (rest + data).split(separator)
        yield from _decoded(whole, null=null)
        if len(rest) > _LONGEST:
            raise InputError(f"the list has an entry of more than {_LONGEST} bytes: {_advice(null=null)}")
    yield from _decoded([rest], null=null)


def _decoded(entries: list[bytes], *, null: bool) -> Iterator[str]:
    for entry in entries:
        name = entry if null else entry.removesuffix(b"\r")
        if b"\0" in name:
            raise InputError(f"the list holds NUL bytes: {_advice(null=null)}")
        if name:
            yield os.fsdecode(name)


def _advice(*, null: bool) -> str:
    return "its entries must end with NULs, or leave --null out" if null else "is it separated by NULs? pass --null"
