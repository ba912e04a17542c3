"""What `vqtok decode` does, step by step."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli import options as o
from cli.console import Console, write_binary
from cli.target import Target
from tokenizer.errors import InputError, UsageError
from tokenizer.files import FileNames, locked_folder, path_beneath, refuse_existing, write_bytes
from tokenizer.images import encode_image
from tokenizer.jobs import (
    Picture,
    contact_sheet,
    is_whole_picture,
    lay_out_sheet,
    picture_size,
    restore_picture,
    write_pictures,
)
from tokenizer.models import LoadedModel, find_maker, locate_checkpoint
from tokenizer.tokens import TokenFiles, TokenImages, select_images

if TYPE_CHECKING:
    from tokenizer.codec import TokenRow
    from tokenizer.images import Pixels
    from tokenizer.tokens import ImageRecord


@dataclass(frozen=True)
class Decoder:
    """A checkpoint, and how it decodes."""

    loaded: LoadedModel
    batch_size: int
    codes: int | None

    def __post_init__(self) -> None:
        """Raise UsageError unless the checkpoint decodes that many codes alone."""
        prefixes = self.loaded.network.quantizer.prefixes
        if self.codes is not None and self.codes not in prefixes:
            raise UsageError(
                f"--codes is {self.codes}, this checkpoint decodes the first {', '.join(map(str, prefixes))} of "
                f"{prefixes[-1]} codes"
            )

    @property
    def downsample(self) -> int:
        """Pixels per position, along each side."""
        return self.loaded.network.downsample

    def decode(self, rows: Iterable[TokenRow]) -> contextlib.closing[Generator[tuple[ImageRecord, Pixels]]]:
        """Return what yields each record with its canvas, see `codec.decode`, and stops when it is left."""
        from tokenizer import codec

        return contextlib.closing(codec.decode_tokens(self.loaded.network, rows, self.batch_size, self.codes))


@dataclass(frozen=True)
class Done:
    """How many pictures there are now, and how many of these were there before."""

    images: int
    kept: int = 0


@dataclass
class Skipping:
    """What a token file that cannot be decoded does: stop the command, or be warned of and left out."""

    console: Console
    on_error: o.OnError
    failed: list[dict[str, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def over(self, name: str) -> Iterator[None]:
        """Leave a file out that raises InputError within the block."""
        try:
            yield
        except InputError as error:
            if self.on_error == "fail":
                raise
            self.console.warn(f"left out: {error}")
            self.failed.append({"name": name, "reason": str(error).removeprefix(f"{name}: ")})


def parse_grid(text: str | None) -> tuple[int, int] | None:
    """Return the (h, w) of `HxW`.

    Raises:
        UsageError: it is no grid.
    """
    if text is None:
        return None
    match = re.fullmatch(r"0*([1-9][0-9]{0,8})x0*([1-9][0-9]{0,8})", text)
    if match is None:
        raise UsageError(f"--grid is {text!r}, expected HxW, such as 16x16")
    return int(match[1]), int(match[2])


def choose(files: TokenFiles, index: str | None, skipping: Skipping) -> TokenImages:
    """Return the images that --index picks of all files that can be read.

    Raises:
        UsageError: it picks none, or is none.
        InputError: a file cannot be read, or there are no images.
    """
    if skipping.on_error == "skip":
        files = _readable(files, skipping)
    start, stop = _range(index)
    images = select_images(files, start, stop)
    if not images and index is not None and files:
        total = sum(map(files.images, range(len(files))))
        raise UsageError(f"--index {index} selects none of {total} images")
    return images


def _readable(files: TokenFiles, skipping: Skipping) -> TokenFiles:
    good = []
    for number, file in enumerate(files.files):
        with skipping.over(file.name):
            good.append(replace(file, images=len(files[number].grids)))
    return files.of(good)


def _range(index: str | None) -> tuple[int | None, int | None]:
    first, colon, last = (index or ":").partition(":")
    try:
        start = int(first) if first else None
        stop = (int(last) if last else None) if colon else int(first) + 1 or None
    except ValueError:
        raise UsageError(f"--index is {index!r}, expected A:B or one row number") from None
    return start, stop


def checkpoint_of(images: TokenImages) -> Path:
    """Return the shipped checkpoint that made the first image's tokens; the default where nothing says who did.

    Raises:
        UsageError: no shipped one did.
        InputError: the tokens cannot be read.
    """
    if not images:
        return locate_checkpoint(None)
    name = images.files.files[images.parts[0][0]].name
    return find_maker(images.tokens(0).header.model, name)


def check_images(images: TokenImages, loaded: LoadedModel, skipping: Skipping, *, allow_mismatch: bool) -> TokenImages:
    """Return the images whose tokens the checkpoint can decode.

    Raises:
        TokenFileError: it cannot decode some.
        InputError: there are none.
    """
    good = set()
    for part, (number, rows) in enumerate(images.parts):
        name = images.files.files[number].name
        with skipping.over(name):
            tokens = images.tokens(part)
            picked = "" if len(rows) == images.files.images(number) else f"[{rows.start}:{rows.stop}]"
            loaded.check(name + picked, tokens, allow_mismatch=allow_mismatch)
            if skipping.on_error == "skip":
                deque(tokens.images, maxlen=0)  # a damaged row is found when it is read
            good.add(part)
    images = images.only(good)
    if not images:
        failed = len(skipping.failed)
        raise InputError(f"0 of {failed} token files can be decoded" if failed else "there are no tokens to decode")
    return images


def run(target: Target, images: TokenImages, decoder: Decoder, console: Console) -> Done:
    """Decode images to where they go.

    Raises:
        UsageError: the sheet would be too large.
        OutputError: a picture cannot be written, or would be replaced; or another process is writing them.
    """
    if target.kind != "folder":
        return _to_file(target, images, decoder, console)
    with locked_folder(Path(target.output), target.share):
        return _to_folder(target, images, decoder, console)


def _to_folder(target: Target, images: TokenImages, decoder: Decoder, console: Console) -> Done:
    """Write each picture of the share into a file of its own."""
    from tokenizer import runtime

    part, parts = target.share
    mine = slice(part, None, parts)
    numbers = range(len(images))[mine]
    names = FileNames(images.names, f".{target.image_format}")
    missing = bytes(len(numbers) * [1])
    if target.resume or (parts > 1 and not target.overwrite):
        records = zip(numbers, images.records(mine), strict=True)
        missing = bytes(
            _is_missing(target, names.of(n, record.name), record, decoder.downsample) for n, record in records
        )
    paths: deque[Path] = deque()

    def rows() -> Iterator[TokenRow]:
        for number, (record, grid), wanted in zip(numbers, images.rows(mine), missing, strict=True):
            if wanted:
                paths.append(path_beneath(Path(target.output), names.of(number, record.name)))
                yield record, grid

    with decoder.decode(rows()) as decoded:
        made = (Picture(record, canvas, paths.popleft()) for record, canvas in decoded)
        with contextlib.closing(write_pictures(made, target.image_format, runtime.processor_count())) as written:
            deque(console.track(written, sum(missing)), maxlen=0)
    return Done(len(missing), len(missing) - sum(missing))


def _is_missing(target: Target, name: str, record: ImageRecord, downsample: int) -> bool:
    """Return whether a picture is to be made; OutputError where one is there that nobody said what to do with."""
    path = Path(target.output, name)
    if not target.resume:
        refuse_existing(path, overwrite=False)
        return True
    return not is_whole_picture(path, picture_size(record, downsample), target.image_format)


def _to_file(target: Target, images: TokenImages, decoder: Decoder, console: Console) -> Done:
    """Write the one picture, or a sheet of all, to a file or stdout."""
    sizes = (picture_size(record, decoder.downsample) for record in images.records())
    layout = lay_out_sheet(sizes, target.columns, target.image_format) if target.kind == "sheet" else None
    with decoder.decode(images.rows()) as decoded:
        restored = console.track(itertools.starmap(restore_picture, decoded), len(images))
        pixels = contact_sheet(layout, restored) if layout else _only(restored)
    data = encode_image(pixels, target.image_format)
    if target.output == "-":
        write_binary(data)
    else:
        write_bytes(Path(target.output), data)
    return Done(len(images))


def _only(restored: Iterator[Pixels]) -> Pixels:
    (pixels,) = restored
    return pixels
