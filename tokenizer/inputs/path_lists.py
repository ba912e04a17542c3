"""Lists of inputs, as `find -print` and `find -print0` write them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from tokenizer.errors import InputError

_LONGEST = 2**16  # bytes of an entry; paths of 4,096 and signed URLs are the longest there are


def read_path_list(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    """Yield the entries of a list, one a line, or with `null` each before a NUL; empty ones are left out.

    Raises:
        InputError: an entry is too long or holds a NUL, as when the list is separated in the other way.
    """
    separator, rest = b"\0" if null else b"\n", b""
    while data := stream.read(_LONGEST):
        *whole, rest = (rest + data).split(separator)
        yield from _names(whole, null=null)
        if len(rest) > _LONGEST:
            raise InputError(f"the list has an entry of more than {_LONGEST} bytes: {_advice(null=null)}")
    yield from _names([rest], null=null)


def _names(lines: list[bytes], *, null: bool) -> Iterator[str]:
    for line in lines:
        name = line if null else line.removesuffix(b"\r")
        if b"\0" in name:
            raise InputError(f"the list holds NUL bytes: {_advice(null=null)}")
        if name:
            yield os.fsdecode(name)


def _advice(*, null: bool) -> str:
    return "its entries must end with NULs, or leave --null out" if null else "is it separated by NULs? pass --null"
