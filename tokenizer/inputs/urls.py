"""What lies behind URLs, through fsspec, which is imported once one is named.

A URL may be chained: `zip://photos::https://host/all.zip` is a folder in an archive, `simplecache::s3://bucket/a.png` a
copy kept on disk.
"""

from __future__ import annotations

import functools
import posixpath
import re
from typing import BinaryIO

from tokenizer.errors import ImageError, InputError, UsageError, nearest_name, reason
from tokenizer.images import IMAGE_SUFFIXES
from tokenizer.inputs.folders import is_image
from tokenizer.inputs.size_limit import MAX_BYTES, read_bounded

_CACHES = ("blockcache", "cached", "filecache", "simplecache")
_URL = re.compile(r"(?:[a-z0-9_]+::)*[a-z][a-z0-9.+-]+://", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Return whether an input is a URL, by its looks."""
    return "://" in text and _URL.match(text) is not None


def path_of(url: str) -> str:
    """Return where a URL points to as a relative path: scheme, host and path, without a query; of a chain, inside out.

    `https://host/a.png?key=1` is `https/host/a.png`, `zip://b/c.png::https://host/a.zip` is `https/host/a.zip/b/c.png`.
    """
    _, named, container = _split(url)
    scheme, _, path = named.partition("://")
    if scheme in ("http", "https"):
        path = re.split("[?#]", path, maxsplit=1)[0]
    outer = (path_of(container) if is_url(container) else container) if container else scheme
    return posixpath.normpath(f"/{outer}/{path}").lstrip("/")


def safe_url_name(name: str) -> str:
    """Return a name as it is, or, if it would lead out of the folder that it is put in, one that does not."""
    if name.startswith("/") or ".." in name.split("/"):
        return posixpath.normpath(f"/{name}").lstrip("/")
    return name


def _split(url: str) -> tuple[str, str, str]:
    """Return the caches before the part of a chain that names a path, that part, and what the path lies in."""
    parts = url.split("::")
    at = next((number for number, part in enumerate(parts) if part not in _CACHES), 0)
    named = parts[at] if "://" in parts[at] else f"{parts[at]}://"
    return "".join(f"{part}::" for part in parts[:at]), named, "::".join(parts[at + 1 :])


def check_url(url: str) -> None:
    """Look, without opening anything, whether fsspec can open such URLs.

    Raises:
        UsageError: a scheme is unknown.
        InputError: the package for a scheme is not installed.
    """
    for part in url.split("::"):
        if is_url(part) or part in _CACHES:
            _require(part.partition("://")[0])


@functools.cache
def _require(scheme: str) -> None:
    from fsspec.registry import get_filesystem_class, known_implementations

    try:
        get_filesystem_class(scheme)
    except ValueError as error:
        raise UsageError(f"unknown scheme {scheme}://{nearest_name(scheme, known_implementations)}") from error
    except ImportError as error:
        raise InputError(f"{scheme}:// needs a package that is not installed, use pip: {reason(error)}") from error


def fetch_url(url: str) -> bytes:
    """Return the bytes behind a URL, in one request; raises whatever the file system does.

    Raises:
        ImageError: there are more of them than one image may have.
    """
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    data: bytes
    if "http" in files.protocol:  # servers may pass over a range, and send without end
        # A block of 0 asks for a stream, and any size saves the request that would ask for it.
        with files.open(path, "rb", block_size=0, size=1) as stream:
            data = read_bounded(stream)
    else:
        data = files.cat_file(path, start=0, end=MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"it goes on after {MAX_BYTES} bytes: expected one image")
    return data


def open_url(url: str) -> BinaryIO:
    """Return what is behind a URL as an open file to read forward; raises whatever the file system does."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    stream: BinaryIO = files.open(path, "rb")
    return stream


def walk_url(url: str) -> list[str]:
    """Return the URLs of the images in a folder and below it, sorted by their parts; of a file, its own.

    Raises:
        InputError: it cannot be listed, does not exist, or holds no image.
    """
    caches, named, container = _split(url)
    url = f"{caches}{named}::{container}" if container else f"{caches}{named}"
    root, found = _find(url)
    if found == [root]:
        return [url]
    inside = [path.removeprefix(root).lstrip("/").split("/") for path in found if path.startswith(root)]
    images = sorted(parts for parts in inside if is_image(parts[-1]) and not any(p.startswith(".") for p in parts))
    if not images:
        raise InputError(f"no images in {url}: looked for {' '.join(IMAGE_SUFFIXES)}")
    folder = named if named.endswith("/") else f"{named}/"
    return [url.replace(named, folder + "/".join(parts), 1) for parts in images]


def _find(url: str) -> tuple[str, list[str]]:
    """Return the path of a folder in its file system, and those of all files below it."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url)
        root = path.rstrip("/")
        found: list[str] = files.find(root)
        exists = bool(found) or files.exists(root)
    except Exception as error:  # each file system raises its own
        raise InputError(f"cannot list {url}: {reason(error)}") from error
    if not exists:
        raise InputError(f"{url} does not exist")
    return root, found
