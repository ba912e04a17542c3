"""Tar archives in the layout of webdataset, read as forward-only streams: nothing is unpacked to disk or kept."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

from tokenizer.errors import ImageError, InputError, reason
from tokenizer.images import Source
from tokenizer.inputs.folders import is_image
from tokenizer.inputs.size_limit import MAX_BYTES
from tokenizer.inputs.urls import open_url, safe_url_name

_Content = tuple[str, bytes | int]  # a member's name and bytes
_SUFFIXES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tgz")
_HEAD = 512  # bytes of a tar's header
_SAMPLE_BYTES = 2**28  # of a sample that is compressed or has holes: the archive's size says nothing of it
_LONGEST_NAME = 2**20  # bytes of a member that holds the name, or attributes, of the next one
_NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True)
class Archive:
    """A tar of images, compressed or not.

    Attributes:
        name: what a shard made from it is called: its base name without suffixes; `stdin`.
        where: a file, a URL, or an open stream.
    """

    name: str
    where: Path | str | BinaryIO

    def sources(self) -> Iterator[Source]:
        """Yield the images in order, each read into memory when its turn comes.

        A sample is the run of members that share a key: the path up to the first dot of the base name. Members that
        are called like images are images; the last one of a sample carries the others along. A sample without an
        image is yielded as a source that cannot be read. Links, folders, devices and what begins with a dot are left
        out.

        An archive that cannot be opened, is empty, damaged or cut short yields, after the images before that place, a
        source that cannot be read either: its reason says so.
        """
        label = str(self.where) if isinstance(self.where, (Path, str)) else self.name
        empty = True
        try:
            for source in _samples(_members(self.where)):
                empty = False
                yield source
        except InputError as error:
            yield Source(label, _unreadable(str(error)))
        else:
            if empty:
                yield Source(label, _unreadable("the archive has no files"))


def is_archive(name: str) -> bool:
    """Return whether a file is called like a tar."""
    return name.lower().endswith(_SUFFIXES)


def archive_stem(name: str) -> str:
    """Return the base name of a tar, without its suffixes."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return base[: -max(len(suffix) for suffix in _SUFFIXES if base.lower().endswith(suffix))]


def looks_like_archive(head: bytes) -> bool:
    """Return whether the first 512 bytes are those of a tar, or of something compressed."""
    return head[257:262] == b"ustar" or _opener(head) is not None


def peek(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    """Return the first 512 bytes of a stream, fewer where it is shorter, and a stream that still begins with them."""
    head = stream.read(_HEAD)
    return head, io.BufferedReader(_Whole(head, stream), 2**16)


class _Whole(io.RawIOBase):
    """A stream whose first bytes were read already, with them."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _opener(head: bytes) -> Any:
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    return next((opener for magic, opener in openers.items() if head.startswith(magic)), None)


class _Member(tarfile.TarInfo):
    """A member whose header is checked: tarfile takes a damaged header, or none, for the end of the archive.

    The end is a block of zeros. What follows is another archive, as `cat a.tar b.tar` writes them.
    """

    @classmethod
    def fromtarfile(cls, archive: Any) -> _Member:
        try:
            member = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            archive.at_end = True
            raise
        except tarfile.HeaderError as error:
            if archive.at_end and isinstance(error, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(f"{error}, where a member or the end mark belongs") from error
        archive.at_end = False
        _refuse_negative(member)  # attributes before it can have said another size
        return member

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        _refuse_negative(member)
        if member.type in _NAMES and member.size > _LONGEST_NAME:  # read into memory before it is handed over
            raise tarfile.InvalidHeaderError(f"a name of {member.size} bytes")  # type: ignore[attr-defined]
        return member


def _refuse_negative(member: tarfile.TarInfo) -> None:
    """Raise ReadError for a size that tarfile would go back by, to read the same members for ever."""
    if member.size < 0:
        raise tarfile.ReadError(f"a header of {member.size} bytes")


class _Tar(tarfile.TarFile):
    tarinfo = _Member
    at_end = False


def _members(where: Path | str | BinaryIO) -> Iterator[_Content]:
    """Yield name and bytes of each file in an archive; in place of those of an image that is too large, how many."""
    last = ""
    files = _files(where)
    while True:
        try:
            found = next(files, None)
        except Exception as error:  # file systems and decompressors raise their own
            place = f"is damaged or cut short after member {last}" if last else "cannot be read"
            raise InputError(f"the archive {place}: {reason(error)}") from error
        if found is None:
            return
        last = found[0]
        yield found


def _files(where: Path | str | BinaryIO) -> Iterator[_Content]:
    with _open(where) as stream:
        head, whole = peek(stream)
        opener = _opener(head)
        tar = _Tar.open(
            fileobj=opener(whole) if opener else whole,
            mode="r|",
            encoding="utf-8",
            errors="surrogateescape",
            ignore_zeros=True,
        )
        key, held = "", 0
        with tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                file = tar.extractfile(member) if member.isreg() else None
                if file is None or member.name.rpartition("/")[2].startswith("."):
                    continue
                held = member.size + (held if _key(member.name) == key else 0)
                key = _key(member.name)
                if (opener or member.issparse()) and held > _SAMPLE_BYTES:
                    raise tarfile.ReadError(f"the sample of {member.name} unpacks to more than {_SAMPLE_BYTES} bytes")
                yield safe_url_name(member.name), _content(member, file)


def _content(member: tarfile.TarInfo, file: IO[bytes]) -> bytes | int:
    if member.size <= MAX_BYTES:
        return file.read()
    if not is_image(member.name):
        raise tarfile.ReadError(f"the member {member.name} has {member.size} bytes, {MAX_BYTES} are allowed")
    return member.size


def _open(where: Path | str | BinaryIO) -> contextlib.AbstractContextManager[BinaryIO]:
    if isinstance(where, Path):
        return where.open("rb")
    return open_url(where) if isinstance(where, str) else contextlib.nullcontext(where)


def _samples(members: Iterator[_Content]) -> Iterator[Source]:
    for key, group in itertools.groupby(members, lambda member: _key(member[0])):
        yield from _sample(key, group)


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _sample(key: str, members: Iterator[_Content]) -> Iterator[Source]:
    """Yield the images of one sample, all but the last as they come."""
    last: _Content | None = None
    carried: list[tuple[str, bytes]] = []
    try:
        for name, data in members:
            if not is_image(name) and isinstance(data, bytes):
                carried.append((name, data))
                continue
            if last:
                yield _image(*last)
            last = name, data
    except InputError:
        if last:
            yield _image(*last, carried)
        raise
    yield _image(*last, carried) if last else _without(key, carried)


def _image(name: str, data: bytes | int, carried: Sequence[tuple[str, bytes]] = ()) -> Source:
    if isinstance(data, bytes):
        return Source(name, io.BytesIO(data), tuple(carried))
    return Source(name, _unreadable(f"it has {data} bytes, {MAX_BYTES} are allowed in an archive"), tuple(carried))


def _without(key: str, carried: list[tuple[str, bytes]]) -> Source:
    return Source(key, _unreadable("the sample holds no image"), tuple(carried))


def _unreadable(why: str) -> Callable[[], NoReturn]:
    def read() -> NoReturn:
        raise ImageError(why)

    return read
