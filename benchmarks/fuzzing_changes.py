"""Changes to the bytes of a file: of bytes, of pieces, of numbers, of values in JSON and TOML."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_ODD = [
    *(b"0", b"-1", b"1", b"0.5", b"1e999", b"-1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"[[1]]"),
    *(str(number).encode() for number in (2**31, 2**32, 2**53, 2**63, 2**64, 10**12, 10**40)),
    *(b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"../", b"/etc/x", b"\0", b"C:\\\\", b"A" * 300, b"\n"),
    *(b"256*", b"residual(", b"a.a.", b"\xff\xfe", b"\r\n", b"\x80\x04", b"PK\x03\x04", b"ustar"),
]


def changed(dice: random.Random, data: bytes) -> bytes:
    """Return bytes with one to four changes: of bytes, of pieces, of numbers, of values in JSON."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        data = dice.choice(_CHANGES)(dice, data)
    return data


def _flip(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]


def _cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _drop(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + data[at + dice.choice((1, 2, 8, 100)) :]


def _repeat(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + data[at : at + dice.choice((1, 8, 100, 600))] * dice.choice((2, 3, 50)) + data[at:]


def _insert(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(_ODD) + data[at + dice.choice((0, 1, 4)) :]


def _replace(pattern: bytes) -> Callable[[random.Random, bytes], bytes]:
    def replace(dice: random.Random, data: bytes) -> bytes:
        found = list(re.finditer(pattern, data))
        if not found:
            return _flip(dice, data)
        spot = dice.choice(found)
        return data[: spot.start()] + dice.choice(_ODD) + data[spot.end() :]

    return replace


_CHANGES = (
    *(_flip, _flip, _cut, _drop, _repeat, _insert),
    *(
        _replace(rb"-?[0-9][0-9.]*"),
        _replace(rb'"[^"\n]{0,80}"'),
        _replace(rb"\[[^\[\]\n]*\]"),
        _replace(rb"[a-z_]{3,}"),
    ),
)
