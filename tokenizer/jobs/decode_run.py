"""Token files to pictures, as one call: with names, sizes, resuming and shares."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from tokenizer import codec, runtime
from tokenizer.errors import InputError, UsageError
from tokenizer.files import Existing, FileNames, locked_folder, path_beneath, refuse_existing, write_bytes
from tokenizer.images import Pixels, encode_image
from tokenizer.jobs.job_run import JobRun
from tokenizer.jobs.outcomes import OnError, Outcome, Output
from tokenizer.jobs.picture_target import PictureTarget, picture_target
from tokenizer.jobs.pictures import (
    ContactSheet,
    Picture,
    is_whole_picture,
    lay_out_sheet,
    picture_size,
    restore_picture,
    write_pictures,
)
from tokenizer.models import LoadedModel, describe_checkpoint, find_maker, load_model, locate_checkpoint
from tokenizer.tokens import ImageRecord, NamedTokens, TokenFiles, TokenImages, open_token_files, select_images


@dataclass(frozen=True)
class DecodeOptions:
    """Which tokens become pictures, and how.

    Attributes:
        index: only images A to B - 1 of all inputs taken together, as `A:B` where either may be missing or negative;
            or the number of one; None for all.
        grid: (h, w) of the sequences in arrays without a header.
        codes: use only so many first codes of each position: a coarser picture.
        image_format: png, jpg or webp; None for what the output's name says, else png.
        contact_sheet: all images on one picture.
        columns: of the sheet; None for about square.
        allow_mismatch: take tokens that another checkpoint made.
        batch_size: images that go through the network together, at most.
    """

    index: str | None = None
    grid: tuple[int, int] | None = None
    codes: int | None = None
    image_format: str | None = None
    contact_sheet: bool = False
    columns: int | None = None
    allow_mismatch: bool = False
    batch_size: int = 16


def decode(
    inputs: NamedTokens | Sequence[NamedTokens],
    output: Output,
    model: str | os.PathLike[str] | LoadedModel | None = None,
    options: DecodeOptions | None = None,
    *,
    device: str = "auto",
    existing: Existing = "refuse",
    share: tuple[int, int] = (0, 1),
    on_error: OnError = "fail",
    stdin: BinaryIO | None = None,
) -> JobRun:
    """Turn tokens back into pictures, with their names and sizes.

        for outcome in decode("shards/", "back/"):
            print(outcome.path)

    What is asked for is checked here, the first tokens are looked at, and the checkpoint is loaded; iterating does the
    rest of the work.

    Args:
        inputs: a token file, a folder of them, or tokens in memory, or several of these; or `-` for what `stdin` holds.
        output: a folder (its name ends with a slash, or has no suffix) of one file an image; an image file, for one
            image or a sheet; or a function that takes the bytes of such a file.
        model: a checkpoint's folder, the name of one that ships, a loaded model, or None for the one that ships and
            made the tokens.
        options: which tokens, and how.
        device: of a checkpoint that is not loaded: auto, cpu, cuda, cuda:1 or mps.
        existing: what becomes of pictures that are there; `resume` keeps those that are whole and of the right size.
        share: (i, n): the i-th (from 0) of n parts of the work, which n processes do together.
        on_error: `skip` leaves out a token file that cannot be decoded, `fail` raises InputError at the first.
        stdin: a stream of one token file.

    Returns:
        What does the work when it is iterated, and yields first the token files that are left out, then an outcome of
        each picture: those that were there before first.

    Raises:
        UsageError: arguments contradict each other, or do not fit what the token files hold.
        OutputError: the output is there, or cannot be written.
        InputError: a token file or the checkpoint is missing or damaged. While iterating: tokens do not fit the
            checkpoint, or there are none.
        DeviceError: the device is absent.
    """
    options = options or DecodeOptions()
    target = picture_target(output, options.image_format, existing, share, options.columns, sheet=options.contact_sheet)
    target.refuse_loss()
    files = open_token_files(inputs, options.grid, _codes_of(model, options.grid), stdin=stdin)
    left_out = _LeftOut(on_error)
    images = _choose(files, options.index, left_out)
    target.refuse_several(len(images))
    loaded = load_model(_maker_of(images) if model is None else model, device)
    _refuse_codes(options.codes, loaded)
    total = len(range(len(images))[share[0] :: share[1]])
    return JobRun(_pictures(images, target, loaded, options, left_out), loaded, total, target.path, files.warnings)


@dataclass
class _LeftOut:
    """What a token file that cannot be decoded does: stop the job, or be noted and left out.

    Attributes:
        on_error: which of the two.
        noted: those left out since they were last told.
        count: of all that were left out.
    """

    on_error: OnError
    noted: list[Outcome] = field(default_factory=list)
    count: int = 0

    @contextlib.contextmanager
    def over(self, name: str) -> Iterator[None]:
        """Leave a file out that raises InputError within the block."""
        try:
            yield
        except InputError as error:
            if self.on_error == "fail":
                raise
            self.count += 1
            self.noted.append(Outcome(name, str(error).removeprefix(f"{name}: ")))

    def told(self) -> Iterator[Outcome]:
        """Yield those that were left out since the last call."""
        yield from self.noted
        self.noted = []


def _codes_of(model: str | os.PathLike[str] | LoadedModel | None, grid: tuple[int, int] | None) -> int:
    """Return the codes per position of arrays without a header, which only sequences need."""
    if grid is None:
        return 1
    if isinstance(model, LoadedModel):
        return len(model.network.codebook_sizes)
    return len(describe_checkpoint(locate_checkpoint(model)).codebook_sizes)


def _choose(files: TokenFiles, index: str | None, left_out: _LeftOut) -> TokenImages:
    """Return the images that an index picks of all files that can be read.

    Raises:
        UsageError: it picks none, or is none.
        InputError: a file cannot be read.
    """
    if left_out.on_error == "skip":
        files = _readable(files, left_out)
    start, stop = _range(index)
    images = select_images(files, start, stop)
    if not images and index is not None and files:
        total = sum(map(files.images, range(len(files))))
        raise UsageError(f"--index {index} selects none of {total} images")
    return images


def _readable(files: TokenFiles, left_out: _LeftOut) -> TokenFiles:
    good = []
    for number, file in enumerate(files.files):
        with left_out.over(file.name):
            good.append(replace(file, images=len(files[number].grids)))
    return files.of(good)


def _range(index: str | None) -> tuple[int | None, int | None]:
    first, colon, last = (index or ":").partition(":")
    try:
        start = int(first) if first else None
        stop = (int(last) if last else None) if colon else int(first) + 1 or None  # -1 is the last, up to the end
    except ValueError:
        raise UsageError(f"--index is {index!r}, expected A:B or one row number") from None
    return start, stop


def _maker_of(images: TokenImages) -> Path:
    """Return the shipped checkpoint that made the first image's tokens; the default where nothing says who did.

    Raises:
        UsageError: no shipped one did.
        InputError: the tokens cannot be read.
    """
    if not images:
        return locate_checkpoint(None)
    name = images.files.files[images.parts[0][0]].name
    return find_maker(images.tokens(0).header.model, name)


def _refuse_codes(codes: int | None, loaded: LoadedModel) -> None:
    """Raise UsageError unless the checkpoint decodes that many codes alone."""
    prefixes = loaded.network.quantizer.prefixes
    if codes is not None and codes not in prefixes:
        raise UsageError(
            f"--codes is {codes}, this checkpoint decodes the first {', '.join(map(str, prefixes))} of "
            f"{prefixes[-1]} codes"
        )


def _pictures(
    images: TokenImages, target: PictureTarget, loaded: LoadedModel, options: DecodeOptions, left_out: _LeftOut
) -> Generator[Outcome]:
    """Check all tokens, decode them, and yield what became of files and images."""
    yield from left_out.told()
    images = yield from _fitting(images, loaded, left_out, allow_mismatch=options.allow_mismatch)
    if not images:
        raise InputError(
            f"0 of {left_out.count} token files can be decoded" if left_out.count else "there are no tokens to decode"
        )
    if target.path is None or target.kind != "folder":
        yield from _to_file(images, target, loaded, options)
        return
    with locked_folder(target.path, target.share):
        yield from _to_folder(images, target, target.path, loaded, options)


def _fitting(
    images: TokenImages, loaded: LoadedModel, left_out: _LeftOut, *, allow_mismatch: bool
) -> Generator[Outcome, None, TokenImages]:
    """Yield the files that are left out, and return the images whose tokens the checkpoint can decode.

    Raises:
        TokenFileError: it cannot decode some.
    """
    good = set()
    for part, (number, rows) in enumerate(images.parts):
        name = images.files.files[number].name
        with left_out.over(name):
            tokens = images.tokens(part)
            picked = "" if len(rows) == images.files.images(number) else f"[{rows.start}:{rows.stop}]"
            loaded.check(name + picked, tokens, allow_mismatch=allow_mismatch)
            if left_out.on_error == "skip":
                deque(tokens.images, maxlen=0)  # a damaged row is found when it is read
            good.add(part)
        yield from left_out.told()
    return images.only(good)


def _decoded(
    loaded: LoadedModel, rows: Iterator[codec.TokenRow], options: DecodeOptions
) -> contextlib.closing[Generator[tuple[ImageRecord, Pixels]]]:
    """Return what yields each record with its canvas, and stops when it is left."""
    return contextlib.closing(codec.decode_tokens(loaded.network, rows, options.batch_size, options.codes))


def _to_folder(
    images: TokenImages, target: PictureTarget, folder: Path, loaded: LoadedModel, options: DecodeOptions
) -> Generator[Outcome]:
    """Write each picture of the share into a file of its own."""
    part, parts = target.share
    mine = slice(part, None, parts)
    numbers = range(len(images))[mine]
    names = FileNames(images.names, f".{target.image_format}")
    missing = bytearray(len(numbers) * [1])
    if target.existing == "resume" or (parts > 1 and target.existing == "refuse"):
        for place, record in enumerate(images.records(mine)):
            path = folder / names.of(numbers[place], record.name)
            missing[place] = _is_missing(path, record, target, loaded.network.downsample)
            if not missing[place]:
                yield Outcome(record.name, kept=True, path=path)
    paths: deque[Path] = deque()

    def rows() -> Iterator[codec.TokenRow]:
        for number, (record, grid), wanted in zip(numbers, images.rows(mine), missing, strict=True):
            if wanted:
                paths.append(path_beneath(folder, names.of(number, record.name)))
                yield record, grid

    with _decoded(loaded, rows(), options) as decoded:
        made = (Picture(record, canvas, paths.popleft()) for record, canvas in decoded)
        with contextlib.closing(write_pictures(made, target.image_format, runtime.processor_count())) as written:
            yield from written


def _is_missing(path: Path, record: ImageRecord, target: PictureTarget, downsample: int) -> bool:
    """Return whether a picture is to be made; OutputError where one is there that nobody said what to do with."""
    if target.existing != "resume":
        refuse_existing(path, overwrite=False)
        return True
    return not is_whole_picture(path, picture_size(record, downsample), target.image_format)


def _to_file(
    images: TokenImages, target: PictureTarget, loaded: LoadedModel, options: DecodeOptions
) -> Generator[Outcome]:
    """Write the one picture, or a sheet of all, to a file or a stream.

    Raises:
        UsageError: the sheet would be too large.
    """
    sizes = (picture_size(record, loaded.network.downsample) for record in images.records())
    sheet = None
    if target.kind == "sheet":
        sheet = ContactSheet(lay_out_sheet(sizes, target.columns, target.image_format))
    with _decoded(loaded, images.rows(), options) as decoded:
        for record, canvas in decoded:
            pixels = restore_picture(record, canvas)
            if sheet is not None:
                sheet.add(pixels)
                pixels = sheet.pixels
            yield Outcome(record.name)
    data = encode_image(pixels, target.image_format)
    if callable(target.output):
        target.output(data)
    else:
        write_bytes(Path(target.output), data)
