"""What `vqtok report` reports on, and one report of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import Console, printable, stdin_of
from tokenizer.errors import InputError, UsageError
from tokenizer.images import Source
from tokenizer.models import DEFAULT_CHECKPOINT, LoadedModel, find_maker, load_model, locate_checkpoint
from tokenizer.report import (
    Extremes,
    Quality,
    ReportSection,
    Stability,
    codebook_reports,
    measure_quality,
    measure_stability,
    usage_report,
)
from tokenizer.tokens import TokenFile, TokenFiles, open_token_files, select_images

if TYPE_CHECKING:
    from tokenizer.tokens import TokenSet

_STABILITY_IMAGES = 64


@dataclass(frozen=True)
class Subject:
    """What one report is of.

    Attributes:
        name: of the report.
        files: its token files; None to encode the images first.
        model: the checkpoint, where one is needed or was named.
        named: -m named it.
    """

    name: str
    files: TokenFiles | None
    model: Path | None
    named: bool = True


@dataclass(frozen=True)
class Wanted:
    """What is measured of every subject.

    Attributes:
        originals: the images, where they were named.
        folder: what they are called.
        alpha: (red, green, blue) under transparent pixels.
        top: how many of the most used codes to name.
        max_images: how many of the originals to encode, where there are no tokens.
        batch_size: images that go through the network together.
        workers: threads that read images.
        device: of the network.
        lpips: file of weights for LPIPS.
        inception: file of weights for rFID.
        baselines: compare with JPEG and WebP.
        stability: measure how tokens change with the picture.
        codes: draw what codes mean.
        pictures: how many pairs of pictures to keep for the page.
    """

    originals: Sequence[Source]
    folder: str
    alpha: tuple[int, int, int]
    top: int
    max_images: int | None
    batch_size: int
    workers: int | None
    device: str
    lpips: Path | None
    inception: Path | None
    baselines: bool
    stability: bool
    codes: bool
    pictures: int


def subjects(inputs: Sequence[str], chosen: Sequence[Path], console: Console, *, with_model: bool) -> list[Subject]:
    """Return what to report on: each argument with the checkpoint that made it, or each checkpoint.

    `with_model` finds a shipped checkpoint where none was named.

    Raises:
        InputError: a folder holds no token file, or a checkpoint cannot be read.
        UsageError: stdin is named twice, or no checkpoint made the tokens of an argument.
    """
    if not inputs:
        if not chosen:
            return [Subject(DEFAULT_CHECKPOINT, None, locate_checkpoint(None), named=False)]
        return [Subject(str(model), None, locate_checkpoint(model)) for model in chosen]
    stdin = stdin_of(inputs)
    named = [("stdin" if name == "-" else name, open_token_files([name], stdin=stdin)) for name in inputs]
    for name, own in named:
        for warning in own.warnings:
            console.warn(warning)
        if not own:
            raise InputError(f"{name} holds no tokens")
    makers = [_maker(name, own, chosen) if with_model else None for name, own in named]
    return [Subject(name, own, model, bool(chosen)) for (name, own), model in zip(named, makers, strict=True)]


def _maker(name: str, own: TokenFiles, chosen: Sequence[Path]) -> Path:
    """Return the checkpoint that decodes the tokens of an argument: the only one, one of several, or one that ships."""
    from tokenizer.models import describe_checkpoint, fingerprint_of

    if len(chosen) == 1:
        return locate_checkpoint(chosen[0])
    wanted = own[0].header.model
    if not chosen:
        return find_maker(wanted, name)
    for model in map(locate_checkpoint, chosen):
        if wanted in (fingerprint_of(model), *describe_checkpoint(model).reads):
            return model
    raise UsageError(f"none of the {len(chosen)} checkpoints made {printable(name)}: pass -m with the one that did")


def measure(subject: Subject, wanted: Wanted, console: Console, number: int) -> ReportSection:
    """Return the report of a subject with its pictures; the `number` tells the pictures of several apart.

    Raises:
        TokenFileError: tokens are damaged, or do not fit the checkpoint.
        InputError: no image could be encoded, or none can be compared.
        UsageError: the alphabets are not known, or the tokens are of several checkpoints.
    """
    if subject.model is None:
        return _from_tokens(subject, wanted, console)
    loaded = load_model(subject.model, wanted.device)
    console.tell_checkpoint(loaded, named=subject.named)
    originals, own = wanted.originals, subject.files
    if own is None:
        originals = originals[: wanted.max_images]
        own = TokenFiles([TokenFile(wanted.folder, tokens=_encode(console, loaded, originals, wanted))])
    for name, tokens in zip(own.names, own, strict=True):
        loaded.check(name, tokens)
    gallery = Extremes(wanted.pictures, f"picture-{number}")
    quality: Quality | None = None
    stability: Stability | None = None
    by_name = {source.name: source for source in originals}
    if originals:
        quality = measure_quality(
            loaded.network,
            own,
            by_name,
            wanted.alpha,
            lpips_weights=wanted.lpips,
            inception_weights=wanted.inception,
            baselines=wanted.baselines,
            keep=gallery.keep if wanted.pictures else None,
        )
    if wanted.stability:
        stability = _stability(console, loaded, own, originals, wanted)
    _check_alike(own, loaded.network.codebook_sizes)
    report = usage_report(
        own,
        loaded.network.codebook_sizes,
        wanted.top,
        quality,
        list(map(printable, own.names)),
        codebooks=codebook_reports(loaded.network),
        stability=stability,
    )
    _warn_of_failed(own, console)
    codes = _codes(loaded, own, by_name, wanted.alpha) if wanted.codes else None
    return ReportSection(printable(subject.name), report, gallery.worst, gallery.best, codes)


def _from_tokens(subject: Subject, wanted: Wanted, console: Console) -> ReportSection:
    own = subject.files or TokenFiles([])
    sizes = own[0].header.codebook_sizes
    _check_alike(own, sizes)
    report = usage_report(own, sizes, wanted.top, None, list(map(printable, own.names)))
    _warn_of_failed(own, console)
    return ReportSection(printable(subject.name), report)


def _warn_of_failed(own: TokenFiles, console: Console) -> None:
    for tokens in own:
        for failure in tokens.failed:
            console.warn(f"not encoded: {failure.name}: {failure.reason}")


def _check_alike(own: TokenFiles, sizes: tuple[int, ...]) -> None:
    if not sizes:
        first = printable(own.names[0])
        raise UsageError(f"{first} names no codebook size: pass -m RUN, the checkpoint that made it")
    if len({tokens.header.model for tokens in own}) > 1:
        raise UsageError("these token files were made by different checkpoints: report on them one by one")


def _encode(console: Console, loaded: LoadedModel, originals: Sequence[Source], wanted: Wanted) -> TokenSet:
    from tokenizer import codec

    settings = codec.EncodeOptions(alpha=wanted.alpha, batch_size=wanted.batch_size, workers=wanted.workers)
    results = console.track(codec.encode_images(loaded.network, originals, settings), len(originals))
    tokens = codec.collect_tokens(results, codec.token_header(loaded.network, loaded.fingerprint, settings))
    if not tokens.grids:
        first = tokens.failed[0]
        raise InputError(f"0 of {len(originals)} images encoded, the first is {printable(first.name)}: {first.reason}")
    return tokens


def _stability(
    console: Console, loaded: LoadedModel, own: TokenFiles, originals: Sequence[Source], wanted: Wanted
) -> Stability:
    """Measure it on images evenly spread over the originals, fitted as those of the tokens were."""
    from tokenizer import codec

    said = own[0].header.options
    size, mode = said.get("image_size"), said.get("resize_mode")
    options = codec.EncodeOptions(
        image_size=int(size) if size is not None else None,
        resize_mode=str(mode or "none"),
        alpha=wanted.alpha,
        batch_size=wanted.batch_size,
        workers=wanted.workers,
    )
    count = min(len(originals), _STABILITY_IMAGES)
    spread = [originals[number * len(originals) // count] for number in range(count)]
    return measure_stability(loaded.network, console.track(spread, count), options)


def _codes(loaded: LoadedModel, own: TokenFiles, originals: Mapping[str, Source], alpha: tuple[int, int, int]) -> bytes:
    """Return the PNG of what the codes of the first slot mean."""
    from PIL import Image

    from tokenizer.report import codebook_picture

    found = codebook_picture(loaded.network, select_images(own).rows(), originals, alpha=alpha)
    stream = io.BytesIO()
    Image.fromarray(found.picture()).save(stream, "PNG", optimize=True)
    return stream.getvalue()
