"""A damaged row is found when it is read, and named; the others are not touched by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tokens.conftest import header_with, lines_of, npy, one, read_all, row_with, with_header
from tokenizer.errors import TokenFileError
from tokenizer.tokens import TokenSet, manifest, read_tokens, sidecar_of

FAILED = {"status": "failed", "name": "bad.png", "reason": "empty"}


def lazily(path: Path, *rows: dict[str, Any], **header: Any) -> list[TokenSet]:
    """The same two tokens with a manifest, from bytes, a `.safetensors` and a `.npy`; none is read yet."""
    arrays, values = one(rows=len([row for row in rows if row["status"] == "done"])), header_with(**header)
    data = with_header(arrays, values, rows)
    (path / "t.safetensors").write_bytes(data)
    (path / "t.npy").write_bytes(npy(arrays["tokens"]))
    sidecar_of(path / "t.npy").write_bytes(lines_of([values, *rows]))
    return [read_tokens(data), read_tokens(path / "t.safetensors"), read_tokens(path / "t.npy")]


def fault(tokens: TokenSet) -> str:
    """Read every row, and return the message without the file's name."""
    with pytest.raises(TokenFileError) as caught:
        read_all(tokens)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.partition("its manifest ")[2]


def test_the_message(tmp_path: Path) -> None:
    good, bad = row_with(0), row_with(1, name=3, grid=None)
    from_bytes, stored, beside = lazily(tmp_path, good, bad)
    start = len(lines_of([good]))
    reason = "TypeError 'NoneType' object is not iterable"
    for tokens, where in [
        (from_bytes, ""),
        (stored, f"{tmp_path}/t.safetensors: "),
        (beside, f"{tmp_path}/t.npy: "),
        (TokenSet(beside.header, beside.images[0:], beside.grids[0:]), f"{tmp_path}/t.npy: "),
    ]:
        assert tokens.images[0].name == "0.png"
        assert tokens.grids[0].shape == (2, 3, 1)
        for sequence in (tokens.images, tokens.grids):
            with pytest.raises(TokenFileError) as caught:
                sequence[1]
            assert str(caught.value) == f"{where}its manifest is damaged at byte {start}: {reason}"
        with pytest.raises(TokenFileError):
            list(tokens.images)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"row": -1}, "is damaged at byte 0: ValueError row -1"),
        ({"row": 1}, "says that row 1 is a (2, 3) grid, its arrays do not hold one"),
        ({"row": 10**40}, f"says that row {10**40} is a (2, 3) grid, its arrays do not hold one"),
        ({"row": None}, "is damaged at byte 0: TypeError"),
        ({"row": float("nan")}, "is damaged at byte 0: ValueError"),
        ({"row": float("-inf")}, "is damaged at byte 0: OverflowError"),
        ({"row": "1\n2"}, "is damaged at byte 0: ValueError"),
        ({"grid": [3, 2]}, "is damaged at byte 0: ValueError a canvas of (16, 24) pixels on a grid of (3, 2)"),
        ({"grid": [0, 3]}, "is damaged at byte 0: ValueError"),
        ({"grid": [2]}, "is damaged at byte 0: ValueError"),
        ({"grid": 6}, "is damaged at byte 0: TypeError"),
        ({"grid": [2**63, 1]}, "is damaged at byte 0: ValueError"),
        ({"offset": [1, 0]}, "is damaged at byte 0: ValueError a picture lies outside its canvas"),
        ({"offset": [-1, 0]}, "is damaged at byte 0: ValueError a picture lies outside its canvas"),
        ({"offset": []}, "is damaged at byte 0: IndexError"),
        ({"offset": {}}, "is damaged at byte 0: KeyError 0"),
        ({"content": [17, 24]}, "is damaged at byte 0: ValueError a picture lies outside its canvas"),
        ({"canvas": [8, 24]}, "is damaged at byte 0: ValueError"),
        ({"canvas": []}, "is damaged at byte 0: ValueError"),
        ({"box": [0, 0, 0, 24]}, "is damaged at byte 0: ValueError a picture lies outside its original"),
        ({"box": [1, 0, 16, 24]}, "is damaged at byte 0: ValueError a picture lies outside its original"),
        ({"box": [-1, 0, 16, 24]}, "is damaged at byte 0: ValueError a picture lies outside its original"),
        ({"box": [0, 0, 16]}, "is damaged at byte 0: ValueError"),
        ({"original": [1]}, "is damaged at byte 0: ValueError"),
        ({"original": [-16, 24]}, "is damaged at byte 0: ValueError"),
        ({"scale": 0}, "is damaged at byte 0: ValueError"),
        ({"scale": None}, "is damaged at byte 0: TypeError"),
    ],
)
def test_rows(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    for tokens in lazily(tmp_path, row_with(**change)):
        assert fault(tokens).startswith(reason)
        tokens.check_range((9,))  # the tokens are all there


@pytest.mark.parametrize("missing", [key for key in row_with() if key not in ("status", "canvas")])
def test_rows_without_a_key(tmp_path: Path, missing: str) -> None:
    row = row_with()
    del row[missing]
    for tokens in lazily(tmp_path, row):
        assert fault(tokens) == f"is damaged at byte 0: KeyError '{missing}'"


def test_failures(tmp_path: Path) -> None:
    for tokens in lazily(tmp_path, row_with(), {"status": "failed", "name": "x"}):
        assert tokens.images[0].name == "0.png"
        assert fault(tokens).endswith("KeyError 'reason'")


def test_another_downsampling(tmp_path: Path) -> None:
    for tokens in lazily(tmp_path, row_with(), downsample=16):
        assert fault(tokens).startswith(
            "is damaged at byte 0: ValueError a canvas of (16, 24) pixels on a grid of (2, 3)"
        )


@pytest.mark.parametrize(
    "text",
    [b"\n", b"{}\n", b"[1,2]\n", b'{"name":"x","status":"done"}\n', b'{"status":"gone"}\n', b"\xff" * 20 + b"\n"],
)
def test_lines_that_are_none_of_vqtok_s(text: bytes) -> None:
    for before, after in [(b"", b""), (lines_of([row_with()]), b""), (b"", lines_of([FAILED]))]:
        with pytest.raises(TokenFileError, match=r"^its manifest (holds a line that is none of vqtok's|is damaged at)"):
            read_all(read_tokens(with_header(one(), header_with(), before + text + after)))


@pytest.mark.parametrize(
    "text",
    [
        b'{"status":"d',
        b'{"status":"done"',
        b'{"status":"done"}x',
        b'["status","done"]',
        b'{"status":"d"}',
        b"x" * 11 + b"d",
        b"\xff" * 11 + b"f",
        b'{"status":"d' + b"[" * 10**5,
    ],
)
def test_lines_that_only_look_like_one(text: bytes) -> None:
    arrays = one(rows=2) if text[11:12] == b"d" else one()
    assert fault(read_tokens(with_header(arrays, header_with(), lines_of([row_with()]) + text + b"\n"))).startswith(
        "is damaged at byte "
    )


def test_cut_anywhere() -> None:
    """A manifest that lost whole lines of images no longer matches the arrays."""
    text = lines_of([row_with(), FAILED, row_with(1)])
    for length in range(len(text)):
        with pytest.raises(TokenFileError, match=r"its manifest is truncated|its manifest names"):
            read_tokens(with_header(one(rows=2), header_with(), text[:length]))


def test_rows_in_any_order_with_failures_between(tmp_path: Path) -> None:
    arrays = {
        "tokens_2x3": np.arange(18, dtype=np.uint8).reshape(3, 2, 3),
        "tokens_1x1": np.array([[[50]], [[51]]], np.uint8),
    }
    order = [((2, 3), 2), ((1, 1), 1), None, ((2, 3), 0), ((1, 1), 0), None, ((2, 3), 1)]
    rows = [
        {**FAILED, "name": f"{number}"} if row is None else row_with(row[1], row[0], name=f"{number}")
        for number, row in enumerate(order)
    ]
    tokens = read_all(read_tokens(with_header(arrays, header_with(), rows)))
    assert [record.name for record in tokens.images] == ["0", "1", "3", "4", "6"]
    assert [failure.name for failure in tokens.failed] == ["2", "5"]
    for record, grid in zip(tokens.images, tokens.grids, strict=True):
        (height, width), row = order[int(record.name)] or ((0, 0), 0)
        np.testing.assert_array_equal(grid[..., 0], arrays[f"tokens_{height}x{width}"][row])


def test_two_images_of_one_row(tmp_path: Path) -> None:
    """Each gets the tokens that its line names; that no line names the other row is not looked for."""
    arrays = {"tokens": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)}
    tokens = read_all(read_tokens(with_header(arrays, header_with(), [row_with(1, name="a"), row_with(1, name="b")])))
    for grid in tokens.grids:
        np.testing.assert_array_equal(grid[..., 0], arrays["tokens"][1])


@pytest.mark.parametrize("at_once", [1, 50, 101, 10**4])
def test_lines_that_are_looked_for_in_parts(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(manifest, "_SCANNED", at_once)
    rows = [row_with(row, (1, 1), name="x" * row) if row % 5 else {**FAILED, "name": f"{row}"} for row in range(40)]
    tokens = read_tokens(with_header(one(grid=(1, 1), rows=32), header_with(), rows))
    assert [record.name for record in tokens.images] == ["x" * row for row in range(40) if row % 5]
    assert [failure.name for failure in tokens.failed] == [f"{row}" for row in range(0, 40, 5)]
