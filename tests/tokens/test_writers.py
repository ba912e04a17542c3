"""Writers: what they make of rows is what `write` makes of all of them at once, also after a stop in between."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tokenizer.errors import TokenFileError, UsageError
from tokenizer.images import placement_of
from tokenizer.tokens import (
    EncodedRow,
    FailedInput,
    Header,
    ImageRecord,
    Journal,
    StackWriter,
    TarWriter,
    TokenSet,
    Writer,
    earlier_outcomes,
    read_tokens,
    sidecar_of,
    tokens_to_bytes,
)

SIZES = (700,)


def rows(grids: Sequence[tuple[int, int] | None], sizes: tuple[int, ...] = SIZES) -> list[EncodedRow]:
    """A row for each grid, and a failure for each None."""
    random = np.random.default_rng(0)
    made = []
    for number, grid in enumerate(grids):
        if grid is None:
            made.append(EncodedRow(FailedInput(f"{number}.png", "no image")))
            continue
        record = ImageRecord(f"{number}.png", grid, placement_of((grid[0] * 8, grid[1] * 8), "none", None, 8))
        tokens = np.stack([random.integers(0, size, grid) for size in sizes], axis=-1)
        made.append(EncodedRow(record, tokens, ((f"{number}.cls", b"label"),)))
    return made


def header(sizes: tuple[int, ...] = SIZES) -> Header:
    return Header("f" * 64, sizes, 8, {"vqtok": "1"}, {"image_size": None})


def writer(journal: Journal, file_format: str, sizes: tuple[int, ...] = SIZES) -> Writer:
    return (
        TarWriter(journal, header(sizes)) if file_format == "tar" else StackWriter(journal, header(sizes), file_format)
    )


def in_one_go(path: Path, made: list[EncodedRow], sizes: tuple[int, ...] = SIZES) -> Path:
    with Journal(path.with_name("journal"), {}) as journal:
        target = writer(journal, path.suffix[1:], sizes)
        for row in made:
            target.add(row)
        journal.commit()
        target.write(path)
        journal.discard()
    return path


MIXED = [(2, 3), None, (3, 2), (2, 3), (1, 1), None, (3, 2)]
ALIKE = [(2, 3), None, (2, 3), (2, 3), None, (2, 3)]


@pytest.mark.parametrize("sizes", [SIZES, (4, 70_000)])
def test_the_same_bytes_as_from_memory(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Of images without failures, whose order memory does not keep."""
    for grids, suffix in ((MIXED, "safetensors"), (ALIKE, "npy")):
        made = [row for row in rows(grids, sizes) if row.grid is not None]
        path = in_one_go(tmp_path / f"t.{suffix}", made, sizes)
        images = [row.record for row in made if isinstance(row.record, ImageRecord)]
        tokens = TokenSet(header(sizes), images, [row.grid for row in made if row.grid is not None])
        assert path.read_bytes() == tokens_to_bytes(tokens, suffix)


@pytest.mark.parametrize("suffix", ["safetensors", "npy", "tar"])
@pytest.mark.parametrize("sizes", [SIZES, (4, 300)])
def test_what_was_added_comes_back(tmp_path: Path, suffix: str, sizes: tuple[int, ...]) -> None:
    made = rows(ALIKE if suffix == "npy" else MIXED, sizes)
    tokens = read_tokens(in_one_go(tmp_path / f"t.{suffix}", made, sizes))
    assert tokens.header == header(sizes)
    done = [row for row in made if row.grid is not None]
    assert list(tokens.images) == [row.record for row in done]
    assert list(tokens.failed) == [row.record for row in made if row.grid is None]
    assert len(tokens.grids) == len(done)
    for grid, row in zip(tokens.grids, done, strict=True):
        np.testing.assert_array_equal(grid, row.grid)
    tokens.check_range(sizes)


@pytest.mark.parametrize("suffix", ["safetensors", "npy", "tar"])
@pytest.mark.parametrize("stop", range(7))
def test_stopped_anywhere_and_gone_on(tmp_path: Path, suffix: str, stop: int) -> None:
    made = rows(ALIKE if suffix == "npy" else MIXED)
    (tmp_path / "a").mkdir()
    whole = in_one_go(tmp_path / "a" / f"t.{suffix}", made)
    path = tmp_path / f"t.{suffix}"
    with Journal(tmp_path / "journal", {}) as journal:
        first = writer(journal, suffix)
        for row in made[:stop]:
            first.add(row)
    with Journal(tmp_path / "journal", {}, resume=True) as journal:
        second = writer(journal, suffix)
        assert second.images + second.failed == min(stop, len(made))
        names = [(row.record.name, getattr(row.record, "reason", None)) for row in made[:stop]]
        assert list(earlier_outcomes(journal)) == names
        for row in made[stop:]:
            second.add(row)
        journal.commit()
        second.write(path)
        journal.discard()
    assert path.read_bytes() == whole.read_bytes()
    if suffix != "safetensors":
        assert sidecar_of(path).read_bytes() == sidecar_of(whole).read_bytes()


@pytest.mark.parametrize("suffix", ["safetensors", "npy", "tar"])
def test_failures_alone(tmp_path: Path, suffix: str) -> None:
    tokens = read_tokens(in_one_go(tmp_path / f"t.{suffix}", rows([None, None])))
    assert (len(tokens.images), len(tokens.grids)) == (0, 0)
    assert [failure.name for failure in tokens.failed] == ["0.png", "1.png"]
    assert tokens.header == header()


