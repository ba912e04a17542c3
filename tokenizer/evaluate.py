"""The report: how the codebook is used, and how good the pictures are. Codebook use needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenizer.errors import ImageError, InputError
from tokenizer.images import Source, read
from tokenizer.metrics import DEFINITIONS, Usage, add_counts, overall, psnr, ssim
from tokenizer.token_files import Header, TokenSet

if TYPE_CHECKING:
    from tokenizer.model import Tokenizer

REPORT_VERSION = 1
_COUNTED = 2**27


@dataclass(frozen=True)
class SlotReport:
    """Use of one alphabet: one of the C codes per position. `top` holds (code, times chosen, share of tokens)."""

    codebook_size: int
    used: float
    dead: int
    perplexity: float
    entropy_bits: float
    top: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class ImageQuality:
    """One image: PSNR in dB (None when it came back exactly), SSIM (None when it is smaller than the window)."""

    name: str
    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class Quality:
    """Pictures decoded from the tokens, against the originals.

    Attributes:
        psnr: dB, mean over images; images that came back exactly have none and are counted in `exact`.
        ssim: mean over images with both sides of 11 pixels or more.
        exact: images without any error.
        images: the images compared, in the order of the rows.
        missing: names in the token file without an original to compare with.
    """

    psnr: float | None
    ssim: float | None
    exact: int
    images: tuple[ImageQuality, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Figures over a whole set of images; `metrics.DEFINITIONS` says what each is.

    With several codes per position, `used`, `dead` and `tokens` are over all slots together, `entropy_bits` is the
    mean over slots and `perplexity` 2 to its power.
    """

    images: int
    failed: int
    tokens: int
    codes_per_position: int
    used: float
    dead: int
    perplexity: float
    entropy_bits: float
    bits_per_pixel: float | None
    slots: tuple[SlotReport, ...]
    quality: Quality | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, with the definition of each figure."""
        values = asdict(self)
        quality = values.pop("quality")
        figures = {key: quality[key] for key in ("psnr", "ssim")} if quality else {}
        return {
            "version": REPORT_VERSION,
            **values,
            **figures,
            "quality": quality,
            "definitions": DEFINITIONS,
        }


def usage_report(sets: Sequence[TokenSet], sizes: tuple[int, ...], top: int, quality: Quality | None = None) -> Report:
    """Return the report of token sets that share the alphabets `sizes`.

    Args:
        sets: tokens of any number of files.
        sizes: alphabet size of each of the C codes per position.
        top: how many of the most used codes to name.
        quality: of the decoded pictures, when it was measured.

    Raises:
        TokenFileError: a token lies outside its alphabet, or there are not C codes per position.
        InputError: the alphabets are too large to count.
    """
    if sum(sizes) > _COUNTED:
        raise InputError(f"there are {sum(sizes)} codes to count, at most {_COUNTED} fit into memory")
    counts = [np.zeros(size, np.int64) for size in sizes]
    for tokens in sets:
        tokens.check_range(sizes)
        for grid in tokens.grids:
            add_counts(counts, grid)
    usages = [Usage(count) for count in counts]
    together = overall(usages)
    return Report(
        images=sum(len(tokens.grids) for tokens in sets),
        failed=sum(len(tokens.header.failed) for tokens in sets),
        tokens=sum(usage.tokens for usage in usages),
        codes_per_position=len(sizes),
        used=together.used,
        dead=together.dead,
        perplexity=together.perplexity,
        entropy_bits=together.entropy_bits,
        bits_per_pixel=_bits_per_pixel(sets, usages),
        slots=tuple(_slot(usage, top) for usage in usages),
        quality=quality,
    )


def _slot(usage: Usage, top: int) -> SlotReport:
    return SlotReport(
        len(usage.counts), usage.used, usage.dead, usage.perplexity, usage.entropy_bits, tuple(usage.top(top))
    )


def _bits_per_pixel(sets: Sequence[TokenSet], usages: Sequence[Usage]) -> float | None:
    bits = sum(usage.tokens * math.log2(len(usage.counts)) for usage in usages)
    pixels = [_pixels(tokens.header) for tokens in sets]
    total = sum(count for count in pixels if count is not None)
    return None if None in pixels or not total else bits / total


def _pixels(header: Header) -> int | None:
    sizes = [record.placement.content for record in header.images if record.placement]
    return sum(height * width for height, width in sizes) if len(sizes) == len(header.images) else None


def measure_quality(
    model: Tokenizer,
    sets: Sequence[TokenSet],
    originals: Mapping[str, Source],
    alpha: tuple[int, int, int] = (255, 255, 255),
) -> Quality:
    """Return how the pictures decoded from tokens compare with the originals of the same names.

    Both sides are compared as the network saw them: after the recorded resize and crop, without padding.

    Raises:
        InputError: no original has the name of a token grid, or an original cannot be read or has another size.
    """
    results: list[ImageQuality] = []
    missing: list[str] = []
    for tokens in sets:
        missing += [record.name for record in tokens.header.images if record.name not in originals]
        results += _compare(model, tokens, originals, alpha)
    if not results:
        named = f", such as {missing[0]}," if missing else ""
        raise InputError(
            f"none of the {len(missing)} names in the token file{named} is among the images: "
            "pass the folder that was encoded"
        )
    decibels = [result.psnr for result in results if result.psnr is not None]
    similarities = [result.ssim for result in results if result.ssim is not None]
    return Quality(
        psnr=float(np.mean(decibels)) if decibels else None,
        ssim=float(np.mean(similarities)) if similarities else None,
        exact=len(results) - len(decibels),
        images=tuple(results),
        missing=tuple(missing),
    )


def _compare(
    model: Tokenizer, tokens: TokenSet, originals: Mapping[str, Source], alpha: tuple[int, int, int]
) -> Iterator[ImageQuality]:
    from tokenizer import codec

    pairs = zip(tokens.header.images, tokens.grids, strict=True)
    kept = [(record, grid) for record, grid in pairs if record.name in originals]
    chosen = TokenSet(
        Header(tuple(record for record, _ in kept), codebook_sizes=model.codebook_sizes),
        tuple(g for _, g in kept),
    )
    for record, canvas in codec.decode(model, chosen):
        if record.placement is None:
            raise InputError(f"the tokens of {record.name} do not say how the image was fitted: encode it with vqtok")
        try:
            original = read(originals[record.name].file, alpha)
        except ImageError as error:
            raise InputError(f"cannot read {record.name}: {error}") from error
        if original.shape[:2] != record.placement.original:
            raise InputError(
                f"{record.name} is {original.shape[1]}x{original.shape[0]} pixels, it was not when encoded"
            )
        wanted = record.placement.content_of(record.placement.apply(original))
        made = record.placement.content_of(canvas)
        decibels = psnr(wanted, made)
        yield ImageQuality(record.name, None if math.isinf(decibels) else decibels, ssim(wanted, made))
