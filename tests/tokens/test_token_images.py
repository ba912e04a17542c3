"""The images of many token files as one sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.tokens import (
    Header,
    ImageRecord,
    TokenFile,
    TokenFiles,
    TokenSet,
    select_images,
    token_images,
    write_tokens,
)

COUNTS = (3, 1, 4, 0, 2)


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    """Five files of 10 images in all; the tokens of image n are all n."""
    made, first = [], 0
    for number, count in enumerate(COUNTS):
        rows = range(first, first + count)
        records = [ImageRecord(f"{row}.png", (2, 3)) for row in rows]
        path = tmp_path / f"{number}.safetensors"
        write_tokens(path, TokenSet(Header("f" * 64, (32,), 8), records, [np.full((2, 3, 1), row) for row in rows]))
        made.append(TokenFile(str(path)))
        first += count
    return TokenFiles(made)


@pytest.mark.parametrize("start", [None, 0, 2, 3, 4, 9, 10, 11, -1, -4, -20])
@pytest.mark.parametrize("stop", [None, 0, 1, 3, 4, 8, 10, 12, -1, -7, -20])
def test_ranges_are_those_of_a_list(files: TokenFiles, start: int | None, stop: int | None) -> None:
    images, wanted = select_images(files, start, stop), list(range(10))[start:stop]
    assert len(images) == len(wanted)
    assert list(images.names()) == [f"{row}.png" for row in wanted]
    assert [int(grid[0, 0, 0]) for _, grid in images.rows()] == wanted
    assert sum(len(images.tokens(part).grids) for part in range(len(images.parts))) == len(wanted)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 12])
@pytest.mark.parametrize(("start", "stop"), [(None, None), (2, 9), (3, 4)])
def test_shares_are_disjoint_and_whole(files: TokenFiles, parts: int, start: int | None, stop: int | None) -> None:
    images = select_images(files, start, stop)
    shares = [[int(grid[0, 0, 0]) for _, grid in images.rows(slice(part, None, parts))] for part in range(parts)]
    whole = list(range(10))[start:stop]
    assert shares == [whole[part::parts] for part in range(parts)]
    assert [record.name for record in images.records(slice(1, None, parts))] == [f"{n}.png" for n in whole[1::parts]]


def test_only_some_files(files: TokenFiles) -> None:
    images = select_images(files).only({0, 2})
    assert [int(grid[0, 0, 0]) for _, grid in images.rows()] == [0, 1, 2, 4, 5, 6, 7]


def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: TokenFiles) -> None:
    monkeypatch.setattr(token_images, "_OPEN", 2)
    opened: list[Path] = []
    read = token_images.read_tokens
    monkeypatch.setattr(token_images, "read_tokens", lambda path, *rest: opened.append(path) or read(path, *rest))
    assert sum(len(tokens.grids) for tokens in files) == 10
    assert len(opened) == 5
    assert len(files._open) == 2
    assert [len(tokens.grids) for tokens in files[3:]] == [0, 2]
    files[4], files[3]
    assert len(opened) == 7


def test_counts_that_are_known_open_nothing(files: TokenFiles) -> None:
    known = [TokenFile(f"{name}.gone", count) for name, count in zip(files.names, COUNTS, strict=True)]
    images = select_images(TokenFiles([*known[:2], files.files[2], *known[3:]]), 5, 8)
    assert [int(grid[0, 0, 0]) for _, grid in images.rows()] == [5, 6, 7]
    assert len(select_images(TokenFiles([files.files[0], TokenFile("gone")]), 1, 3)) == 2
    with pytest.raises(InputError, match="cannot read gone"):
        select_images(TokenFiles([files.files[0], TokenFile("gone")]), 1, 4)


def test_a_file_that_is_not_as_its_index_says(files: TokenFiles) -> None:
    with pytest.raises(TokenFileError, match=r"0\.safetensors: it holds 3 images, the index beside it says 4"):
        TokenFiles([TokenFile(files.names[0], 4)])[0]


def test_a_grid_is_for_bare_arrays(tmp_path: Path, files: TokenFiles) -> None:
    np.save(tmp_path / "bare.npy", np.arange(12).reshape(2, 6))
    array = TokenFiles([TokenFile(str(tmp_path / "bare.npy"))], (2, 3))[0]
    assert np.array_equal(array.grids[1][..., 0], [[6, 7, 8], [9, 10, 11]])
    with pytest.raises(UsageError, match=r"0\.safetensors says itself what its grids are: drop --grid"):
        TokenFiles(files.files, (2, 3))[0]
