"""Whole jobs: images to tokens, tokens to images."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from tokenizer import runtime
from tokenizer._version import __version__
from tokenizer.errors import ImageError, TokenFileError
from tokenizer.images import Pixels, Source, read
from tokenizer.model import Tokenizer, to_pixels, to_unit_range
from tokenizer.placement import Placement, place
from tokenizer.token_files import Failure, Header, ImageRecord, TokenSet

_PIXELS_PER_BATCH = 2**22


@dataclass(frozen=True)
class EncodeOptions:
    """How images become tokens.

    Attributes:
        image_size: side of the square in pixels, for every mode but `none`.
        resize_mode: `none` keeps each image's size; `crop`, `pad`, `squash`.
        alpha: (red, green, blue) under transparent pixels.
        batch_size: images of one size that go through the network together, at most.
        workers: threads that read images ahead.
        precision: of the network's arithmetic: float32, tf32, bfloat16 or float16; tokens of bfloat16 differ in a few
            percent from float32's.
    """

    image_size: int | None = None
    resize_mode: str = "none"
    alpha: tuple[int, int, int] = (255, 255, 255)
    batch_size: int = 16
    workers: int = 2
    precision: str = "float32"


@dataclass(frozen=True)
class Encoded:
    """One image as tokens: where it stands in the input, its record, and its (h, w, C) grid."""

    row: int
    record: ImageRecord
    grid: NDArray[np.int64]


@dataclass(frozen=True)
class Unreadable:
    """One input that is no image: where it stands in the input, and why."""

    row: int
    failure: Failure


@dataclass
class _Batch:
    placements: list[Placement] = field(default_factory=list)
    canvases: list[Pixels] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def header(model: Tokenizer, fingerprint: str, options: EncodeOptions) -> Header:
    """Return the header of tokens that `encode` makes, without images yet."""
    return Header(
        images=(),
        model=fingerprint,
        codebook_sizes=model.codebook_sizes,
        downsample=model.downsample,
        made_by={
            "vqtok": __version__,
            "torch": torch.__version__,
            "pillow": PIL.__version__,
            "device": next(model.parameters()).device.type,
            "precision": options.precision,
        },
    )


def encode(model: Tokenizer, sources: Iterable[Source], options: EncodeOptions) -> Iterator[Encoded | Unreadable]:
    """Yield each image's tokens, as they are ready: images of one size go through the network together.

    A source that cannot be read is yielded as such; no other image takes its place.

    Raises:
        DeviceError: out of memory.
    """
    waiting: dict[tuple[int, int], _Batch] = {}
    for row, (name, pixels) in enumerate(_read_ahead(sources, options)):
        if isinstance(pixels, ImageError):
            yield Unreadable(row, Failure(name, str(pixels)))
            continue
        size = (pixels.shape[0], pixels.shape[1])
        placement = place(size, options.resize_mode, options.image_size, model.downsample)
        batch = waiting.setdefault(placement.canvas, _Batch())
        batch.rows.append(row)
        batch.names.append(name)
        batch.placements.append(placement)
        batch.canvases.append(placement.apply(pixels))
        room = max(1, _PIXELS_PER_BATCH // (placement.canvas[0] * placement.canvas[1]))
        if len(batch.rows) >= min(options.batch_size, room):
            yield from _encode_batch(model, waiting.pop(placement.canvas), options)
    for batch in waiting.values():
        yield from _encode_batch(model, batch, options)


def _encode_batch(model: Tokenizer, batch: _Batch, options: EncodeOptions) -> Iterator[Encoded]:
    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.stack(batch.canvases)).to(device)
    try:
        with runtime.autocast(device, options.precision):
            grids = model.encode(to_unit_range(pixels)).cpu().numpy()
    except RuntimeError as error:
        raise runtime.explain(error, "pass a smaller --batch-size, or --image-size") or error from error
    for row, name, placement, grid in zip(batch.rows, batch.names, batch.placements, grids, strict=True):
        yield Encoded(row, ImageRecord(name, (grid.shape[0], grid.shape[1]), placement), grid)


def _read_ahead(sources: Iterable[Source], options: EncodeOptions) -> Iterator[tuple[str, Pixels | ImageError]]:
    def read_one(source: Source) -> tuple[str, Pixels | ImageError]:
        try:
            return source.name, read(source.file, options.alpha)
        except ImageError as error:
            return source.name, error

    with ThreadPoolExecutor(max(1, options.workers), thread_name_prefix="images") as pool:
        rest = iter(sources)
        ahead: deque[Future[tuple[str, Pixels | ImageError]]] = deque()
        try:
            for source in itertools.islice(rest, 2 * max(1, options.workers)):
                ahead.append(pool.submit(read_one, source))
            while ahead:
                yield ahead.popleft().result()
                for source in itertools.islice(rest, 1):
                    ahead.append(pool.submit(read_one, source))
        finally:
            for future in ahead:
                future.cancel()


def collect(results: Iterable[Encoded | Unreadable], empty: Header) -> TokenSet:
    """Return all results as one token set, in the order of the inputs."""
    done: list[Encoded] = []
    failed: list[Unreadable] = []
    for result in results:
        if isinstance(result, Encoded):
            done.append(result)
        else:
            failed.append(result)
    done.sort(key=lambda result: result.row)
    failed.sort(key=lambda result: result.row)
    filled = dataclasses.replace(
        empty,
        images=tuple(result.record for result in done),
        failed=tuple(result.failure for result in failed),
    )
    return TokenSet(filled, tuple(result.grid for result in done))


def check_fits(
    tokens: TokenSet, model: Tokenizer, fingerprint: str, reads: Sequence[str] = (), *, allow_mismatch: bool = False
) -> None:
    """Raise TokenFileError unless `model` is the one that made `tokens`, or one of those it `reads` did.

    An array without a header names no model; its codes per position and their range are checked all the same.
    With `allow_mismatch`, only these are.
    """
    made_by = tokens.header.model
    if made_by is not None and made_by not in (fingerprint, *reads) and not allow_mismatch:
        raise TokenFileError(
            f"it was made by the checkpoint {made_by[:12]}, this one is {fingerprint[:12]}: pass the model that made "
            "it, or --allow-mismatch"
        )
    tokens.check_range(model.codebook_sizes)


def decode(
    model: Tokenizer, tokens: TokenSet, batch_size: int = 16, codes: int | None = None
) -> Iterator[tuple[ImageRecord, Pixels]]:
    """Yield each record with its decoded (H, W, 3) uint8 canvas, padding and all, in order.

    `record.placement` undoes the padding and restores the size. Images of one grid that follow each other go
    through the network together. With `codes`, only the first ones of each position are used: a coarser picture.

    Raises:
        DeviceError: out of memory.
        ValueError: the quantizer cannot decode that many codes alone.
    """
    rows = zip(tokens.header.images, tokens.grids, strict=True)
    for (height, width), group in itertools.groupby(rows, key=lambda row: row[0].grid):
        room = max(1, _PIXELS_PER_BATCH // (height * width * model.downsample**2))
        same = iter(group)
        while chunk := list(itertools.islice(same, min(batch_size, room))):
            canvases = _decode_batch(model, np.stack([grid[..., :codes] for _, grid in chunk]))
            yield from zip((record for record, _ in chunk), canvases, strict=True)


def _decode_batch(model: Tokenizer, grids: NDArray[np.integer]) -> Pixels:
    device = next(model.parameters()).device
    try:
        with runtime.autocast(device, "float32"):
            images = model.decode(torch.from_numpy(grids.astype(np.int64)).to(device))
    except RuntimeError as error:
        raise runtime.explain(error, "pass a smaller --batch-size") or error from error
    pixels: Pixels = to_pixels(images).cpu().numpy()
    return pixels