def test_one_npy_holds_one_grid(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", {}) as journal:
        target = StackWriter(journal, header(), "npy")
        first, second = rows([(2, 3), (3, 2)])
        target.add(first)
        with pytest.raises(UsageError, match=r"1\.png has a 3x2 grid, others 2x3: .*Pass --image-size"):
            target.add(second)
        journal.discard()


def test_parts_joined_are_the_whole(tmp_path: Path) -> None:
    made = rows(MIXED)
    (tmp_path / "a").mkdir()
    whole = in_one_go(tmp_path / "a" / "t.safetensors", made)
    with Journal(tmp_path / "all", {}) as everything:
        joined = StackWriter(everything, header(), "safetensors")
        for number, part in enumerate((made[:3], [], made[3:6], made[6:])):
            with Journal(tmp_path / str(number), {}) as journal:
                target = StackWriter(journal, header(), "safetensors")
                for row in part:
                    target.add(row)
                journal.commit()
                joined.add_part(target)
        everything.commit()
        joined.write(tmp_path / "t.safetensors")
        everything.discard()
    assert (tmp_path / "t.safetensors").read_bytes() == whole.read_bytes()


class TestTar:
    def test_members(self, tmp_path: Path) -> None:
        made = rows([(2, 3), None])
        with tarfile.open(in_one_go(tmp_path / "t.tar", made)) as archive:
            assert archive.getnames() == ["0.npy", "0.vqtok.json", "0.cls"]
            found = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        assert made[0].grid is not None
        np.testing.assert_array_equal(np.load(io.BytesIO(found["0.npy"])), made[0].grid[..., 0])
        about = json.loads(found["0.vqtok.json"])
        assert about["header"] == json.loads(json.dumps(header().to_json()))
        assert about["image"]["name"] == "0.png"
        assert found["0.cls"] == b"label"

    def test_two_images_of_one_sample(self, tmp_path: Path) -> None:
        made = [
            EncodedRow(ImageRecord(name, (1, 2)), np.full((1, 2, 1), number))
            for number, name in enumerate(["a.jpg", "a.png"])
        ]
        path = in_one_go(tmp_path / "t.tar", made)
        with tarfile.open(path) as archive:
            assert archive.getnames() == ["a.npy", "a.vqtok.json", "a.png.npy", "a.png.vqtok.json"]
        assert [int(grid[0, 0, 0]) for grid in read_tokens(path).grids] == [0, 1]

    def test_the_same_key_twice(self, tmp_path: Path) -> None:
        names = ["a.jpg", "b.jpg", "a.jpg"]
        made = [EncodedRow(ImageRecord(name, (1, 2)), np.full((1, 2, 1), number)) for number, name in enumerate(names)]
        tokens = read_tokens(in_one_go(tmp_path / "t.tar", made))
        assert [record.name for record in tokens.images] == names
        assert [int(grid[0, 0, 0]) for grid in tokens.grids] == [0, 1, 2]

    @pytest.mark.parametrize("name", ["x" * 300 + ".png", "é中.png", "d\udce9.png", "two\nlines.png", "a/b.c/d.png"])
    def test_names(self, tmp_path: Path, name: str) -> None:
        tokens = read_tokens(
            in_one_go(tmp_path / "t.tar", [EncodedRow(ImageRecord(name, (1, 2)), np.zeros((1, 2, 1), int))])
        )
        assert tokens.images[0].name == name
        assert tokens.grids[0].shape == (1, 2, 1)

    def test_from_bytes(self, tmp_path: Path) -> None:
        path = in_one_go(tmp_path / "t.tar", rows(MIXED))
        assert list(read_tokens(path.read_bytes()).images) == list(read_tokens(path).images)

    @pytest.mark.parametrize("length", [0, 1, 511, 512, 700, 1023, 1024, 1535, 1536, 2000, 2600])
    def test_cut_anywhere(self, tmp_path: Path, length: int) -> None:
        path = in_one_go(tmp_path / "t.tar", rows([(2, 3)]))
        assert path.stat().st_size > length
        data = path.read_bytes()[:length]
        with pytest.raises(TokenFileError) as caught:
            read_tokens(data).images[0]
        assert "\n" not in str(caught.value)

    def test_of_other_things(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "t.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"))
        with pytest.raises(TokenFileError, match=r"t\.tar: it is a tar without tokens"):
            read_tokens(tmp_path / "t.tar")

    def test_samples_of_two_models(self, tmp_path: Path) -> None:
        path = in_one_go(tmp_path / "t.tar", rows([(2, 3), (2, 3)]))
        data = path.read_bytes()
        at = data.rindex(b"f" * 64)
        path.write_bytes(data[:at] + b"e" * 64 + data[at + 64 :])
        tokens = read_tokens(path)
        assert tokens.images[0].name == "0.png"
        with pytest.raises(TokenFileError, match="another model or with other options than the first"):
            tokens.images[1]


@pytest.mark.parametrize("suffix", ["safetensors", "npy", "tar"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, suffix: str) -> None:
    """1,000 grids of 64 KiB each, or 32 when a token takes a byte."""
    grid = np.zeros((128, 256, 1), np.int64)
    with Journal(tmp_path / "journal", {}) as journal:
        target = writer(journal, suffix)
        tracemalloc.start()
        for number in range(1000):
            target.add(EncodedRow(ImageRecord(f"{number}.png", (128, 256)), grid))
        journal.commit()
        target.write(tmp_path / f"t.{suffix}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        journal.discard()
    assert (tmp_path / f"t.{suffix}").stat().st_size > 60e6
    assert peak < 45e6
