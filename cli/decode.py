"""`vqtok decode`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import models
from cli import options as o
from cli.console import Console, binary_stdin, binary_stdout, printable, write_binary, write_json
from cli.inputs import check_writable
from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.files import refuse_existing, unique_names, write_bytes
from tokenizer.images import encode_image
from tokenizer.token_files import SUFFIXES, TokenSet, read

if TYPE_CHECKING:
    from tokenizer.images import Pixels
    from tokenizer.model import Tokenizer

_IMAGE_SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


def decode(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="TOKENS", help="Token files, folders of them, or - .", show_default=False),
    ],
    output: Annotated[
        str, o.option("--output", "-o", help="A folder, an image file for one image, or - .", env=False)
    ] = "",
    model: o.Model = None,
    image_format: Annotated[
        o.ImageFormat | None, o.option("--image-format", help="png (the default), jpg, or lossless webp.")
    ] = None,
    index: Annotated[
        str | None,
        o.option("--index", help="Only the images A to B-1, as A:B; either may be missing.", env=False),
    ] = None,
    codes: Annotated[
        int | None,
        o.option("--codes", min=1, help="Only the first codes of each position: a coarser picture.", env=False),
    ] = None,
    allow_mismatch: Annotated[
        bool, o.option("--allow-mismatch", help="Decode tokens that another checkpoint made.", env=False)
    ] = False,
    batch_size: o.BatchSize = 16,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Turn tokens back into images, with their names and sizes.

    \b
    vqtok decode tokens.safetensors -m run -o back/
    vqtok decode tokens.npy -m run -o back/ --image-format jpg --index 0:10
    vqtok decode tokens.safetensors -m run -o coarse/ --codes 2      of a residual quantizer
    vqtok encode photo.jpg -m run -o - | vqtok decode - -m run -o back.png

    An array without a header, as a generator writes it, may be (h, w), (N, h, w) or (N, h, w, C).
    """
    console = Console("decode", quiet=quiet, verbose=verbose, progress=not no_progress)
    kind = _output_kind(output, image_format)
    if output == "-":
        if as_json:
            raise UsageError("-o - and --json both want stdout: name a file for the image")
        binary_stdout()
    else:
        refuse_existing(Path(output), overwrite=overwrite)
        check_writable(Path(output), folder=kind == "folder")
    checkpoint = models.required(model)
    named = [(name, _select(tokens, index)) for name, tokens in read_all(inputs)]
    total = sum(len(tokens.grids) for _, tokens in named)
    if not total:
        raise InputError("there are no tokens to decode")
    if kind == "file" and total != 1:
        raise UsageError(f"{total} images do not fit {output}: name a folder, or pick one with --index")
    loaded = models.load(checkpoint, device, console)
    check_all(named, loaded, allow_mismatch=allow_mismatch)
    _check_codes(loaded.network, codes)
    began = time.perf_counter()
    pictures = console.track(_pictures(loaded.network, named, batch_size, codes), total)
    suffix = image_format or _IMAGE_SUFFIXES.get(Path(output).suffix.lower(), "png")
    if kind == "folder":
        names = [record.name for _, tokens in named for record in tokens.header.images]
        for name, pixels in zip(unique_names(names, f".{suffix}"), pictures, strict=True):
            write_bytes(Path(output) / name, encode_image(pixels, suffix))
    else:
        (pixels,) = pictures
        _write_one(output, encode_image(pixels, suffix))
    seconds = time.perf_counter() - began
    console.say(f"{total} images decoded to {output if output != '-' else 'stdout'} in {seconds:.1f} s")
    if as_json:
        write_json({"output": output, "images": total, "seconds": round(seconds, 3)})


def _output_kind(output: str, image_format: o.ImageFormat | None) -> str:
    if not output:
        raise UsageError("no output: pass -o FOLDER/, -o IMAGE.png or -o -")
    path = Path(output)
    if output == "-":
        return "file"
    if output.endswith("/") or path.is_dir() or not path.suffix:
        return "folder"
    named = _IMAGE_SUFFIXES.get(path.suffix.lower())
    if named is None:
        raise UsageError(f"{output} has the suffix {path.suffix}: use .png, .jpg or .webp, or end a folder with /")
    if image_format not in (None, named):
        raise UsageError(f"{output} and --image-format {image_format} contradict each other")
    return "file"


def read_all(inputs: Sequence[str]) -> list[tuple[str, TokenSet]]:
    """Return the name and tokens of each file that arguments name; folders are searched for token files.

    Raises:
        InputError: a file is missing or no token file.
    """
    if inputs.count("-") > 1:
        raise UsageError("stdin is named twice")
    found: list[tuple[str, TokenSet]] = []
    for name in inputs:
        if name == "-":
            found.append(("stdin", _read_stdin()))
            continue
        path = Path(name)
        files = sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file()) if path.is_dir() else [path]
        if not files:
            raise InputError(f"no token files in {path}: looked for {' '.join(SUFFIXES)}")
        found += [(str(file), read(file)) for file in files]
    return found


def _read_stdin() -> TokenSet:
    data = binary_stdin().read()
    if not data:
        raise InputError("stdin is empty: expected a token file")
    try:
        return read(data)
    except TokenFileError as error:
        raise TokenFileError(f"stdin: {error}") from error


def check_all(named: Sequence[tuple[str, TokenSet]], loaded: models.Loaded, *, allow_mismatch: bool) -> None:
    """Raise TokenFileError, which names the file, unless the checkpoint can decode all these tokens."""
    from tokenizer.codec import check_fits

    for name, tokens in named:
        try:
            check_fits(tokens, loaded.network, loaded.fingerprint, loaded.reads, allow_mismatch=allow_mismatch)
        except TokenFileError as error:
            raise TokenFileError(f"{printable(name)}: {error}") from error


def _select(tokens: TokenSet, index: str | None) -> TokenSet:
    if index is None:
        return tokens
    first, colon, last = index.partition(":")
    try:
        start = int(first) if first else None
        stop = (int(last) if last else None) if colon else int(first) + 1
    except ValueError:
        raise UsageError(f"--index is {index!r}, expected A:B or one row number") from None
    rows = range(len(tokens.grids))[start:stop]
    if not rows:
        raise UsageError(f"--index {index} selects none of {len(tokens.grids)} images")
    images = tuple(tokens.header.images[row] for row in rows)
    return TokenSet(replace(tokens.header, images=images), tuple(tokens.grids[row] for row in rows))


def _check_codes(network: Tokenizer, codes: int | None) -> None:
    prefixes = network.quantizer.prefixes
    if codes is not None and codes not in prefixes:
        wanted = ", ".join(map(str, prefixes))
        raise UsageError(f"--codes is {codes}, this checkpoint decodes the first {wanted} of {prefixes[-1]} codes")


def _pictures(
    network: Tokenizer, named: Sequence[tuple[str, TokenSet]], batch_size: int, codes: int | None
) -> Iterator[Pixels]:
    from tokenizer import codec

    for _, tokens in named:
        for record, canvas in codec.decode(network, tokens, batch_size, codes):
            yield record.placement.restore(canvas) if record.placement else canvas


def _write_one(output: str, data: bytes) -> None:
    if output != "-":
        write_bytes(Path(output), data)
        return
    write_binary(data)
