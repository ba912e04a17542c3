"""How large one image may be where nothing says its size, or may lie about it: in archives, behind URLs, on stdin."""

from __future__ import annotations

from typing import BinaryIO

# Of one image, or of one member of an archive. Without a limit, a compressed megabyte could unpack to a gigabyte, and a
# server or a pipe send for ever.
MAX_BYTES = 2**30
_BLOCK = 2**20


def read_bounded(stream: BinaryIO) -> bytes:
    """Return a stream's bytes, or the first of them, more than `MAX_BYTES`, where it is too long."""
    data = bytearray()
    while len(data) <= MAX_BYTES and (block := stream.read(_BLOCK)):
        data += block
    return bytes(data)
