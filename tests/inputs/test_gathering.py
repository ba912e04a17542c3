"""Everything that names images, together: order, names, counts, and a stream."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw, save
from tokenizer.errors import ImageError, InputError, UsageError
from tokenizer.images import encode_image, read_image
from tokenizer.inputs import Inputs, Listing, find_images, gather_inputs, inputs_from_stream, read_path_list


def write_tar(path: Path, *members: str) -> str:
    with tarfile.open(path, "w") as archive:
        for name in members:
            data = encode_image(draw(8, 8), "png")
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def names(inputs: Inputs) -> list[str]:
    return [source.name for source in inputs.sources]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with images in `a`, `b` and outside."""
    for name in ("a/1.png", "a/2.png", "b/1.png", "0.png"):
        save(tmp_path / name, draw(8, 8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestFilesAndFolders:
    def test_arguments_then_lists_in_the_order_given(self, here: Path) -> None:
        inputs = gather_inputs(["b", "0.png"], iter(["a/2.png", "a"]))
        assert names(inputs) == names(inputs) == ["b/1.png", "0.png", "a/2.png", "a/1.png"]
        assert inputs.count == 4
        assert inputs.archives == ()
        assert isinstance(inputs.sources, Listing)

    def test_nothing_is_named(self) -> None:
        with pytest.raises(UsageError, match=r"^no input: name images, folders, archives or URLs, - for stdin"):
            gather_inputs([])
        with pytest.raises(InputError, match=r"^the list of --files-from names no file$"):
            gather_inputs([], read_path_list(io.BytesIO()))

    @pytest.mark.parametrize("given", [["a"], ["b", "a/1.png"], ["0.png"], ["./a/", "a/../b", "a/1.png"]])
    def test_as_find_does(self, here: Path, given: list[str]) -> None:
        found = [(source.name, source.file) for source in find_images([Path(name) for name in given])]
        assert [(source.name, source.file) for source in gather_inputs(given).sources] == found
        assert [(source.name, source.file) for source in gather_inputs([], given).sources] == found

    def test_what_a_list_names_and_is_not_there_is_unreadable_in_its_turn(self, here: Path) -> None:
        inputs = gather_inputs([], ["a/1.png", "a/gone.png", "nowhere/x.jpg", "b/1.png"])
        assert names(inputs) == ["a/1.png", "a/gone.png", "nowhere/x.jpg", "b/1.png"]
        assert inputs.count == 4
        reasons = []
        for source in inputs.sources:
            try:
                read_image(source.file)
            except ImageError as error:
                reasons.append((source.name, str(error)))
        gone = "it does not exist, or is a link to nothing"
        assert reasons == [("a/gone.png", gone), ("nowhere/x.jpg", gone)]

    @pytest.mark.parametrize(
        ("given", "said"), [("gone.png", "^gone.png does not exist$"), ("", "^'' does not exist$")]
    )
    def test_an_argument_that_is_not_there_is_told_before_anything_is_searched(
        self, here: Path, given: str, said: str
    ) -> None:
        with pytest.raises(InputError, match=said):
            gather_inputs(["a", given], (pytest.fail("read") for _ in range(1)))

    def test_a_folder_without_images(self, here: Path) -> None:
        Path("bare").mkdir()
        for given in (["bare"], ["a", "bare"]):
            with pytest.raises(InputError, match=r"^no images in bare: looked for"):
                gather_inputs(given)
            with pytest.raises(InputError, match=r"^no images in bare: looked for"):
                gather_inputs([], given)

    def test_odd_names_in_a_list(self, here: Path) -> None:
        odd = ["two\nlines.png", "[x].png", "-o.png", "\udcff\udce9.png"]
        for name in odd:
            Path(name).write_bytes(encode_image(draw(8, 8), "png"))
        inputs = gather_inputs([], odd)
        assert names(inputs) == odd
        assert [read_image(source.file).shape for source in inputs.sources] == [(8, 8, 3)] * 4


class TestArchives:
    def test_alone_they_are_told_apart(self, here: Path) -> None:
        given = [write_tar(here / "x-000.tar", "1.png"), write_tar(here / "x-001.tar", "1.png", "2.png")]
        for inputs in (gather_inputs(given), gather_inputs([], given), gather_inputs(given[:1], given[1:])):
            assert [archive.name for archive in inputs.archives] == ["x-000", "x-001"]
            assert inputs.count is None
            assert [source.name for source in inputs.archives[1].sources()] == ["1.png", "2.png"]
            assert names(inputs) == ["1.png", "1.png", "2.png"]

    def test_mixed_they_keep_their_place(self, here: Path) -> None:
        first, last = write_tar(here / "x.tar", "x1.png"), write_tar(here / "y.tar", "y1.png", "y2.png")
        inputs = gather_inputs(["a", first, "a/1.png", "b", last, "0.png", "b"])
        assert names(inputs) == ["a/1.png", "a/2.png", "x1.png", "b/1.png", "y1.png", "y2.png", "0.png"]
        assert inputs.count is None
        assert inputs.archives == ()

    def test_named_twice_they_come_once_and_called_alike_they_are_numbered(self, here: Path) -> None:
        for folder in ("a", "b", "c"):
            (here / folder).mkdir(exist_ok=True)
            write_tar(here / folder / "0.tar", f"{folder}.png")
        inputs = gather_inputs(["a/0.tar", "b/0.tar", "./a/0.tar", "c/0.tar"])
        assert [archive.name for archive in inputs.archives] == ["0", "0-2", "0-3"]
        assert names(inputs) == ["a.png", "b.png", "c.png"]

    def test_a_folder_called_like_one_is_a_folder(self, here: Path) -> None:
        save(here / "x.tar/1.png", draw(8, 8))
        assert names(gather_inputs(["x.tar"])) == ["1.png"]

    def test_one_that_is_missing(self, here: Path) -> None:
        with pytest.raises(InputError, match=r"^gone.tar does not exist$"):
            gather_inputs(["gone.tar"])
        inputs = gather_inputs([], ["a/1.png", "gone.tar"])
        assert names(inputs) == ["1.png", "gone.tar"]

    def test_nothing_is_read_before_its_turn(self, here: Path) -> None:
        path = Path(write_tar(here / "x.tar", "1.png", "2.png"))
        inputs = gather_inputs([str(path)])
        path.write_bytes(b"")
        (source,) = inputs.archives[0].sources()
        with pytest.raises(ImageError, match="the archive cannot be read"):
            read_image(source.file)


class TestStream:
    def test_one_image(self) -> None:
        for pixels in (draw(64, 64), draw(1, 1)):
            inputs = inputs_from_stream(io.BytesIO(encode_image(pixels, "png")))
            assert inputs.count == 1
            (source,) = inputs.sources
            assert source.name == "stdin"
            np.testing.assert_array_equal(read_image(source.file), pixels)

    @pytest.mark.parametrize("press", [bytes, gzip.compress])
    def test_an_archive(self, tmp_path: Path, press: type[bytes]) -> None:
        data = Path(write_tar(tmp_path / "x.tar", "1.png", "2.png")).read_bytes()
        inputs = inputs_from_stream(io.BytesIO(press(data)))
        assert inputs.count is None
        assert [archive.name for archive in inputs.archives] == ["stdin"]
        assert names(inputs) == ["1.png", "2.png"]

    def test_an_archive_is_not_read_before_its_turn(self, tmp_path: Path) -> None:
        stream = io.BytesIO(Path(write_tar(tmp_path / "x.tar", *(f"{row}.png" for row in range(3000)))).read_bytes())
        inputs = inputs_from_stream(stream)
        assert stream.tell() == 512
        assert next(iter(inputs.sources)).name == "0.png"
        assert stream.tell() < 2**18

    def test_empty(self) -> None:
        with pytest.raises(InputError, match=r"^stdin is empty: expected one image, or a tar archive$"):
            inputs_from_stream(io.BytesIO())

    def test_unreadable(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise IsADirectoryError(21, "Is a directory")

        with pytest.raises(InputError, match=r"^cannot read stdin: is a directory$"):
            inputs_from_stream(Broken())

    def test_text_is_an_unreadable_image(self) -> None:
        (source,) = inputs_from_stream(io.BytesIO(b"text" * 1000)).sources
        with pytest.raises(ImageError, match="not an image"):
            read_image(source.file)
