"""The images in a folder and below it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tokenizer.errors import InputError
from tokenizer.images import IMAGE_SUFFIXES


def is_image(name: str) -> bool:
    """Return whether a file is called like an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def walk_folder(folder: str) -> Iterator[str]:
    """Yield the paths of the images in a folder and below it, sorted by their parts; one folder is held at a time.

    What begins with a dot is left out, files and folders; links to folders are not followed.

    Raises:
        InputError: a folder cannot be listed.
    """
    levels = [_scan(folder)]
    while levels:
        path, is_folder = next(levels[-1], ("", False))
        if is_folder:
            levels.append(_scan(path))
        elif path:
            yield path
        else:
            levels.pop()


def _scan(folder: str) -> Iterator[tuple[str, bool]]:
    """Return the images and folders in a folder, sorted by name, and which they are."""
    names: list[str] = []
    folders: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry):
                    if not (entry.is_symlink() or entry.name.startswith(".")):
                        folders.add(entry.name)
                elif is_image(entry.name) and not entry.name.startswith("."):
                    names.append(entry.name)
    except OSError as error:
        raise InputError(f"cannot list the folder {folder}: {error.strerror}") from error
    names += folders
    names.sort()
    return ((os.path.join(folder, name), name in folders) for name in names)  # noqa: PTH118  # millions of them


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: unreadable when its turn comes
        return False
