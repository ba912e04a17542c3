"""Tokens outside their alphabet are named with their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tokens.conftest import header_with, lines_of, one, row_with, with_header
from tokenizer.errors import TokenFileError
from tokenizer.tokens import Header, ImageRecord, TokenSet, headerless_tokens, read_tokens, sidecar_of
from tokenizer.tokens import token_set as tokens_module


def test_the_message() -> None:
    grids = [np.zeros((4, 9, 1), int) for _ in range(6)]
    grids[5][2, 7] = 20000
    tokens = TokenSet(Header(), [ImageRecord("x", (4, 9)) for _ in grids], grids)
    with pytest.raises(TokenFileError, match=r"^token 20000 at row 5 \(2, 7\) is outside 0\.\.16383$"):
        tokens.check_range((16384,))
    tokens.check_range((20001,))


def test_each_code_has_its_own_alphabet() -> None:
    tokens = headerless_tokens(np.array([[[[3, 9], [9, 3]]]]))
    tokens.check_range((10, 10))
    with pytest.raises(TokenFileError, match=r"^token 9 at row 0 \(0, 1\) is outside 0\.\.4$"):
        tokens.check_range((5, 10))


def test_negative() -> None:
    with pytest.raises(TokenFileError, match=r"^token -1 at row 0 \(1, 0\) is outside 0\.\.9$"):
        headerless_tokens(np.array([[0], [-1]])).check_range((10,))


@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">i4", "<i8", "u1", "i1"])
def test_of_any_width_and_byte_order(dtype: str) -> None:
    array = np.array([[[3, 7], [100, 2]]], dtype)
    for laid in (array, np.asfortranarray(array)):
        with pytest.raises(TokenFileError, match=r"^token 100 at row 0 \(1, 0\) is outside 0\.\.99$"):
            headerless_tokens(laid).check_range((100,))
        headerless_tokens(laid).check_range((101,))


def test_other_codes_per_position() -> None:
    with pytest.raises(TokenFileError, match="it holds 1 codes per position, the model 2"):
        headerless_tokens(np.zeros((1, 1), int)).check_range((4, 4))


def test_huge_unsigned_tokens() -> None:
    tokens = headerless_tokens(np.array([[2**64 - 1]], np.uint64))
    for sizes in [(4,), (2**63 - 1,)]:
        with pytest.raises(TokenFileError, match="token 18446744073709551615 at row 0"):
            tokens.check_range(sizes)


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_rows_count_from_the_first_of_the_array(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(tokens_module, "_TOKENS_AT_ONCE", at_once)
    array = np.zeros((50, 2, 3), np.uint8)
    array[41, 1, 2] = 9
    with pytest.raises(TokenFileError, match=r"^token 9 at row 41 \(1, 2\) is outside 0\.\.8$"):
        headerless_tokens(array).check_range((9,))


def test_of_several_grids() -> None:
    arrays = {"tokens_1x2": np.zeros((1, 1, 2), np.uint8), "tokens_2x3": np.zeros((2, 2, 3), np.uint8)}
    arrays["tokens_2x3"][1, 1, 1] = 200
    rows = [row_with(0), row_with(0, (1, 2)), row_with(1)]
    stored = read_tokens(with_header(arrays, header_with(codebook_sizes=[200]), rows))
    in_memory = TokenSet(stored.header, list(stored.images), [np.array(grid) for grid in stored.grids])
    for tokens in (stored, in_memory):
        with pytest.raises(TokenFileError, match=r"^token 200 at row 1 of tokens_2x3 \(1, 1\) is outside 0\.\.199$"):
            tokens.check_range((200,))


@pytest.mark.parametrize("suffix", ["safetensors", "npy"])
def test_of_a_file_by_its_own_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    header = header_with(codebook_sizes=[5])
    if suffix == "npy":
        np.save(path, one(5)["tokens"])
        sidecar_of(path).write_bytes(lines_of([header, row_with()]))
    else:
        path.write_bytes(with_header(one(5), header, [row_with()]))
    tokens = read_tokens(path)
    with pytest.raises(TokenFileError, match=r"^token 5 at row 0 \(0, 0\) is outside 0\.\.4$"):
        tokens.check_range(tokens.header.codebook_sizes)
