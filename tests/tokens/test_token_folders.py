"""Which token files a folder holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokenizer.errors import InputError
from tokenizer.tokens import FailedInput, Header, ImageRecord, TokenSet, find_token_files, manifest_line, write_tokens

HEADER = Header("f" * 64, (32,), 8)


def put(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [ImageRecord(name, (2, 3)) for name in names]
    write_tokens(path, TokenSet(HEADER, records, [np.zeros((2, 3, 1), np.int64)] * len(names)))


def index(folder: Path, shards: object) -> None:
    (folder / "index.json").write_text(json.dumps({"format": "vqtok-index", "version": 1, "shards": shards}))


def found(folder: Path) -> list[str]:
    return [Path(file).relative_to(folder).as_posix() for file in find_token_files(folder).files]


def test_any_tree(tmp_path: Path) -> None:
    for name in ("b/x.npy", "b.npy", "a/z.safetensors", "a/c/d.safetensors", ".hidden/x.npy", "a/.x.npy", "t.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    put(tmp_path / "n.npy", "n.png")
    assert found(tmp_path) == ["a/c/d.safetensors", "a/z.safetensors", "b/x.npy", "b.npy", "n.npy"]
    assert (find_token_files(tmp_path).images, find_token_files(tmp_path).finished) == (None, True)


def test_shards_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    for name in ("shard-000002", "shard-000000"):
        put(tmp_path / f"{name}.npy", "x.png")
        (tmp_path / f"{name}.done").touch()
    names = ["shard-000002.npy", "shard-000001.npy", "shard-000000.npy"]
    index(tmp_path, [{"name": name, "images": images} for name, images in zip(names, (1, 0, 1), strict=True)])
    folder = find_token_files(tmp_path)
    assert found(tmp_path) == [names[0], names[2]]
    assert (folder.images, folder.finished) == ([1, 1], True)


def test_unfinished_shards(tmp_path: Path) -> None:
    for name in ("shard-000000", "shard-000001"):
        put(tmp_path / f"{name}.safetensors", "x.png")
    (tmp_path / "shard-000000.done").touch()
    (tmp_path / "shard-000001.safetensors.partial").mkdir()
    put(tmp_path / "shard-000001.safetensors.partial/rows.npy", "x.png")
    assert found(tmp_path) == ["shard-000000.safetensors"]
    assert not find_token_files(tmp_path).finished
    (tmp_path / "shard-000000.done").unlink()
    assert found(tmp_path) == ["shard-000000.safetensors", "shard-000001.safetensors"]
    assert not find_token_files(tmp_path).finished


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_a_tree_comes_in_the_order_of_its_manifest(tmp_path: Path, suffix: str) -> None:
    names = ["z/1.jpg", "a/[2].jpg", "../up.png"]
    for name in names:
        put(tmp_path / f"{name.removeprefix('../')}.{suffix}", name)
    rows = [FailedInput("gone.png", "empty"), *(ImageRecord(name, (2, 3)) for name in names)]
    lines = [json.dumps(HEADER.to_json()).encode() + b"\n", *(manifest_line(0, row) for row in rows)]
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(lines))
    assert found(tmp_path) == [f"z/1.jpg.{suffix}", f"a/[2].jpg.{suffix}", f"up.png.{suffix}"]
    assert find_token_files(tmp_path).images == [1, 1, 1]
    assert list(find_token_files(tmp_path).failed) == rows[:1]


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        (None, "index.json is damaged, or no index of shards: TypeError"),
        ([{"name": "x.npy"}], "index.json is damaged, or no index of shards: KeyError 'images'"),
        ([{"name": "../x.npy", "images": 1}], "'../x.npy' is no name of a shard"),
        ([{"name": 7, "images": 1}], "7 is no name of a shard"),
    ],
)
def test_damaged_index(tmp_path: Path, shards: object, said: str) -> None:
    index(tmp_path, shards)
    with pytest.raises(InputError) as caught:
        find_token_files(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_lists_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no token files in .*: looked for \.npy"):
        find_token_files(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(InputError, match="damaged, or no index of shards"):
        find_token_files(tmp_path)
    (tmp_path / "index.json").unlink()
    (tmp_path / "manifest.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.jsonl: its header is damaged"):
        find_token_files(tmp_path)


@pytest.mark.parametrize("change", [{"format": "other"}, {"version": 2}])
def test_an_index_of_another_kind(tmp_path: Path, change: dict[str, object]) -> None:
    values = {"format": "vqtok-index", "version": 1, "shards": [], **change}
    (tmp_path / "index.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"index\.json is of a newer vqtok, or another program's"):
        find_token_files(tmp_path)
