"""The header and the manifest that lie beside a `.npy`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tokens.conftest import assert_same, made, read_all
from tokenizer.errors import InputError, TokenFileError
from tokenizer.tokens import Header, read_tokens, sidecar_of, write_tokens


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tokens(tmp_path / "t.npy", made([(2, 3)] * 2))
    return tmp_path / "t.npy"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"\n", b"\0" * 2**21, b'{"a":' * 2**18])
def test_damaged(path: Path, text: bytes) -> None:
    sidecar_of(path).write_bytes(text)
    with pytest.raises(TokenFileError, match=r"t\.npy: its header is"):
        read_tokens(path)


def test_missing(path: Path) -> None:
    sidecar_of(path).unlink()
    assert read_tokens(path).header == Header()
    sidecar_of(path).mkdir()
    with pytest.raises(InputError, match=r"cannot read .*t\.npy: Is a directory$"):
        read_tokens(path)


def test_of_another_file(path: Path) -> None:
    for other in ([(2, 3)], [(2, 3)] * 3, []):
        write_tokens(path.with_name("other.npy"), made(other))
        sidecar_of(path.with_name("other.npy")).replace(sidecar_of(path))
        with pytest.raises(TokenFileError, match=rf"its arrays hold 2 rows, its manifest names {len(other)}$"):
            read_tokens(path)
    write_tokens(path.with_name("other.npy"), made([(3, 2)] * 2))
    sidecar_of(path.with_name("other.npy")).replace(sidecar_of(path))
    with pytest.raises(TokenFileError, match=r"t\.npy: its manifest says that row 0 is a \(3, 2\) grid, its arrays"):
        read_all(read_tokens(path))


def test_cut_anywhere(path: Path) -> None:
    """The last line is a failure: nothing but that it was there can be lost unnoticed."""
    text, whole = sidecar_of(path).read_bytes(), read_tokens(path)
    images = text.rindex(b'{"status":"failed"')
    for length in reversed(range(len(text))):
        os.truncate(sidecar_of(path), length)
        if length != images:
            with pytest.raises(TokenFileError):
                read_tokens(path)
    sidecar_of(path).write_bytes(text)
    assert_same(read_tokens(path), whole)
