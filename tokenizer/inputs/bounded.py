"""How much is read of what says nothing of its size, or may lie about it."""

from __future__ import annotations

from typing import BinaryIO

# Bytes of one image, or of one member of an archive: a megabyte that is compressed can stand for a thousand of them.
MAX_BYTES = 2**30
_BLOCK = 2**20


def read_bounded(stream: BinaryIO) -> bytes:
    """Return a stream's bytes; of one that is too long, more than `LARGEST`, and no more than a block more."""
    data = bytearray()
    while len(data) <= MAX_BYTES and (block := stream.read(_BLOCK)):
        data += block
    return bytes(data)
