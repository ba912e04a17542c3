"""Tar archives: which members are images, what they carry, and what damage leaves standing."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import re
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import draw
from tokenizer.errors import ImageError, InputError
from tokenizer.images import Source, read_image
from tokenizer.inputs import Archive, inputs_from_stream, size_limit
from tokenizer.inputs.archives import archive_stem, is_archive

Members = Iterable[tuple[str, bytes]]


def tar(members: Members, mode: str = "w:", **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(12, 9, seed)).save(buffer, "PNG")
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """What a pipe is: no seeking, and reads that give less than was asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._data.readinto(buffer[:1000])


def stream(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(Pipe(data), 700)


def sources(data: bytes) -> list[Source]:
    return list(Archive("stdin", stream(data)).sources())


def contents(source: Source) -> bytes:
    assert isinstance(source.file, io.BytesIO)
    return source.file.getvalue()


def why(source: Source) -> str:
    """Why a source cannot be read."""
    with pytest.raises(ImageError) as error:
        read_image(source.file)
    return str(error.value)


def until_damage(data: bytes) -> tuple[list[str], str]:
    """The names that stand, and what the error says."""
    *found, last = Archive("x", stream(data)).sources()
    assert last.name == "x"
    return [source.name for source in found], why(last)


class TestSamples:
    def test_images_keep_their_names_and_pixels(self) -> None:
        found = sources(tar((f"a/{number:03d}.png", png(number)) for number in range(3)))
        assert [source.name for source in found] == ["a/000.png", "a/001.png", "a/002.png"]
        assert [source.carried for source in found] == [(), (), ()]
        for number, source in enumerate(found):
            for _ in range(2):  # the same each time
                np.testing.assert_array_equal(read_image(source.file), draw(12, 9, number))

    def test_a_label_goes_with_its_image_before_or_after(self) -> None:
        members = [("1.cls", b"7"), ("1.jpg", b"j"), ("1.json", b"{}"), ("2.JPG", b"k"), ("2.txt", b"t")]
        assert [(s.name, s.carried) for s in sources(tar(members))] == [
            ("1.jpg", (("1.cls", b"7"), ("1.json", b"{}"))),
            ("2.JPG", (("2.txt", b"t"),)),
        ]

    def test_the_last_image_of_a_sample_carries(self) -> None:
        members = [("1.left.png", b"l"), ("1.txt", b"t"), ("1.right.png", b"r"), ("1.cls", b"3"), ("2.png", b"p")]
        found = sources(tar(members))
        assert [(source.name, contents(source)) for source in found] == [
            ("1.left.png", b"l"),
            ("1.right.png", b"r"),
            ("2.png", b"p"),
        ]
        assert [source.carried for source in found] == [(), (("1.txt", b"t"), ("1.cls", b"3")), ()]

    def test_the_key_ends_at_the_first_dot_and_has_the_folder(self) -> None:
        members = [("a/1.png", b"x"), ("a/1.x.txt", b"1"), ("b/1.txt", b"2"), ("b/1.png", b"y"), ("c.d/1.txt", b"3")]
        found = sources(tar(members))
        assert [(source.name, source.carried) for source in found] == [
            ("a/1.png", (("a/1.x.txt", b"1"),)),
            ("b/1.png", (("b/1.txt", b"2"),)),
            ("c.d/1", (("c.d/1.txt", b"3"),)),
        ]

    def test_samples_are_runs(self) -> None:
        members = [("1.txt", b"a"), ("2.png", b"x"), ("1.png", b"y")]
        assert [(source.name, source.carried) for source in sources(tar(members))] == [
            ("1", (("1.txt", b"a"),)),
            ("2.png", ()),
            ("1.png", ()),
        ]

    def test_a_sample_without_an_image_is_unreadable(self) -> None:
        (source,) = sources(tar([("a/1.txt", b"text"), ("a/1.json", b"{}")]))
        assert source.name == "a/1"
        assert source.carried == (("a/1.txt", b"text"), ("a/1.json", b"{}"))
        with pytest.raises(ImageError, match=r"^the sample holds no image$"):
            read_image(source.file)

    def test_hidden_members_are_left_out(self) -> None:
        members = [("._1.png", b"junk"), ("a/.hidden.png", b"junk"), ("./1.png", b"x"), ("a/._2.txt", b"junk")]
        assert [(source.name, source.carried) for source in sources(tar(members))] == [("./1.png", ())]

    @pytest.mark.parametrize("kind", ["DIRTYPE", "SYMTYPE", "LNKTYPE", "CHRTYPE", "FIFOTYPE"])
    def test_only_files_are_read(self, kind: str) -> None:
        buffer = io.BytesIO(tar([("1.png", b"x")]))
        with tarfile.open(fileobj=buffer, mode="a") as archive:
            member = tarfile.TarInfo("2.png")
            member.type, member.linkname = getattr(tarfile, kind), "/etc/passwd"
            archive.addfile(member)
        assert [source.name for source in sources(buffer.getvalue())] == ["1.png"]

    @pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    @pytest.mark.parametrize("name", ["two\nlines.png", "[x].png", "-o.png", "é中.png", "long/" * 17 + "a.png"])
    def test_odd_names(self, name: str, layout: int) -> None:
        assert [source.name for source in sources(tar([(name, b"x")], format=layout))] == [name]

    @pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_names_that_are_no_utf8(self, layout: int) -> None:
        name = os.fsdecode(b"\xff\xe9.png")
        data = tar([(name, b"x")], format=layout, encoding="utf-8", errors="surrogateescape")
        assert [os.fsencode(source.name) for source in sources(data)] == [b"\xff\xe9.png"]

    @pytest.mark.parametrize(
        ("name", "kept"),
        [("../../x.png", "x.png"), ("/etc/x.png", "etc/x.png"), ("a/../../b/x.png", "b/x.png"), ("a/b.png", "a/b.png")],
    )
    def test_no_name_leads_out_of_its_folder(self, name: str, kept: str) -> None:
        assert [source.name for source in sources(tar([(name, b"x")]))] == [kept]


class TestFiles:
    @pytest.mark.parametrize("press", [bytes, gzip.compress, bz2.compress, lzma.compress])
    @pytest.mark.parametrize("suffix", ["tar", "tgz"])  # the bytes count, not the name
    def test_compressed_or_not(self, tmp_path: Path, press: type[bytes], suffix: str) -> None:
        data = tar([("1.png", png(1)), ("2.png", png(2))])
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(press(data))
        found = list(Archive("x", path).sources())
        assert [source.name for source in found] == ["1.png", "2.png"]
        np.testing.assert_array_equal(read_image(found[1].file), draw(12, 9, 2))
        assert [source.name for source in sources(press(data))] == ["1.png", "2.png"]

    def test_archives_written_one_after_another_are_read_to_the_end(self) -> None:
        one, two = tar([("1.png", b"x")]), tar([("2.png", b"y")])
        assert [source.name for source in sources(one + two)] == ["1.png", "2.png"]
        pressed = gzip.compress(one) + gzip.compress(two)
        assert [source.name for source in sources(pressed)] == ["1.png", "2.png"]

    def test_memory_does_not_grow_with_members(self) -> None:
        picture = np.random.default_rng(0).bytes(4000)

        def peak(count: int) -> int:
            data = tar((f"{number:06d}.{kind}", picture) for number in range(count) for kind in ("png", "txt"))
            reader = stream(data)
            tracemalloc.start()
            try:
                assert sum(1 for _ in Archive("x", reader).sources()) == count
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        peak(10)  # what the modules keep
        assert peak(1500) < peak(50) + 50_000

    def test_one_key_for_all_is_one_sample_but_not_one_heap(self) -> None:
        held: Iterator[Source] = Archive("x", stream(tar((f"a.{row}.png", b"x") for row in range(50)))).sources()
        first = next(held)
        assert first.name == "a.0.png"
        assert sum(1 for _ in held) == 49

    @pytest.mark.parametrize(
        ("name", "base"), [("a/imgs-000.tar", "imgs-000"), ("x.y.TAR.GZ", "x.y"), ("z.tgz", "z"), ("q.tar.xz", "q")]
    )
    def test_names(self, name: str, base: str) -> None:
        assert is_archive(name)
        assert archive_stem(name) == base


class TestDamage:
    members = tuple((f"{row}.png", bytes([row]) * 1500) for row in range(6))
    starts = tuple(range(0, 6 * 2048, 2048))  # a header of 512 bytes and 1,500 rounded up to 1,536

    def test_cut_anywhere_all_before_stands(self) -> None:
        data = tar(self.members)
        for length in range(1, self.starts[-1] + 2048, 67):
            whole = sum(start + 2048 <= length + 36 for start in self.starts)  # padding may lack
            found, said = until_damage(data[:length])
            assert found == [f"{row}.png" for row in range(whole)]
            assert said.startswith(
                f"the archive is damaged or cut short after member {whole - 1}.png: " if whole else "the archive cannot"
            )

    def test_cut_between_two_members(self) -> None:
        found, said = until_damage(tar(self.members)[: self.starts[2]])
        assert found == ["0.png", "1.png"]
        assert "after member 1.png: empty header, where a member or the end mark belongs" in said

    def test_a_damaged_header_is_not_the_end(self) -> None:
        data = bytearray(tar(self.members))
        data[self.starts[3] + 5] ^= 0xFF
        found, said = until_damage(bytes(data))
        assert found == ["0.png", "1.png", "2.png"]
        assert "after member 2.png: bad checksum" in said

    def test_what_follows_the_end_is_not_passed_over(self) -> None:
        found, said = until_damage(tar(self.members) + b"garbage" * 100)
        assert len(found) == 6
        assert "after member 5.png" in said

    @pytest.mark.parametrize("press", [gzip.compress, bz2.compress, lzma.compress])
    def test_cut_while_compressed(self, press: type[bytes]) -> None:
        random = np.random.default_rng(0)
        pressed = press(tar((f"{row}.png", random.bytes(200_000)) for row in range(8)))
        found, said = until_damage(pressed[: len(pressed) // 2])
        assert found == [f"{row}.png" for row in range(len(found))]
        assert len(found) < 5
        assert said.startswith("the archive is damaged or cut short" if found else "the archive cannot be read")

    def test_a_flipped_bit_in_gzip_is_found(self) -> None:
        pressed = bytearray(gzip.compress(tar(self.members), compresslevel=0))
        pressed[len(pressed) // 2] ^= 1
        assert "crc check failed" in until_damage(bytes(pressed))[1].lower()

    def test_the_sample_at_the_damage_stands(self) -> None:
        data = tar([("1.png", b"x"), ("1.txt", b"t"), ("1.json", b"{}" * 400), ("2.png", b"y")])
        *held, last = Archive("x", stream(data[: 4 * 512 + 700])).sources()
        assert "after member 1.txt" in why(last)
        assert [(source.name, source.carried) for source in held] == [("1.png", (("1.txt", b"t"),))]

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "cannot be read: empty header"),
            (b"text, not a tar" * 100, "cannot be read: bad checksum|cannot be read: truncated header|invalid header"),
            (gzip.compress(b"text, not a tar" * 100, mtime=0), "cannot be read: "),
            (tar([]), "^the archive has no files$"),
        ],
    )
    def test_what_holds_nothing(self, tmp_path: Path, data: bytes, said: str) -> None:
        (tmp_path / "x.tar").write_bytes(data)
        (source,) = Archive("x", tmp_path / "x.tar").sources()
        assert source.name == str(tmp_path / "x.tar")
        assert re.search(said, why(source))

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        (source,) = Archive("gone", tmp_path / "gone.tar").sources()
        assert why(source) == "the archive cannot be read: no such file or directory"

    def test_leaving_early_closes_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(tar(self.members))
        reading = Archive("x", tmp_path / "x.tar").sources()
        assert [source.name for source in itertools.islice(reading, 2)] == ["0.png", "1.png"]
        reading.close()  # a file left open is a warning, and warnings are errors here


class TestSize:
    """A small archive that stands for more than there is memory for."""

    @pytest.fixture(autouse=True)
    def small(self, max_bytes: Callable[[int], None]) -> None:
        max_bytes(10_000)

    def test_an_image_that_is_too_large_is_passed_over(self) -> None:
        data = tar([("a.png", png()), ("b.png", bytes(10_001)), ("c.png", png(1)), ("c.cls", b"1")], "w:gz")
        first, large, last = Archive("t", io.BytesIO(data)).sources()
        assert [read_image(source.file).shape for source in (first, last)] == [(12, 9, 3)] * 2
        assert last.carried == (("c.cls", b"1"),)
        with pytest.raises(ImageError, match="it has 10001 bytes, 10000 are allowed in an archive"):
            read_image(large.file)

    def test_what_is_too_large_to_be_carried_ends_it(self) -> None:
        data = tar([("a.png", png()), ("b.mp4", bytes(10_001)), ("c.png", png(1))])
        first, end = Archive("t", io.BytesIO(data)).sources()
        assert first.name == "a.png"
        with pytest.raises(ImageError, match=r"after member a\.png: the member b\.mp4 has 10001 bytes"):
            read_image(end.file)

    @pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_a_name_of_megabytes(self, layout: int) -> None:
        data = tar([("x" * 2**21 + ".png", png())], "w:gz", format=layout)
        (end,) = Archive("t", io.BytesIO(data)).sources()
        with pytest.raises(ImageError, match=r"the archive cannot be read: a name of 2\d{6} bytes"):
            read_image(end.file)

    def test_a_stream_without_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(size_limit, "_BLOCK", 1000)
        said = "stdin goes on after 10000 bytes: expected one image, or a tar archive"
        with Path("/dev/zero").open("rb") as endless, pytest.raises(InputError, match=said):
            inputs_from_stream(endless)
