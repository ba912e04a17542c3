"""Shards: any number of processes, stopped and resumed, write what one writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs.conftest import broken, files_of, stopped
from tokenizer import inputs
from tokenizer.errors import InputError, OutputError
from tokenizer.images import Source
from tokenizer.jobs import EncodeJob, Piece, encode_to_shards, shard_pieces
from tokenizer.tokens import INDEX_FILE, crc32_of, read_tokens

Make = Callable[..., EncodeJob]


def encode(job: EncodeJob, sources: inputs.Listing, folder: Path, share: tuple[int, int] = (0, 1)) -> list[str]:
    return [outcome.name for outcome in encode_to_shards(job, shard_pieces(sources, 7), folder, share)]


def test_shards_and_index(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    outcomes = list(encode_to_shards(job(), shard_pieces([*sources, broken()], 10), tmp_path / "t"))
    assert [outcome.name for outcome in outcomes] == [*(source.name for source in sources), "broken.png"]
    index = json.loads((tmp_path / "t" / INDEX_FILE).read_text())
    assert (index["format"], index["version"], index["images"], index["failed"]) == ("vqtok-index", 1, 24, 1)
    assert [(shard["name"], shard["images"], shard["failed"]) for shard in index["shards"]] == [
        ("shard-000000.safetensors", 10, 0),
        ("shard-000001.safetensors", 10, 0),
        ("shard-000002.safetensors", 4, 1),
    ]
    names: list[str] = []
    for shard in index["shards"]:
        path = tmp_path / "t" / shard["name"]
        assert (path.stat().st_size, crc32_of(path)) == (shard["bytes"], shard["crc32"])
        names += [record.name for record in read_tokens(path).images]
    assert names == [source.name for source in sources]
    marks = {f"shard-00000{number}.done" for number in range(3)}
    assert set(files_of(tmp_path / "t")) == {INDEX_FILE, *marks, *(shard["name"] for shard in index["shards"])}


@pytest.mark.parametrize("file_format", ["npy", "safetensors", "tar"])
def test_processes_together_write_what_one_writes(
    job: Make, sources: inputs.Listing, tmp_path: Path, file_format: str
) -> None:
    options = {"image_size": 32, "resize_mode": "crop"}
    encode(job(file_format, options), sources, tmp_path / "whole")
    seen: list[str] = []
    for part in (2, 0, 1):
        assert not (tmp_path / "t" / INDEX_FILE).exists()
        seen += encode(job(file_format, options), sources, tmp_path / "t", (part, 3))
    assert sorted(seen) == sorted(source.name for source in sources)
    assert files_of(tmp_path / "t") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("after", [0, 3, 7, 12, 24])
@pytest.mark.parametrize("stream", [False, True])
def test_stopped_and_resumed(job: Make, sources: inputs.Listing, tmp_path: Path, after: int, *, stream: bool) -> None:
    encode(job(), sources, tmp_path / "whole")
    stopped(encode_to_shards(job(), shard_pieces(sources, 7), tmp_path / "t"), after)
    again = shard_pieces(iter(sources) if stream else sources, 7)
    outcomes = list(encode_to_shards(job(existing="resume"), again, tmp_path / "t"))
    assert sum(outcome.kept for outcome in outcomes) == after
    assert files_of(tmp_path / "t") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["shard cut", "shard flipped", "shard gone", "mark gone", "mark cut", "index gone"])
def test_what_is_damaged_is_made_again(job: Make, sources: inputs.Listing, tmp_path: Path, damage: str) -> None:
    encode(job(), sources, tmp_path / "t")
    wanted = files_of(tmp_path / "t")
    what, how = damage.split()
    name = {"shard": "shard-000001.safetensors", "mark": "shard-000001.done", "index": INDEX_FILE}[what]
    path = tmp_path / "t" / name
    if how == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data[:-5] if how == "cut" else data)
    outcomes = list(encode_to_shards(job(existing="resume"), shard_pieces(sources, 7), tmp_path / "t"))
    assert sum(not outcome.kept for outcome in outcomes) == (0 if what == "index" else 7)
    assert files_of(tmp_path / "t") == wanted


def test_other_settings(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    encode(job(), sources, tmp_path / "t")
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        encode(job(), sources, tmp_path / "t")
    with pytest.raises(OutputError, match=r"shard-000001\.safetensors exists"):
        encode(job(), sources, tmp_path / "t", (1, 3))
    other = {"alpha": (0, 0, 0)}
    with pytest.raises(InputError, match=r"options\.alpha was #ffffff, now #000000"):
        encode(job(options=other, existing="resume"), sources, tmp_path / "t")
    with pytest.raises(InputError, match=r"made without a/21\.png: pass --overwrite"):
        list(encode_to_shards(job(existing="resume"), shard_pieces(sources[1:], 7), tmp_path / "t"))


def test_parts_with_other_settings(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    encode(job(), sources, tmp_path / "t", (0, 2))
    with pytest.raises(InputError, match=r"options\.alpha was #ffffff, now #000000"):
        encode(job(options={"alpha": (0, 0, 0)}), sources, tmp_path / "t", (1, 2))
    assert not (tmp_path / "t" / INDEX_FILE).exists()


def test_a_shard_of_failures(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    mixed = [*sources[:2], broken("x"), broken("y"), sources[2]]
    list(encode_to_shards(job(), shard_pieces(mixed, 2), tmp_path / "t"))
    index = json.loads((tmp_path / "t" / INDEX_FILE).read_text())
    assert [(shard["images"], shard["failed"]) for shard in index["shards"]] == [(2, 0), (0, 2), (1, 0)]
    again = list(encode_to_shards(job(existing="resume"), shard_pieces(mixed, 2), tmp_path / "t"))
    assert [outcome.reason for outcome in again if outcome.reason] == ["it is broken"] * 2
    assert all(outcome.kept for outcome in again)


def test_a_piece_that_is_there_is_not_read(job: Make, sources: inputs.Listing, tmp_path: Path) -> None:
    def archive(first: int) -> Iterator[Source]:
        opened.append(first)
        yield from sources[first : first + 3]

    opened: list[int] = []
    for resume in (False, True):
        pieces = [Piece(f"imgs-{first}", archive(first)) for first in (0, 3)]
        outcomes = list(encode_to_shards(job(existing="resume" if resume else "refuse"), pieces, tmp_path / "t"))
        assert [outcome.name for outcome in outcomes] == [source.name for source in sources[:6]]
    assert opened == [0, 3]
    assert {path.name for path in (tmp_path / "t").glob("*.safetensors")} == {
        "imgs-0.safetensors",
        "imgs-3.safetensors",
    }
