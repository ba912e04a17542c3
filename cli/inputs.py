"""Which files a command reads and writes, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cli.console import binary_stdin
from tokenizer import inputs as sources
from tokenizer.errors import OutputError, UsageError
from tokenizer.inputs import Inputs


def gather(inputs: Sequence[str], files_from: str | None, *, null: bool) -> Inputs:
    """Return the images that arguments and --files-from name; `-` is one image, or a tar archive, on stdin.

    Raises:
        InputError: something is missing, or there are no images.
        UsageError: nothing was named, stdin was named twice, or a URL's scheme is unknown.
    """
    if null and files_from is None:
        raise UsageError("--null is for --files-from: pass both")
    if [*inputs, files_from].count("-") > 1:
        raise UsageError("stdin is named twice")
    if "-" in inputs:
        if len(inputs) > 1 or files_from is not None:
            raise UsageError("- stands for one image or one archive, and cannot be mixed with other inputs")
        return sources.inputs_from_stream(binary_stdin())
    if files_from is None:
        return sources.gather_inputs(inputs)
    listed = sources.read_path_list(binary_stdin() if files_from == "-" else Path(files_from), null=null)
    return sources.gather_inputs(inputs, listed)


def default_workers(workers: int | None) -> int:
    """Return the number of reading threads: what was asked for, or one for each processor up to 8."""
    from tokenizer.runtime import processor_count

    return workers if workers is not None else min(8, processor_count())


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
