"""Which files a command reads and writes, checked before any work."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from cli.console import binary_stdin
from tokenizer.errors import InputError, OutputError, UsageError
from tokenizer.images import Source, find


def gather(inputs: Sequence[str], files_from: str | None, *, null: bool) -> list[Source]:
    """Return the images that arguments and --files-from name; `-` is one image on stdin.

    Raises:
        InputError: something is missing, or there are no images.
        UsageError: nothing was named, or stdin was named twice.
    """
    if not inputs and files_from is None:
        raise UsageError("no input: name images or folders, - for stdin, or --files-from")
    if null and files_from is None:
        raise UsageError("--null is for --files-from: pass both")
    if [*inputs, files_from].count("-") > 1:
        raise UsageError("stdin is named twice")
    if "-" in inputs:
        if len(inputs) > 1 or files_from is not None:
            raise UsageError("- stands for one image and cannot be mixed with other inputs")
        data = binary_stdin().read()
        if not data:
            raise InputError("stdin is empty: expected one image")
        return [Source("stdin", io.BytesIO(data))]
    paths = [Path(name) for name in inputs]
    if files_from is not None:
        paths += _listed(files_from, b"\0" if null else b"\n")
    return find(paths)


def _listed(files_from: str, separator: bytes) -> list[Path]:
    try:
        data = binary_stdin().read() if files_from == "-" else Path(files_from).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the list {files_from}: {error.strerror or error}") from error
    names = [name.removesuffix(b"\r") if separator == b"\n" else name for name in data.split(separator)]
    paths = [Path(os.fsdecode(name)) for name in names if name]
    if not paths:
        raise InputError("the list of --files-from names no file")
    return paths


def default_workers(workers: int | None) -> int:
    """Return the number of reading threads: what was asked for, or one for each processor up to 8."""
    from tokenizer.runtime import processors

    return workers if workers is not None else min(8, processors())


def check_writable(path: Path, *, folder: bool) -> None:
    """Look, before any work, whether `path` can become a file or a folder of files.

    Raises:
        OutputError: something else is in its way, or the folder it would lie in cannot be written.
    """
    if path.is_dir() and not folder:
        raise OutputError(f"cannot write {path}: it is a folder")
    parent = path if folder else path.parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"cannot write {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {parent}")
