"""Where `vqtok decode` writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cli import options as o
from cli.console import binary_stdout
from cli.inputs import check_writable
from tokenizer.errors import UsageError
from tokenizer.files import refuse_existing

_SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


@dataclass(frozen=True)
class Target:
    """Where the pictures go.

    Attributes:
        output: what -o names.
        kind: a folder of pictures, a file of one, or a sheet of all.
        image_format: png, jpg or webp.
        share: the part, from 0, and the number of parts that processes share the work in.
        resume: keep the pictures that are there.
        overwrite: replace what is there.
        columns: of the sheet; None for about square.
    """

    output: str
    kind: Literal["folder", "file", "sheet"]
    image_format: str
    share: tuple[int, int] = (0, 1)
    resume: bool = False
    overwrite: bool = False
    columns: int | None = None

    @property
    def shown(self) -> str:
        """What messages call the output."""
        return "stdout" if self.output == "-" else self.output


def target_of(
    output: str,
    image_format: o.ImageFormat | None,
    share: tuple[int, int],
    columns: int | None,
    *,
    sheet: bool,
    resume: bool,
    overwrite: bool,
) -> Target:
    """Return where the pictures go.

    Raises:
        UsageError: these contradict each other.
    """
    if not output:
        raise UsageError("no output: pass -o FOLDER/, -o IMAGE.png or -o -")
    if columns is not None and not sheet:
        raise UsageError("--columns is for --contact-sheet: pass both")
    path = Path(output)
    named = _SUFFIXES.get(path.suffix.lower())
    target = Target(output, "folder", image_format or named or "png", share, resume, overwrite, columns)
    if resume and overwrite:
        raise UsageError("--resume keeps what is there, --overwrite replaces it: pass one of the two")
    if output != "-" and (output.endswith("/") or path.is_dir() or not path.suffix):
        if sheet:
            raise UsageError(f"a contact sheet is one picture, {output} is a folder: pass -o SHEET.png or -o -")
        return target
    if output != "-" and named is None:
        raise UsageError(f"{output} has the suffix {path.suffix}: use .png, .jpg or .webp, or end a folder with /")
    if output != "-" and image_format not in (None, named):
        raise UsageError(f"{output} and --image-format {image_format} contradict each other")
    if resume or share[1] > 1:
        raise UsageError(f"--resume, --shard and torchrun are for a folder of pictures, {output} is one file")
    return replace(target, kind="sheet" if sheet else "file")


def check_output(target: Target) -> None:
    """Raise OutputError where something would be lost or cannot be written, UsageError where stdout is a terminal."""
    if target.output == "-":
        binary_stdout()
        return
    if not target.resume and target.share[1] == 1:  # others may have begun to write their share
        refuse_existing(Path(target.output), overwrite=target.overwrite)
    check_writable(Path(target.output), folder=target.kind == "folder")
