"""The plan of reports: what they are of, what they measure and where they go, checked before any work."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tokenizer.errors import InputError, UsageError
from tokenizer.files import Existing, check_output
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.models import DEFAULT_CHECKPOINT, find_maker, is_maker, locate_checkpoint
from tokenizer.perceptual import refuse_without_lite0
from tokenizer.tokens import NamedTokens, TokenFiles, TokenSet, open_token_files, refuse_stream_twice

Model = str | os.PathLike[str]


@dataclass(frozen=True)
class ReportOptions:
    """What is measured, and how.

    Attributes:
        top_k: how many of the most used codes to name.
        max_images: how many of the images to encode, where there are no tokens; None for all.
        max_pictures: pairs of pictures in the page, over all reports: half the worst, half the best.
        baselines: compare with JPEG and WebP at the same bits.
        stability: measure how many tokens change with small changes of the picture.
        perceptual: add what EfficientNet-Lite0 sees, of the extra `perceptual`.
        lpips_weights: file of weights for LPIPS.
        inception_weights: file of weights for rFID.
        least_usage: share of codes, 0 to 1, under which a report misses its threshold.
        least_psnr: mean PSNR in dB under which a report misses its threshold.
        least_recognized: share of images recognized alike, 0 to 1, under which a report misses its threshold.
        alpha: (red, green, blue) under transparent pixels.
        batch_size: images that go through the network together.
        workers: threads that read images; None for one a processor, at most 8.
        device: of the network: auto, cpu, cuda, cuda:1 or mps.
    """

    top_k: int = 5
    max_images: int | None = None
    max_pictures: int = 24
    baselines: bool = False
    stability: bool = False
    perceptual: bool = False
    lpips_weights: Path | None = None
    inception_weights: Path | None = None
    least_usage: float | None = None
    least_psnr: float | None = None
    least_recognized: float | None = None
    alpha: tuple[int, int, int] = (255, 255, 255)
    batch_size: int = 16
    workers: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ReportFiles:
    """Where reports are written to; None is not written.

    Attributes:
        csv: a line for each report.
        html: one page with plots and pictures.
        codebook_picture: PNG of what each code means.
    """

    csv: Path | None = None
    html: Path | None = None
    codebook_picture: Path | None = None

    def check(self, existing: Existing = "refuse") -> None:
        """Look whether the files can be written.

        Raises:
            UsageError: two are one.
            OutputError: something is in the way.
        """
        named = [file for file in (self.csv, self.html, self.codebook_picture) if file is not None]
        if len({file.resolve() for file in named}) < len(named):
            raise UsageError(f"{named[0]} is named for two outputs: name two files")
        for file in named:
            check_output(file, folder=False, existing=existing)


@dataclass(frozen=True)
class ReportSubject:
    """What one report is of.

    Attributes:
        name: of the report.
        tokens: its token files; None to encode the images first.
        model: the checkpoint, where one is needed or was named.
        is_chosen: the caller named the checkpoint; otherwise it is one that ships.
    """

    name: str
    tokens: TokenFiles | None
    model: Path | None
    is_chosen: bool = True


@dataclass(frozen=True)
class ReportPlan:
    """What will be reported on, and what of it.

    Attributes:
        subjects: one for each report, at least one.
        originals: the images, where they were named.
        folder: what these are called.
        options: what is measured.
        files: what will be written.
        warnings: what to tell of the token files, one line each.
    """

    subjects: tuple[ReportSubject, ...]
    originals: Sequence[Source]
    folder: str
    options: ReportOptions
    files: ReportFiles
    warnings: tuple[str, ...] = ()

    @property
    def draws_codes(self) -> bool:
        """Whether the reports need pictures of what the codes mean."""
        in_page = self.files.html is not None and len(self.originals) > 0
        return in_page or self.files.codebook_picture is not None

    @property
    def pairs(self) -> int:
        """How many pairs of pictures to keep of each report for the page."""
        return 0 if self.files.html is None else self.options.max_pictures // len(self.subjects)


def plan_reports(
    tokens: NamedTokens | Sequence[NamedTokens] = (),
    images: str | os.PathLike[str] | None = None,
    models: Model | Sequence[Model] = (),
    options: ReportOptions | None = None,
    files: ReportFiles | None = None,
    *,
    existing: Existing = "refuse",
    stdin: BinaryIO | None = None,
) -> ReportPlan:
    """Return what reports will be of: nothing is measured, no network loaded, nothing written.

    Args:
        tokens: one or several, a report each: a token file, a folder of them, `-` for what `stdin` holds, or tokens in
            memory. Without any, `images` are encoded with each of the models.
        images: the originals, a folder or a file: adds how good the decoded pictures are.
        models: one or several: a checkpoint, or the name of one that ships. With several and `tokens`, each goes with
            those it made; with none, the shipped one that made them is found.
        options: what is measured.
        files: what `write_reports` will write.
        existing: what becomes of files that are there.
        stdin: a stream of one token file.

    Raises:
        UsageError: nothing is named, options contradict each other, need `images` or the extra `perceptual`, or no
            checkpoint made some tokens.
        InputError: images are missing, a folder holds no token file, or a file holds no tokens.
        CheckpointError: a checkpoint cannot be read.
        OutputError: a file is in the way, or cannot be written.
    """
    options, files = options or ReportOptions(), files or ReportFiles()
    tokens = [tokens] if isinstance(tokens, str | os.PathLike | TokenSet) else tokens
    models = [models] if isinstance(models, str | os.PathLike) else models
    _check_call(tokens, images, options, files)
    files.check(existing)
    chosen = list(dict.fromkeys(map(Path, models)))
    if tokens:
        subjects = _of_tokens(tokens, chosen, stdin, with_model=bool(chosen) or images is not None)
    elif chosen:
        subjects = [ReportSubject(str(model), None, locate_checkpoint(model)) for model in chosen]
    else:
        subjects = [ReportSubject(DEFAULT_CHECKPOINT, None, locate_checkpoint(None), is_chosen=False)]
    if files.codebook_picture is not None and len(subjects) > 1:
        raise UsageError("--codebook-picture is of one report: name one token file, or one -m")
    originals: Sequence[Source] = () if images is None else find_images(images)
    warnings = [warning for subject in subjects if subject.tokens for warning in subject.tokens.warnings]
    return ReportPlan(tuple(subjects), originals, str(images), options, files, tuple(warnings))


def _check_call(
    tokens: Sequence[NamedTokens], images: Model | None, options: ReportOptions, files: ReportFiles
) -> None:
    """Refuse what contradicts itself, or needs images that are not named."""
    if not tokens and images is None:
        raise UsageError("nothing to report on: name token files, or --images")
    if options.max_images is not None and (tokens or images is None):
        raise UsageError("--max-images is for --images without token files")
    refuse_stream_twice(tokens)
    needing = {
        "--stability": options.stability,
        "--baselines": options.baselines,
        "--perceptual": options.perceptual,
        "--lpips-weights": options.lpips_weights,
        "--inception-weights": options.inception_weights,
        "--fail-under-psnr": options.least_psnr is not None,
        "--fail-under-recognized": options.least_recognized is not None,
        "--codebook-picture": files.codebook_picture,
    }
    given = [option for option, value in needing.items() if value]
    if given and images is None:
        raise UsageError(f"{given[0]} needs the originals: pass --images")
    if options.least_recognized is not None and not options.perceptual:
        raise UsageError("--fail-under-recognized needs --perceptual")
    if options.perceptual:
        refuse_without_lite0("--perceptual")
    if options.least_psnr is not None and not math.isfinite(options.least_psnr):
        raise UsageError(f"--fail-under-psnr is {options.least_psnr}, expected a number of dB")


def _of_tokens(
    tokens: Sequence[NamedTokens], chosen: Sequence[Path], stdin: BinaryIO | None, *, with_model: bool
) -> list[ReportSubject]:
    """Return a subject for each of `tokens`; `with_model` finds a shipped checkpoint where none was chosen."""
    subjects = []
    for number, named in enumerate(tokens, 1):
        own = open_token_files([named], stdin=stdin)
        name = f"tokens {number}" if isinstance(named, TokenSet) else "stdin" if named == "-" else os.fspath(named)
        if not own:
            raise InputError(f"{name} holds no tokens")
        model = _maker_of(own, name, chosen) if with_model else None
        subjects.append(ReportSubject(name, own, model, bool(chosen)))
    return subjects


def _maker_of(own: TokenFiles, name: str, chosen: Sequence[Path]) -> Path:
    """Return the checkpoint that decodes these tokens: the only one, one of several, or one that ships."""
    if len(chosen) == 1:
        return locate_checkpoint(chosen[0])
    fingerprint = own[0].header.model
    if not chosen:
        return find_maker(fingerprint, name)
    for model in map(locate_checkpoint, chosen):
        if fingerprint is not None and is_maker(model, fingerprint):
            return model
    raise UsageError(f"none of the {len(chosen)} checkpoints made {name}: pass -m with the one that did")
