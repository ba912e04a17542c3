"""One array of any of our files: the same rows and names whatever they lie in, and little else in memory."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import loaded_by
from tests.tokens.array.conftest import COUNT, LAYOUTS, NAMES, lay, pieces, shards, stacked, tree, whole
from tests.tokens.conftest import lines_of, made, one, row_with, with_header
from tokenizer.errors import InputError, TokenFileError
from tokenizer.tokens import load_tokens, write_tokens

INDICES: list[Any] = [
    *(0, 6, 7, 29, -1, -30, np.int64(3), np.uint8(29), np.array(5)),
    *(slice(None), slice(2, 6), slice(7, 19), slice(5, 25, 3), slice(None, None, -1), slice(6, None, -2)),
    *(slice(18, 6, -1), slice(-3, None), slice(8, 8), slice(100, 200)),
    *([], [3], [29, 0, 7, 7, -1], (np.arange(40) % 30)[::-1], np.array([29, 1], np.uint8), range(5, 9)),
]


@pytest.mark.parametrize("codes", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_array(layout: str, codes: int, tmp_path: Path) -> None:
    tokens = whole(codes)
    array, expected = load_tokens(*lay(layout, tmp_path / "t", tokens)), stacked(tokens)
    assert (array.shape, array.ndim, len(array), array.dtype) == (expected.shape, expected.ndim, COUNT, np.uint16)
    assert (array.codebook_sizes, array.model, array.header) == ((1000,) * codes, "f" * 64, tokens.header)
    np.testing.assert_array_equal(np.asarray(array), expected)
    assert list(array.names) == NAMES
    assert list(array.names[3:20:4]) == NAMES[3:20:4]
    assert array.names[-1] == NAMES[-1]


@pytest.mark.parametrize("index", INDICES, ids=lambda index: f"{index!r:.24}")
@pytest.mark.parametrize("layout", ["file of npy", "file of tar", "parts of safetensors", "tree"])
def test_indexing_is_that_of_numpy(layout: str, index: Any, tmp_path: Path) -> None:
    array, expected = load_tokens(*lay(layout, tmp_path / "t", whole())), stacked(whole())
    chosen = expected[np.array(index, int) if isinstance(index, list) else index]
    assert array[index].dtype == np.uint16
    np.testing.assert_array_equal(array[index], chosen)


@pytest.mark.parametrize("index", [30, -31, [0, 30], np.array([-31])], ids=repr)
def test_a_row_that_is_not_there(index: Any, tmp_path: Path) -> None:
    array = load_tokens(*lay("parts of npy", tmp_path / "t", whole()))
    with pytest.raises(IndexError, match=r"row (30|-31) of 30"):
        array[index]


@pytest.mark.parametrize(
    "index", [(0, 1), True, [True] * COUNT, 1.0, [0.5], [[0, 1]], "0", None], ids=lambda index: f"{index!r:.12}"
)
def test_what_is_no_index(index: Any, tmp_path: Path) -> None:
    array = load_tokens(*lay("file of npy", tmp_path / "t", whole()))
    with pytest.raises(IndexError, match="a row, a slice or a list of rows"):
        array[index]


def test_rows_are_iterated_over(tmp_path: Path) -> None:
    np.testing.assert_array_equal(list(load_tokens(*lay("parts of npy", tmp_path / "t", whole()))), stacked(whole()))


def test_arrays_of_a_generator(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=">i8").reshape(4, 2, 3)
    np.save(tmp_path / "bare.npy", rows)
    np.savez(tmp_path / "bare.npz", tokens=rows)
    for name in ("bare.npy", "bare.npz"):
        array = load_tokens(str(tmp_path / name))
        assert (array.model, array.codebook_sizes, list(array.names)[1]) == (None, (), "000001")
        np.testing.assert_array_equal(np.asarray(array), rows)
    both = load_tokens(tmp_path / "bare.npz", tmp_path / "bare.npy")
    np.testing.assert_array_equal(both[2:6], rows[[2, 3, 0, 1]])


@pytest.mark.parametrize("file_format", ["npy", "safetensors"])
def test_one_file_is_viewed_not_copied(file_format: str, tmp_path: Path) -> None:
    array = load_tokens(*lay(f"file of {file_format}", tmp_path / "t", whole()))
    everything = array.__array__(copy=False)
    for view in (array[3], array[4:9], array[::-2], np.asarray(array)):
        assert np.shares_memory(view, everything)
        assert not view.flags.writeable
    copied = np.array(array)
    assert copied.flags.writeable
    assert not np.shares_memory(copied, everything)
    assert np.asarray(array, np.int64).dtype == np.int64
    with pytest.raises(ValueError, match="copy"):
        array.__array__(np.int64, copy=False)


def test_several_files_are_copied_where_they_meet(tmp_path: Path) -> None:
    array = load_tokens(*lay("parts of npy", tmp_path / "t", whole()))
    assert not array[7:19].flags.writeable
    assert array[6:8].flags.writeable
    with pytest.raises(ValueError, match="copy"):
        array.__array__(copy=False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_pickled_is_names_of_files(layout: str, tmp_path: Path) -> None:
    array = load_tokens(*lay(layout, tmp_path / "t", whole()))
    assert array[0] is not None  # a file is open
    pickled = pickle.dumps(array)
    assert np.asarray(array).tobytes() not in pickled
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(np.asarray(again), stacked(whole()))
    assert list(again.names) == NAMES


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list open files")
def test_open_files_are_bounded(tmp_path: Path) -> None:
    for row in range(300):
        write_tokens(tmp_path / f"{row:03d}.npy", made([(2, 3)], seed=row))
    before = len(list(Path("/proc/self/fd").iterdir()))
    array = load_tokens(tmp_path)
    rows = [*array, *(array[row : row + 1] for row in range(300))]
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 2 * 64  # a `.npy` and the manifest beside it
    np.testing.assert_array_equal(rows[299], made([(2, 3)], seed=299).grids[0][..., 0])


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    # 25 million tokens, of which nothing is read.
    np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint16, (100_000, 16, 16)).flush()
    tracemalloc.start()
    array = load_tokens(tmp_path / "large.npy")
    assert (array[99_999].sum(), array[5:90_000].shape, array.names[7]) == (0, (89_995, 16, 16), "000007")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_shards_are_opened_when_they_are_needed(tmp_path: Path) -> None:
    shards(tmp_path, pieces(whole()))
    (tmp_path / "shard-8.safetensors").write_bytes(b"")
    array = load_tokens(tmp_path)
    np.testing.assert_array_equal(array[[0, 29]], stacked(whole())[[0, 29]])
    with pytest.raises(TokenFileError, match=r"shard-8\.safetensors"):
        array[7]


def test_a_shard_that_its_index_does_not_describe(tmp_path: Path) -> None:
    shards(tmp_path, pieces(whole()))
    write_tokens(tmp_path / "shard-8.safetensors", pieces(whole())[0])
    with pytest.raises(InputError, match=r"shard-8\.safetensors holds 7 images, its folder's list says 12"):
        np.asarray(load_tokens(tmp_path))


def test_images_that_failed_have_no_rows(tmp_path: Path) -> None:
    none = dataclasses.replace(whole(), images=[], grids=[])
    write_tokens(tmp_path / "a.npy", none)
    write_tokens(tmp_path / "b.npy", whole())
    array = load_tokens(tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "a.npy")
    np.testing.assert_array_equal(np.asarray(array), stacked(whole()))
    assert array.names[0] == NAMES[0]
    with pytest.raises(InputError, match=r"a\.npy holds no tokens$"):
        load_tokens(tmp_path / "a.npy", tmp_path / "a.npy")
    (tmp_path / "shards").mkdir()
    shards(tmp_path / "shards", [none])
    with pytest.raises(InputError, match=r"shards holds no tokens$"):
        load_tokens(tmp_path / "shards")


def test_two_grids(tmp_path: Path) -> None:
    write_tokens(tmp_path / "mixed.safetensors", made([(2, 3), (4, 2)]))
    write_tokens(tmp_path / "a.npy", made([(2, 3)]))
    write_tokens(tmp_path / "b.npy", made([(4, 2)]))
    advice = ": one array needs one grid, encode with --image-size$"
    with pytest.raises(InputError, match=r"mixed\.safetensors holds 2x3 grids and 4x2 ones" + advice):
        load_tokens(tmp_path / "mixed.safetensors")
    with pytest.raises(InputError, match=r"2x3 grids in .*a\.npy, 4x2 ones in .*b\.npy" + advice):
        load_tokens(tmp_path / "a.npy", tmp_path / "b.npy")


def test_two_grids_in_a_tar(tmp_path: Path) -> None:
    (path,) = lay("file of tar", tmp_path, made([(2, 3), (4, 2)]))
    with pytest.raises(InputError, match=r"tokens\.tar holds 2x3 grids and 4x2 ones"):
        load_tokens(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "e" * 64}, "were made by different checkpoints: encode all with one$"),
        ({"codebook_sizes": (2**20,)}, r"1 x uint16 a position in .*, 1 x uint32 in .*: save them alike$"),
    ],
)
def test_files_that_do_not_belong_together(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_tokens(tmp_path / "a.npy", whole())
    write_tokens(tmp_path / "b.npy", whole(**changes))
    with pytest.raises(InputError, match=message):
        load_tokens(tmp_path / "a.npy", tmp_path / "b.npy")


def test_a_bare_array_is_of_no_checkpoint(tmp_path: Path) -> None:
    write_tokens(tmp_path / "a.npy", whole())
    np.save(tmp_path / "b.npy", stacked(whole()))
    with pytest.raises(InputError, match="different checkpoints"):
        load_tokens(tmp_path / "a.npy", tmp_path / "b.npy")


def test_the_order_of_a_tree_without_a_manifest_is_sorted(tmp_path: Path) -> None:
    tree(tmp_path, whole())
    (tmp_path / "manifest.jsonl").unlink()
    array = load_tokens(tmp_path)
    rows = sorted(range(COUNT), key=lambda row: NAMES[row].split("/"))
    assert list(array.names) == [NAMES[row] for row in rows]
    np.testing.assert_array_equal(np.asarray(array), stacked(whole())[rows])


@pytest.mark.parametrize("left", ["shard-1.npy.partial/", "shard-0.done"])
def test_what_is_not_finished(left: str, tmp_path: Path) -> None:
    write_tokens(tmp_path / "shard-0.npy", whole())
    (tmp_path / left).mkdir() if left.endswith("/") else (tmp_path / left).write_text("{}")
    with pytest.raises(InputError, match=r"is not finished: run vqtok encode --resume$"):
        load_tokens(tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*missing\.npy"):
        load_tokens(tmp_path / "missing.npy")
    with pytest.raises(InputError, match="no token files in"):
        load_tokens(tmp_path)


def test_a_manifest_in_another_order_than_its_rows(tmp_path: Path) -> None:
    # The library writes rows in order; names of such a file would be those of other rows.
    rows = [row_with(1, name="b.png"), row_with(0, name="a.png")]
    header = made([(2, 3)]).header.to_json()
    (tmp_path / "t.safetensors").write_bytes(with_header(one(rows=2), header, lines_of(rows)))
    array = load_tokens(tmp_path / "t.safetensors")
    with pytest.raises(TokenFileError, match=r"t\.safetensors: its manifest is not in the order of its rows"):
        array.names[0]


def test_a_damaged_index(tmp_path: Path) -> None:
    shards(tmp_path, pieces(whole()))
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "shards": "damaged"}))
    with pytest.raises(InputError, match=r"index\.json is damaged"):
        load_tokens(tmp_path)


def test_importing_costs_little() -> None:
    assert not loaded_by(["tokenizer"]) & {"numpy", "torch", "PIL", "safetensors"}
    assert "torch" not in loaded_by(["tokenizer.tokens"])
