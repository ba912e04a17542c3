"""All that a person names, in order: one listing of files and URLs, with archives between."""

from __future__ import annotations

import bisect
import io
import itertools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tokenizer.errors import InputError, UsageError, reason
from tokenizer.images import IMAGE_SUFFIXES, Source
from tokenizer.inputs.archives import Archive, archive_stem, is_archive, looks_like_archive, peek
from tokenizer.inputs.folders import is_image, walk_folder
from tokenizer.inputs.listing import Listing, Texts, without_repeats
from tokenizer.inputs.size_limit import MAX_BYTES, read_bounded
from tokenizer.inputs.urls import check_url, is_url, path_of, walk_url


@dataclass(frozen=True)
class Inputs:
    """Images to read.

    Attributes:
        sources: all images in order; a `Listing` where there is no archive, otherwise iterated once.
        count: how many, or None where only reading an archive would tell.
        archives: the archives, where every input is one.
    """

    sources: Iterable[Source]
    count: int | None
    archives: tuple[Archive, ...] = ()


def find_images(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Listing:
    """Return the images that one path, or several, name: files as they are, folders searched recursively by suffix.

    Names are relative to the deepest folder that holds everything named; a folder's images come sorted by name,
    whatever the file system's order. What begins with a dot is left out, files and folders.

    Raises:
        InputError: a path is missing, or a folder holds no image or cannot be listed.
    """
    texts = [str(Path(path)) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    _check_there(texts)
    found = _Found()
    for text in texts:
        found.add_path(text)
    return found.listing()


def gather_inputs(arguments: Sequence[str], listed: Iterable[str] | None = None) -> Inputs:
    """Return the images that arguments and the entries of a list name: files, folders, tar archives, URLs.

    Files and folders are named as `find_images` names them. So are URLs among themselves; beside files, they are named
    in full. Members of archives keep their names. A file is taken once.

    Args:
        arguments: each must exist.
        listed: entries of a list, such as `read_path_list` yields; one that does not exist becomes an image that cannot
            be read.

    Raises:
        InputError: an argument is missing, a folder holds no image or cannot be listed, the list cannot be read, or the
            package for a URL's scheme is not installed.
        UsageError: nothing is named, or a URL's scheme is unknown.
    """
    if not arguments and listed is None:
        raise UsageError("no input: name images, folders, archives or URLs, - for stdin, or --files-from")
    _check_there(text for text in arguments if not is_url(text))
    found = _Found()
    for text in itertools.chain(arguments, listed or ()):
        found.add(text)
    return found.inputs()


def inputs_from_stream(stream: BinaryIO, name: str = "stdin") -> Inputs:
    """Return what a stream holds: one image, called `name`, or a tar archive of them, told apart by their first bytes.

    Raises:
        InputError: it is empty, has no end, or cannot be read.
    """
    try:
        head, whole = peek(stream)
        archive = Archive(name, whole) if looks_like_archive(head) else None
        data = b"" if archive else read_bounded(whole)
    except OSError as error:
        raise InputError(f"cannot read {name}: {reason(error)}") from error
    if archive:
        return Inputs(archive.sources(), None, (archive,))
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} goes on after {MAX_BYTES} bytes: expected one image, or a tar archive")
    if not data:
        raise InputError(f"{name} is empty: expected one image, or a tar archive")
    return Inputs([Source(name, io.BytesIO(data))], 1)


def _check_there(texts: Iterable[str]) -> None:
    for text in texts:
        if not os.path.lexists(text):
            raise InputError(f"{text or repr(text)} does not exist")


class _Common:
    """The deepest folder that holds all that were added."""

    def __init__(self, common: Callable[[list[str]], str]) -> None:
        self.folder, self._common = "", common
        self._last: str | None = None

    def add(self, folder: str) -> None:
        if folder != self._last:  # of a million files in one folder, the first
            self.folder = self._common([self.folder or folder, folder])
            self._last = folder


def _common_folder(folders: list[str]) -> str:
    # Not resolve(), which follows links.
    return os.path.commonpath([os.path.abspath(folder) for folder in folders])  # noqa: PTH100


class _Found:
    """What was found so far."""

    def __init__(self) -> None:
        self._locations, self._named = Texts(), 0
        self._folders, self._sites = _Common(_common_folder), _Common(posixpath.commonpath)
        self._archives: dict[str, tuple[int, Archive]] = {}  # and before which location each stands
        self._empty: str | None = None

    def add(self, text: str) -> None:
        """Add what an argument or an entry of a list names."""
        if is_url(text):
            self._add_url(text)
        elif is_archive(text) and not Path(text).is_dir():
            self._add_archive(str(Path(text).absolute()), Archive(archive_stem(text), Path(text)))
        else:
            self.add_path(text)

    def add_path(self, text: str) -> None:
        """Add a file, or a folder's images."""
        self._named += 1
        # A list has millions of them: a Path for each would take longer than the looking.
        if not (os.path.isdir(text) and self._add_folder(text)):  # noqa: PTH112
            self._folders.add(os.path.dirname(text.rstrip("/")))  # noqa: PTH120
            self._locations.append(text)

    def _add_folder(self, text: str) -> bool:
        """Add a folder's images; return False for one that is called like an image, and is an unreadable one."""
        before = len(self._locations)
        for path in walk_folder(text):
            self._locations.append(path)
        if len(self._locations) > before:
            self._folders.add(text)
        elif is_image(Path(text).name):
            self._empty = text  # if it is all there is, it is told as a folder
        else:
            raise _no_images(text)
        return self._empty != text

    def _add_url(self, url: str) -> None:
        self._named += 1
        check_url(url)
        path = path_of(url)
        if is_archive(path):
            self._add_archive(url, Archive(archive_stem(path), url))
            return
        images = [url] if is_image(path) else walk_url(url)
        self._sites.add(posixpath.dirname(path) if images == [url] else path)
        for image in images:
            self._locations.append(image)

    def _add_archive(self, place: str, archive: Archive) -> None:
        self._archives.setdefault(place, (len(self._locations), archive))

    def listing(self) -> Listing:
        """Return all files and URLs."""
        if self._named == 1 and self._empty is not None:
            raise _no_images(self._empty)
        rows = without_repeats(self._locations) if self._named > 1 else range(len(self._locations))
        site = "" if self._folders.folder else self._sites.folder
        return Listing(self._locations, self._folders.folder, site, rows)

    def inputs(self) -> Inputs:
        """Return all there is."""
        listing = self.listing()
        if not self._archives:
            return Inputs(listing, len(listing))
        archives = tuple(_distinct(archive for _, archive in self._archives.values()))
        rows = [bisect.bisect_left(listing.rows, row) for row, _ in self._archives.values()]
        places = list(zip(rows, archives, strict=True))
        return Inputs(_chain(listing, places), None, archives if not listing else ())


def _no_images(folder: str) -> InputError:
    return InputError(f"no images in {Path(folder)}: looked for {' '.join(IMAGE_SUFFIXES)}")


def _distinct(archives: Iterable[Archive]) -> Iterator[Archive]:
    """Yield archives with names that differ: `0`, and for archives called alike in other folders, `0-2`, `0-3`."""
    taken: set[str] = set()
    for archive in archives:
        numbers = itertools.count(2)
        name = archive.name
        while name in taken:
            name = f"{archive.name}-{next(numbers)}"
        taken.add(name)
        yield replace(archive, name=name)


def _chain(listing: Listing, archives: Sequence[tuple[int, Archive]]) -> Iterator[Source]:
    """Yield the sources of archives, each before its place in a listing, and those of the listing."""
    begin = 0
    for place, archive in archives:
        yield from listing[begin:place]
        yield from archive.sources()
        begin = place
    yield from listing[begin:]
