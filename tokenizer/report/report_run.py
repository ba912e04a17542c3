"""Whole reports: `build_reports` measures what a plan names, `write_reports` writes table, page and picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizer.errors import InputError, UsageError
from tokenizer.files import write_bytes
from tokenizer.images import Source
from tokenizer.metrics import FEW_TOKENS_PER_CODE
from tokenizer.models import LoadedModel, load_model
from tokenizer.report.code_pictures import codebook_picture
from tokenizer.report.codebooks import codebook_reports
from tokenizer.report.extremes import ExtremePairs
from tokenizer.report.figures import reports_to_csv
from tokenizer.report.quality import RFID_LEAST, Quality, measure_quality
from tokenizer.report.report_html import ReportSection, report_page
from tokenizer.report.report_plan import ReportFiles, ReportOptions, ReportPlan, ReportSubject
from tokenizer.report.stability import Stability, measure_stability
from tokenizer.report.token_report import usage_report
from tokenizer.runtime import Track, untracked
from tokenizer.tokens import FailedInput, TokenFile, TokenFiles, select_images

if TYPE_CHECKING:
    from tokenizer.tokens import TokenSet

_STABILITY_IMAGES = 64


def build_reports(plan: ReportPlan, *, track: Track = untracked) -> Iterator[ReportSection]:
    """Yield the reports of a plan, each as soon as it is done: use, and with images quality and pictures.

    Args:
        plan: see `plan_reports`.
        track: what the images that are encoded, and those that stability is measured on, pass through.

    Raises:
        TokenFileError: tokens are damaged, or do not fit the checkpoint.
        InputError: no image could be encoded, or none can be compared; weights of a metric are missing or damaged.
        UsageError: the alphabets are not known, the tokens of one report are of several checkpoints, there is no such
            device, or a package for a metric is missing.
        DeviceError: the device is absent, or out of memory.
    """
    for number, subject in enumerate(plan.subjects, 1):
        yield _from_tokens(subject, plan) if subject.model is None else _with_model(subject, plan, number, track)


def _from_tokens(subject: ReportSubject, plan: ReportPlan) -> ReportSection:
    """Return the report of tokens alone."""
    own = subject.tokens or TokenFiles([])
    sizes = own[0].header.codebook_sizes
    _check_alike(own, sizes)
    report = usage_report(own, sizes, plan.options.top_k, None, own.names)
    return ReportSection(subject.name, report, not_encoded=_failures(own))


def _with_model(subject: ReportSubject, plan: ReportPlan, number: int, track: Track) -> ReportSection:
    """Return the report of tokens and their checkpoint; the `number` tells the pictures of several apart."""
    loaded, options, originals = load_model(subject.model, plan.options.device), plan.options, plan.originals
    own = subject.tokens
    if own is None:
        originals = originals[: options.max_images]
        own = TokenFiles([TokenFile(plan.folder, tokens=_encode(loaded, originals, options, track))])
    for name, tokens in zip(own.names, own, strict=True):
        loaded.check(name, tokens)
    by_name = {source.name: source for source in originals}
    pairs = ExtremePairs(plan.pairs, f"picture-{number}")
    quality = _quality(loaded, own, by_name, options, pairs if plan.pairs else None) if originals else None
    stability = _stability(loaded, own, originals, options, track) if options.stability else None
    sizes = loaded.network.codebook_sizes
    _check_alike(own, sizes)
    report = usage_report(
        own,
        sizes,
        options.top_k,
        quality,
        own.names,
        codebooks=codebook_reports(loaded.network),
        stability=stability,
    )
    codes = _code_pictures(loaded, own, by_name, options) if plan.draws_codes else None
    return ReportSection(subject.name, report, pairs.worst, pairs.best, codes, _failures(own), str(loaded))


def _failures(own: TokenFiles) -> tuple[FailedInput, ...]:
    return tuple(failure for tokens in own for failure in tokens.failed)


def _check_alike(own: TokenFiles, sizes: tuple[int, ...]) -> None:
    if not sizes:
        raise UsageError(f"{own.names[0]} names no codebook size: pass -m RUN, the checkpoint that made it")
    if len({tokens.header.model for tokens in own}) > 1:
        raise UsageError("these token files were made by different checkpoints: report on them one by one")


def _encode(loaded: LoadedModel, originals: Sequence[Source], options: ReportOptions, track: Track) -> TokenSet:
    from tokenizer import codec

    settings = codec.EncodeOptions(alpha=options.alpha, batch_size=options.batch_size, workers=options.workers)
    results = track(codec.encode_images(loaded.network, originals, settings), len(originals))
    tokens = codec.collect_tokens(results, codec.token_header(loaded.network, loaded.fingerprint, settings))
    if not tokens.grids:
        first = tokens.failed[0]
        raise InputError(f"0 of {len(originals)} images encoded, the first is {first.name}: {first.reason}")
    return tokens


def _quality(
    loaded: LoadedModel,
    own: TokenFiles,
    by_name: Mapping[str, Source],
    options: ReportOptions,
    pairs: ExtremePairs | None,
) -> Quality:
    return measure_quality(
        loaded.network,
        own,
        by_name,
        options.alpha,
        lpips_weights=options.lpips_weights,
        inception_weights=options.inception_weights,
        baselines=options.baselines,
        perceptual=options.perceptual,
        keep=pairs.keep if pairs else None,
    )


def _stability(
    loaded: LoadedModel, own: TokenFiles, originals: Sequence[Source], options: ReportOptions, track: Track
) -> Stability:
    """Return the stability on images evenly spread over the originals, fitted as those of the tokens were."""
    from tokenizer.codec import EncodeOptions

    said = own[0].header.options
    size, mode = said.get("image_size"), said.get("resize_mode")
    fitting = EncodeOptions(
        image_size=int(size) if size is not None else None,
        resize_mode=str(mode) if mode else None,
        alpha=options.alpha,
        batch_size=options.batch_size,
        workers=options.workers,
    )
    count = min(len(originals), _STABILITY_IMAGES)
    spread = [originals[number * len(originals) // count] for number in range(count)]
    return measure_stability(loaded.network, track(spread, count), fitting)


def _code_pictures(
    loaded: LoadedModel, own: TokenFiles, by_name: Mapping[str, Source], options: ReportOptions
) -> bytes:
    """Return the PNG of what the codes of the first slot mean."""
    return codebook_picture(loaded.network, select_images(own).rows(), by_name, alpha=options.alpha).to_png()


def report_remarks(sections: Sequence[ReportSection]) -> list[str]:
    """Return what makes reports less than they seem, one line each."""
    lines = []
    for section in sections:
        of, report, quality = _of(section, sections), section.report, section.report.quality
        if quality and quality.missing:
            lines.append(f"{of}{len(quality.missing)} images of the token file are not among --images")
        if quality and quality.rfid is not None and len(quality.images) < RFID_LEAST:
            lines.append(f"{of}rFID over {len(quality.images)} images says little: it needs {RFID_LEAST} or more")
        if report.tokens < FEW_TOKENS_PER_CODE * sum(slot.codebook_size for slot in report.slots):
            few = f"{report.tokens} tokens are few for this codebook"
            lines.append(f"{of}{few}: used and perplexity are low for that alone")
    return lines


@dataclass(frozen=True)
class MissedThreshold:
    """A figure of a report that is under what was asked for.

    Attributes:
        report: its name.
        figure: `used` or `recognized_alike`, shares from 0 to 1, or `psnr`, in dB.
        value: the figure.
        threshold: what it should be at least.
    """

    report: str
    figure: str
    value: float
    threshold: float


def missed_thresholds(sections: Sequence[ReportSection], options: ReportOptions) -> list[MissedThreshold]:
    """Return the thresholds that reports are under; pictures that all came back exactly are under none."""
    missed = []
    for section in sections:
        quality = section.report.quality
        figures = (
            ("used", section.report.used, options.least_usage),
            ("psnr", quality.psnr if quality else None, options.least_psnr),
            ("recognized_alike", quality.recognized_alike if quality else None, options.least_recognized),
        )
        for figure, value, threshold in figures:
            if value is not None and threshold is not None and value < threshold:
                missed.append(MissedThreshold(section.name, figure, value, threshold))
    return missed


def _of(section: ReportSection, sections: Sequence[ReportSection]) -> str:
    return f"{section.name}: " if len(sections) > 1 else ""


def write_reports(files: ReportFiles, sections: Sequence[ReportSection], *, command: str = "") -> None:
    """Write the table, the page and the picture that are named.

    Args:
        files: where to.
        sections: see `build_reports`.
        command: that makes the reports again, for the page.

    Raises:
        OutputError: a file cannot be written.
    """
    if files.csv is not None:
        text = reports_to_csv([(section.name, section.report) for section in sections])
        write_bytes(files.csv, text.encode("utf-8", "backslashreplace"))
    if files.html is not None:
        write_bytes(files.html, report_page(sections, command).encode())
    if files.codebook_picture is not None and sections[0].codes is not None:
        write_bytes(files.codebook_picture, sections[0].codes)
