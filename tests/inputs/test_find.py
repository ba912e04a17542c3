"""Folders and files: what is found, what it is called, in which order."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import draw, save
from tokenizer.errors import ImageError, InputError
from tokenizer.images import IMAGE_SUFFIXES, Source, read_image
from tokenizer.inputs import Listing, find_images, folders
from tokenizer.inputs.listing import Texts, without_repeats


def names(sources: Iterable[Source]) -> list[str]:
    return [source.name for source in sources]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


class TestFind:
    def test_searches_recursively_sorted_by_part(self, tmp_path: Path) -> None:
        touch(*(tmp_path / name for name in ["b/2.jpg", "b/10.JPG", "a-c/x.WebP", "a/z.tiff", "a/note.txt", "c.PNG"]))
        assert names(find_images([tmp_path])) == ["a/z.tiff", "a-c/x.WebP", "b/10.JPG", "b/2.jpg", "c.PNG"]

    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    def test_every_suffix_in_either_case(self, tmp_path: Path, suffix: str) -> None:
        touch(tmp_path / f"a{suffix}", tmp_path / f"b{suffix.upper()}")
        assert names(find_images([tmp_path])) == [f"a{suffix}", f"b{suffix.upper()}"]

    def test_skips_hidden_files_and_folders(self, tmp_path: Path) -> None:
        touch(tmp_path / "a.png", tmp_path / "._a.png", tmp_path / ".thumbnails/a.png", tmp_path / "b/.c/d.png")
        assert names(find_images([tmp_path])) == ["a.png"]

    def test_hidden_paths_that_are_named_count(self, tmp_path: Path) -> None:
        touch(tmp_path / ".cache/a.png", tmp_path / ".b.png")
        assert names(find_images([tmp_path / ".cache"])) == ["a.png"]
        assert names(find_images([tmp_path / ".b.png"])) == [".b.png"]

    def test_a_single_file_is_taken_whatever_its_suffix(self, tmp_path: Path) -> None:
        touch(tmp_path / "scan.dat")
        (source,) = find_images([tmp_path / "scan.dat"])
        assert source == Source("scan.dat", tmp_path / "scan.dat")

    def test_names_are_relative_to_the_common_folder(self, tmp_path: Path) -> None:
        touch(tmp_path / "x/a/1.png", tmp_path / "x/b/1.png", tmp_path / "x/2.png")
        assert names(find_images([tmp_path / "x/b", tmp_path / "x/a"])) == ["b/1.png", "a/1.png"]
        assert names(find_images([tmp_path / "x/b/1.png", tmp_path / "x/2.png"])) == ["b/1.png", "2.png"]

    def test_a_file_named_twice_comes_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path / "a/1.png", tmp_path / "a/2.png")
        monkeypatch.chdir(tmp_path)
        again = [Path("a"), tmp_path / "a/2.png", Path("a/../a/1.png"), tmp_path / "a"]
        assert names(find_images(again)) == ["1.png", "2.png"]

    @pytest.mark.parametrize("name", ["two\nlines.png", "[bold]x[/].png", "-o.png", "a b.png", "é中.png", "*.png"])
    def test_odd_names(self, tmp_path: Path, name: str) -> None:
        save(tmp_path / name, draw(4, 5))
        (source,) = find_images([tmp_path])
        assert source.name == name
        np.testing.assert_array_equal(read_image(tmp_path / name), draw(4, 5))

    def test_names_that_are_no_utf8(self, tmp_path: Path) -> None:
        with open(os.fsencode(tmp_path) + b"/\xff\xe9.png", "wb") as file:  # noqa: PTH123
            Image.fromarray(draw(4, 5)).save(file, "PNG")
        (source,) = find_images([tmp_path])
        assert os.fsencode(source.name) == b"\xff\xe9.png"
        assert read_image(source.file).shape == (4, 5, 3)

    def test_nothing_named(self) -> None:
        assert list(find_images([])) == []

    def test_a_missing_path_is_named(self, tmp_path: Path) -> None:
        touch(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"nowhere does not exist$"):
            find_images([tmp_path, tmp_path / "nowhere"])

    def test_a_folder_without_images_says_what_was_looked_for(self, tmp_path: Path) -> None:
        touch(tmp_path / "a.txt")
        with pytest.raises(InputError, match=r"no images in .*: looked for \.avif .*\.webp$"):
            find_images([tmp_path])

    def test_a_folder_that_cannot_be_listed_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path / "a.png", tmp_path / "locked/b.png")
        scandir = os.scandir

        def refuse(path: Path | str) -> object:
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(InputError, match=r"cannot list the folder .*locked: Permission denied"):
            find_images([tmp_path])

    def test_a_broken_link_is_found_and_then_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
        (source,) = find_images([tmp_path / "a.png"])
        with pytest.raises(ImageError, match=r"^it does not exist, or is a link to nothing$"):
            read_image(source.file)


class TestAFolderCalledLikeAnImage:
    def test_in_a_list_it_is_one_unreadable_image(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", draw(8, 8))
        (tmp_path / "x.png").mkdir()
        found = find_images([tmp_path / "a.png", tmp_path / "x.png"])
        assert [source.name for source in found] == ["a.png", "x.png"]
        with pytest.raises(ImageError, match="is a directory"):
            read_image(found[1].file)

    def test_alone_it_is_a_folder_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "x.png").mkdir()
        with pytest.raises(InputError, match="no images in"):
            find_images([tmp_path / "x.png"])

    def test_twice_in_a_list_it_comes_once(self, tmp_path: Path) -> None:
        (tmp_path / "x.png").mkdir()
        assert names(find_images([tmp_path / "x.png", tmp_path / "x.png"])) == ["x.png"]

    def test_with_images_inside_it_is_a_folder(self, tmp_path: Path) -> None:
        touch(tmp_path / "x.png/a.jpg", tmp_path / "b.jpg")
        assert names(find_images([tmp_path])) == ["b.jpg", "x.png/a.jpg"]
        assert names(find_images([tmp_path / "x.png", tmp_path / "b.jpg"])) == ["x.png/a.jpg", "b.jpg"]


def sorted_whole(folder: Path) -> list[str]:
    """The order by another road: every file at once, sorted by parts."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    return [path.as_posix() for path in sorted(found, key=lambda path: path.parts) if "/." not in f"/{path}"]


