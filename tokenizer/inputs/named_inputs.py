"""What a person names as images: arguments, a list in a file, a stream."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tokenizer.errors import UsageError
from tokenizer.inputs.gathering import Inputs, gather_inputs, inputs_from_stream
from tokenizer.inputs.path_lists import read_path_list


@dataclass(frozen=True)
class NamedInputs:
    """Names of images, which nobody has looked at yet.

    Attributes:
        arguments: one or several: a file, a folder, a tar archive, a URL; or `-` alone: one image, or one tar archive,
            on `stdin`.
        files_from: a file that lists more of them, or `-` for a list on `stdin`.
        null: entries of the list end with NUL, not newline.
        stdin: the stream that `-` stands for.
    """

    arguments: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()
    files_from: str | None = None
    null: bool = False
    stdin: BinaryIO | None = None

    def gather(self) -> Inputs:
        """Return the images, see `gather_inputs`.

        Raises:
            InputError: something is missing, or there are no images.
            UsageError: nothing is named, names exclude each other, there is no stream, or a URL's scheme is unknown.
        """
        named = [self.arguments] if isinstance(self.arguments, str | os.PathLike) else self.arguments
        names = [os.fspath(name) for name in named]
        if self.null and self.files_from is None:
            raise UsageError("--null is for --files-from: pass both")
        if "-" in names:
            if len(names) > 1 or self.files_from is not None:
                raise UsageError("- stands for one image or one archive, and cannot be mixed with other inputs")
            return inputs_from_stream(self._stream())
        if self.files_from is None:
            return gather_inputs(names)
        files_from = self._stream() if self.files_from == "-" else Path(self.files_from)
        return gather_inputs(names, read_path_list(files_from, null=self.null))

    def _stream(self) -> BinaryIO:
        if self.stdin is None:
            raise UsageError("- stands for a stream, and none was given: pass stdin")
        return self.stdin
