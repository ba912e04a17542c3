"""Tokens stay in their file until they are looked at, and are looked at in any order."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tokens.conftest import assert_same, made, raw_npy, raw_safetensors, read_all
from tokenizer.tokens import (
    TokenSet,
    headerless_tokens,
    read_tokens,
    select_rows,
    sidecar_of,
    tokens_to_bytes,
    write_tokens,
)
from tokenizer.tokens import token_set as tokens_module
from tokenizer.tokens.lazy_sequence import LazySequence

SHAPE = (20, 1000, 1000)


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that Python and numpy held at most."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def with_room(path: Path, start: bytes, size: int) -> Path:
    """A file that begins with `start`, and goes on with `size` zeros that take no room on the disk."""
    path.write_bytes(start)
    os.truncate(path, len(start) + size)
    return path


@pytest.mark.parametrize("kind", ["npy", "fortran", "sidecar", "safetensors"])
def test_a_large_file_is_not_read_into_memory(tmp_path: Path, kind: str) -> None:
    size = 2 * SHAPE[0] * SHAPE[1] * SHAPE[2]
    if kind == "safetensors":
        described = {"tokens": {"dtype": "U16", "shape": SHAPE, "data_offsets": [0, size]}}
        path = with_room(tmp_path / "t.safetensors", raw_safetensors(described), size)
    else:
        order = kind == "fortran"
        header = f"{{'descr': '<u2', 'fortran_order': {order}, 'shape': {SHAPE}, }}"
        path = with_room(tmp_path / "t.npy", raw_npy(header), size)
    if kind == "sidecar":
        # The first line of another file: its header; then rows of this one's grid.
        write_tokens(tmp_path / "small.npy", made([(1, 1)]))
        first = sidecar_of(tmp_path / "small.npy").read_bytes().partition(b"\n")[0]
        rows = [b'{"status":"done","name":"x","row":%d,"grid":[1000,1000]}' % row for row in range(SHAPE[0])]
        sidecar_of(path).write_bytes(b"\n".join([first, *rows, b""]))

    def work() -> None:
        tokens = read_tokens(path)
        assert len(tokens.grids) == SHAPE[0]
        assert tokens.grids[-1].shape == (1000, 1000, 1)
        assert tokens.images[3].grid == (1000, 1000)
        assert tokens.grids[7][5, 5, 0] == 0

    work()
    assert peak_of(work) < 2**21


def test_sequences_are_a_view(tmp_path: Path) -> None:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {(SHAPE[0], SHAPE[1] * SHAPE[2])}, }}"
    path = with_room(tmp_path / "t.npy", raw_npy(header), 2 * SHAPE[0] * SHAPE[1] * SHAPE[2])
    grids = read_tokens(path, (1000, 1000)).grids
    assert grids[3].shape == (1000, 1000, 1)
    assert peak_of(lambda: read_tokens(path, (1000, 1000)).grids[3]) < 2**21


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_what_is_mapped_cannot_be_written_to(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    write_tokens(path, made([(2, 3)] * 2))
    for tokens in (read_tokens(path), read_tokens(path.read_bytes())):
        with pytest.raises(ValueError, match="read-only"):
            tokens.grids[0][0, 0, 0] = 1
        with pytest.raises(ValueError, match="read-only"):
            next(iter(tokens.blocks()))[2][:] = 1


def test_the_file_may_go_while_it_is_mapped(tmp_path: Path) -> None:
    tokens = made([(2, 3), (4, 1)])
    write_tokens(tmp_path / "t.safetensors", tokens)
    found = read_tokens(tmp_path / "t.safetensors")
    (tmp_path / "t.safetensors").unlink()
    assert_same(found, tokens)


@pytest.mark.parametrize("file_format", ["npy", "safetensors"])
def test_a_pipe_is_read(tmp_path: Path, file_format: str) -> None:
    """As of a shell's `vqtok decode <(vqtok encode ...)`: it can be read once, and has no size."""
    data = tokens_to_bytes(made([(2, 3)] * 2), file_format)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    tokens = read_tokens(tmp_path / "pipe")
    writer.join()
    for found, wanted in zip(tokens.grids, read_tokens(data).grids, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xe9.safetensors")
    write_tokens(path, made([(2, 3)]))
    read_all(read_tokens(path))


class TestBlocks:
    def assert_cover(self, tokens: TokenSet, arrays: dict[str, np.ndarray]) -> None:
        """The blocks of each array follow each other from row 0 to the last, and hold its tokens."""
        found: dict[str, list[np.ndarray]] = {}
        for key, first, block in tokens.blocks():
            assert first == sum(map(len, found.setdefault(key, [])))
            found[key].append(block)
        assert found.keys() == arrays.keys()
        for key, blocks in found.items():
            np.testing.assert_array_equal(np.concatenate(blocks), arrays[key])

    @pytest.mark.parametrize("at_once", [1, 13, 30, 10**6])
    def test_every_token_comes_once(self, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
        monkeypatch.setattr(tokens_module, "_TOKENS_AT_ONCE", at_once)
        tokens = made([(2, 3), (4, 1), (2, 3), (2, 3), (4, 1)], (9, 9))
        by_grid = {
            "tokens_2x3": np.stack([tokens.grids[row] for row in (0, 2, 3)]),
            "tokens_4x1": np.stack([tokens.grids[row] for row in (1, 4)]),
        }
        stored = read_tokens(tokens_to_bytes(tokens, "safetensors"))
        self.assert_cover(stored, by_grid)
        self.assert_cover(tokens, by_grid)
        for _, _, block in stored.blocks():
            assert block.size <= max(at_once, block[:1].size)

    def test_of_a_bare_array_and_of_some_rows(self) -> None:
        array = np.arange(24).reshape(4, 2, 3)
        self.assert_cover(headerless_tokens(array), {"tokens": array[..., None]})
        self.assert_cover(select_rows(headerless_tokens(array), range(1, 3)), {"tokens": array[1:3, ..., None]})
        self.assert_cover(made([]), {})

    def test_each_is_checked_before_it_comes(self) -> None:
        tokens = headerless_tokens(np.arange(6).reshape(1, 2, 3))
        (block,) = tokens.checked_blocks((6,))
        np.testing.assert_array_equal(block, tokens.grids[0][None])


class TestSequences:
    tokens = read_tokens(tokens_to_bytes(made([(2, 3), (4, 1), (2, 3), (1, 1)], names=list("abcd")), "safetensors"))

    @pytest.mark.parametrize("index", [0, 3, -1, -4])
    def test_rows(self, index: int) -> None:
        wanted = made([(2, 3), (4, 1), (2, 3), (1, 1)])
        assert self.tokens.images[index].name == "abcd"[index]
        np.testing.assert_array_equal(self.tokens.grids[index], wanted.grids[index])

    @pytest.mark.parametrize("index", [4, -5, 10**12])
    def test_rows_that_are_not_there(self, index: int) -> None:
        for sequence in (
            self.tokens.images,
            self.tokens.grids,
            self.tokens.failed,
            headerless_tokens(np.zeros((4, 1, 1), int)).images,
        ):
            with pytest.raises(IndexError):
                sequence[index]

    @pytest.mark.parametrize(
        "which",
        [slice(1, 3), slice(None), slice(None, None, -1), slice(3, 0, -2), slice(9), slice(2, 2), slice(-2, None)],
    )
    def test_slices(self, which: slice) -> None:
        images, grids = self.tokens.images[which], self.tokens.grids[which]
        assert [record.name for record in images] == list("abcd"[which])
        assert [grid.shape for grid in grids] == [(*record.grid, 1) for record in images]
        assert [record.name for record in images[::-1]] == list("abcd"[which][::-1])
        assert [grid.shape for grid in grids[:1]] == [grid.shape for grid in list(grids)[:1]]
        names = headerless_tokens(np.zeros((4, 1, 1), int)).images
        assert [record.name for record in names[which]] == [f"{row:06d}" for row in range(4)[which]]

    def test_a_slice_of_lines_reads_none(self) -> None:
        assert isinstance(self.tokens.images, LazySequence)
        assert isinstance(self.tokens.images[1:], LazySequence)

    @pytest.mark.parametrize("rows", [range(4), range(1, 3), range(3, -1, -1), range(2, 2), range(0, 4, 3)])
    def test_some_images(self, rows: range) -> None:
        for tokens in (self.tokens, made([(2, 3), (4, 1), (2, 3), (1, 1)], names=list("abcd"))):
            some = select_rows(tokens, rows)
            assert [record.name for record in some.images] == ["abcd"[row] for row in rows]
            for grid, row in zip(some.grids, rows, strict=True):
                np.testing.assert_array_equal(grid, tokens.grids[row])
            assert some.header == tokens.header
            assert read_all(read_tokens(tokens_to_bytes(some, "safetensors"))).codes_per_position == 1
