"""Lists of inputs, with newlines or NULs."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tokenizer.errors import InputError
from tokenizer.inputs import read_path_list


def listed(data: bytes, *, null: bool = False) -> list[bytes]:
    return [os.fsencode(name) for name in read_path_list(io.BytesIO(data), null=null)]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n\r\n\n", [b"a", b"b"]),
        (b" a \n\xff\xe9.png\n-o\n[x]\n", [b" a ", b"\xff\xe9.png", b"-o", b"[x]"]),
    ],
)
def test_lines(data: bytes, names: list[bytes]) -> None:
    assert listed(data) == names


def test_nuls_keep_newlines_and_carriage_returns() -> None:
    assert listed(b"a\nb\0\0c\r\0d", null=True) == [b"a\nb", b"c\r", b"d"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_entries_across_the_pieces_that_are_read(separator: bytes) -> None:
    names = [b"%d" % number * (number % 977 + 1) for number in range(2000)]
    assert listed(separator.join(names), null=separator == b"\0") == names


@pytest.mark.parametrize(
    ("data", "null", "said"),
    [
        (b"a\0b\0", False, "the list holds NUL bytes: is it separated by NULs\\? pass --null"),
        (b"photos/a.png\n" * 20_000, True, "an entry of more than 65536 bytes: its entries must end with NULs, or"),
        (b"photos/a.png\0" * 20_000, False, "pass --null"),
    ],
)
def test_the_other_separator_is_told(data: bytes, null: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        listed(data, null=null)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\nb\n")
    assert list(read_path_list(tmp_path / "list")) == ["a", "b"]
    for name, said in (("gone", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(InputError, match=f"^cannot read the list {tmp_path / name}: {said}$"):
            list(read_path_list(tmp_path / name))


@pytest.mark.parametrize("data", [b"", b"\n\r\n"])
def test_a_list_of_nothing(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^the list of --files-from names no file$"):
        listed(data)
