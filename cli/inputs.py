"""Which files a command reads and writes, checked before any work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.console import binary_stdin
from tokenizer.errors import InputError, UsageError
from tokenizer.images import Source, find


def gather(inputs: Sequence[str], files_from: str | None, *, null: bool) -> list[Source]:
    """Return the images that arguments and --files-from name; `-` is one image on stdin.

    Raises:
        InputError: something is missing, or there are no images.
        UsageError: nothing was named, or stdin was named twice.
    """
    if not inputs and files_from is None:
        raise UsageError("no input: name images or folders, - for stdin, or --files-from")
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
    return workers if workers is not None else min(8, os.cpu_count() or 1)


def escape_stdout() -> None:
    """Let file names that are no UTF-8 pass through text on stdout unchanged."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
