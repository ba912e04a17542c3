"""Where decoded pictures go: a folder, one file, or one sheet of all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizer.errors import UsageError
from tokenizer.files import Existing, check_output, is_folder
from tokenizer.jobs.outcomes import Output

_FORMATS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


@dataclass(frozen=True)
class PictureTarget:
    """Where pictures go.

    Attributes:
        output: a path, or what takes the bytes of one picture.
        kind: a folder of pictures, a file of one, or a sheet of all.
        image_format: png, jpg or webp.
        existing: what becomes of pictures that are there.
        share: (i, n): the i-th (from 0) of n parts of the work.
        columns: of the sheet; None for about square.
    """

    output: Output
    kind: Literal["folder", "file", "sheet"]
    image_format: str
    existing: Existing
    share: tuple[int, int]
    columns: int | None

    @property
    def path(self) -> Path | None:
        """Of the folder or the file; None of a stream."""
        return None if callable(self.output) else Path(self.output)

    def refuse_loss(self) -> None:
        """Look before any work whether the output can be written; what other processes began is looked at later.

        Raises:
            OutputError: something would be lost, or cannot be written.
        """
        if self.path is not None:
            kept = self.existing if self.share[1] == 1 else "resume"
            check_output(self.path, folder=self.kind == "folder", existing=kept)

    def refuse_several(self, images: int) -> None:
        """Raise UsageError where so many images do not fit one file."""
        if self.kind == "file" and images > 1:
            raise UsageError(
                f"{images} images do not fit {_shown(self.output)}: name a folder, pick one with --index, or pass "
                "--contact-sheet"
            )


def picture_target(
    output: Output,
    image_format: str | None,
    existing: Existing,
    share: tuple[int, int],
    columns: int | None,
    *,
    sheet: bool,
) -> PictureTarget:
    """Return where pictures go.

    Args:
        output: a folder (its name ends with a slash, or has no suffix), an image file, or what takes its bytes.
        image_format: png, jpg or webp; None for what the name says, else png.
        existing: what becomes of pictures that are there.
        share: (i, n): the i-th (from 0) of n parts of the work.
        columns: of the sheet; None for about square.
        sheet: all pictures go on one sheet.

    Raises:
        UsageError: these contradict each other.
    """
    shown = _shown(output)
    if not shown:
        raise UsageError("no output: pass -o FOLDER/, -o IMAGE.png or -o -")
    if columns is not None and not sheet:
        raise UsageError("--columns is for --contact-sheet: pass both")
    suffix = "" if callable(output) else Path(output).suffix
    named = _FORMATS.get(suffix.lower())
    chosen = image_format or named or "png"
    if not callable(output) and is_folder(shown):
        if sheet:
            raise UsageError(f"a contact sheet is one picture, {shown} is a folder: pass -o SHEET.png or -o -")
        return PictureTarget(output, "folder", chosen, existing, share, columns)
    if not callable(output) and named is None:
        raise UsageError(f"{shown} has the suffix {suffix}: use .png, .jpg or .webp, or end a folder with /")
    if named is not None and chosen != named:
        raise UsageError(f"{shown} and --image-format {chosen} contradict each other")
    if existing == "resume" or share[1] > 1:
        raise UsageError(f"--resume, --shard and torchrun are for a folder of pictures, {shown} is one file")
    return PictureTarget(output, "sheet" if sheet else "file", chosen, existing, share, columns)


def _shown(output: Output) -> str:
    """Return what messages call an output."""
    return "-" if callable(output) else os.fspath(output)