class TestWalk:
    def test_the_order_is_that_of_all_names_sorted_by_parts(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        pieces = ["a", "a-b", "a.png", "A", "b", "B!", "é", "zz", "10", "9", ".h", "a b", "a\nb"]
        for _ in range(300):
            parts = random.choice(pieces, random.integers(1, 5)).tolist()
            path = tmp_path.joinpath(*(f"{part}_" for part in parts[:-1]), f"{parts[-1]}.jpg")
            touch(path)
        found = names(find_images([tmp_path]))
        assert found == sorted_whole(tmp_path)
        assert len(found) > 150

    def test_files_lie_where_they_are_said_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path / "photos/b/1.png", tmp_path / "photos/a.png")
        monkeypatch.chdir(tmp_path)
        for folder in ("photos", "./photos/", str(tmp_path / "photos")):
            assert [source.file for source in find_images([Path(folder)])] == [
                Path(folder, "a.png"),
                Path(folder, "b/1.png"),
            ]

    def test_links_to_folders_are_not_followed_and_circles_are_unreadable(self, tmp_path: Path) -> None:
        touch(tmp_path / "a/1.png")
        (tmp_path / "again").symlink_to(tmp_path / "a")
        (tmp_path / "a/up").symlink_to(tmp_path)
        (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
        found = find_images([tmp_path])
        assert names(found) == ["a/1.png", "round.png"]
        with pytest.raises(ImageError):
            read_image(found[1].file)
        assert names(find_images([tmp_path / "again"])) == ["1.png"]

    def test_deeper_than_python_recurses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def scan(folder: str) -> Iterator[tuple[str, bool]]:
            depth = folder.count("/")
            return iter([(f"{folder}/a.png", False), *([(f"{folder}/b", True)] if depth < 3000 else [])])

        monkeypatch.setattr(folders, "_scan", scan)
        assert sum(1 for _ in folders.walk_folder("")) == 3001

    def test_a_folder_behind_a_link_and_up_again(self, tmp_path: Path) -> None:
        save(tmp_path / "far/x.png", draw(8, 8))
        touch(tmp_path / "far/away/y.png", tmp_path / "here/x.png")
        (tmp_path / "here/link").symlink_to(tmp_path / "far/away")
        (source,) = find_images([tmp_path / "here/link/../x.png"])  # far/x.png, not here/x.png
        np.testing.assert_array_equal(read_image(source.file), draw(8, 8))


class TestListing:
    def test_slices_are_listings_and_items_sources(self, tmp_path: Path) -> None:
        touch(*(tmp_path / f"{number}.png" for number in range(10)))
        found = find_images([tmp_path])
        every = list(found)
        for cut in (slice(2, 7), slice(None, None, -3), slice(8, 2), slice(-3, None)):
            assert isinstance(found[cut], Listing)
            assert list(found[cut]) == every[cut]
            assert list(found[cut][::2]) == every[cut][::2]
        assert found[-1] == every[-1]
        assert found[3] == Source("3.png", tmp_path / "3.png")
        with pytest.raises(IndexError):
            found[10]
        with pytest.raises(IndexError):
            find_images([tmp_path, tmp_path / "1.png"])[10]

    def test_survives_pickling(self, tmp_path: Path) -> None:
        touch(*(tmp_path / f"{number}.png" for number in range(4)))
        for found in (find_images([tmp_path]), find_images([tmp_path / "1.png", tmp_path])[1:]):
            assert list(pickle.loads(pickle.dumps(found))) == list(found)

    def test_100_000_images_take_little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def walk(folder: str) -> Iterator[str]:
            return (f"{folder}/n{row // 1300:08d}/n{row // 1300:08d}_{row:08d}.JPEG" for row in range(100_000))

        monkeypatch.setattr("tokenizer.inputs.gathering.walk_folder", walk)
        tracemalloc.start()
        try:
            found = find_images([Path("/")])
            size, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(found) == 100_000
        assert found[99_999].name == "n00000076/n00000076_00099999.JPEG"
        assert size < 6_000_000
        assert peak < 12_000_000

    @pytest.mark.parametrize("text", ["", "a\nb", "\udcff\udce9.png", "\ud800", "é中😀", "\0"])
    def test_texts_come_back(self, text: str) -> None:
        texts = Texts(["x", text, "y"])
        assert [texts[row] for row in range(len(texts))] == ["x", text, "y"]

    def test_repeats_go_even_where_hashes_collide(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tokenizer.inputs.listing.hash", len, raising=False)
        assert list(without_repeats(Texts(["/a", "/b", "/c/../a", "/b", "/dd", "/x/../dd", "/e"]))) == [0, 1, 4, 6]


def test_one_path_needs_no_list(tmp_path: Path) -> None:
    save(tmp_path / "a.png", draw(8, 8))
    (source,) = find_images(str(tmp_path))
    assert source == find_images([tmp_path])[0] == find_images(tmp_path)[0]
