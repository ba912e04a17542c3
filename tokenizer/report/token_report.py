"""The report of token sets: one object with every figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenizer.errors import InputError
from tokenizer.metrics import DEFINITIONS, OverallUsage, Usage, overall_usage
from tokenizer.report.codebooks import CodebookReport
from tokenizer.report.quality import Quality
from tokenizer.report.rates import BitRate, ContextRate, context_rate
from tokenizer.report.stability import Stability
from tokenizer.report.streams import CurvePoint, StreamedTokens, stream_tokens
from tokenizer.report.usage import JointUse, PositionUse, SlotReport, joint_use, position_use, slot_report
from tokenizer.tokens import TokenSet

REPORT_VERSION = 3
_COUNTED = 2**27
_OF_QUALITY = (
    *("psnr", "ssim", "ms_ssim", "flat_psnr", "flat_share", "blocking", "patchwork", "lpips", "rfid"),
    *("lite0_distance", "lite0_frechet", "recognized_alike"),
)


@dataclass(frozen=True)
class Report:
    """Figures over a whole set of images; `metrics.DEFINITIONS` says what each is.

    With several codes per position, `used`, `dead` and `tokens` are over all slots together, `entropy_bits` is the
    mean over slots and `perplexity` 2 to its power.

    Attributes:
        images, failed: inputs with and without tokens.
        bits_per_pixel: as stored; None, as is `rate`, where some image does not say how it was fitted.
        slots: use of each of the C alphabets.
        joint: use of the combinations of C codes; None where C is 1.
        curve: use of all slots together over the tokens, in the order of the files.
        positions: use by position; None for several grids or fewer than 100 images.
        context: code lengths of a coder with and without context; None for fewer than two images.
        codebooks: one for each table of codes of the model, none without a model or a table.
        quality, stability: where they were measured.
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
    joint: JointUse | None
    curve: tuple[CurvePoint, ...]
    positions: PositionUse | None
    context: ContextRate | None
    rate: BitRate | None
    codebooks: tuple[CodebookReport, ...] = ()
    quality: Quality | None = None
    stability: Stability | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, no NaN or infinity among them, with the definition of each figure.

        The keys are the attributes, nested as they are, and `version`. Where there is `quality`, its figures stand
        beside them too. `definitions` defines every figure that is there, by its name.
        """
        values = {"version": REPORT_VERSION, **asdict(self)}
        if self.quality:
            values |= {key: values["quality"][key] for key in _OF_QUALITY}
        names = set(_names(values))
        return {**values, "definitions": {key: text for key, text in DEFINITIONS.items() if key in names}}


def _names(values: Any) -> Iterator[str]:
    """Yield the keys of nested values."""
    if isinstance(values, dict):
        yield from values
        values = tuple(values.values())
    if isinstance(values, tuple):
        for value in values:
            yield from _names(value)


def usage_report(
    sets: Sequence[TokenSet],
    sizes: tuple[int, ...],
    top_k: int,
    quality: Quality | None = None,
    names: Sequence[str] = (),
    *,
    codebooks: Sequence[CodebookReport] = (),
    stability: Stability | None = None,
) -> Report:
    """Return the report of token sets that share the alphabets `sizes`, after one pass over their tokens.

    Memory grows with the alphabets, not with the tokens: context and positions are measured on a sample.

    Args:
        sets: tokens of any number of files.
        sizes: alphabet size of each of the C codes per position.
        top_k: how many of the most used codes to name.
        quality: of the decoded pictures, when it was measured.
        names: what the sets are called in messages.
        codebooks: of the model, see `codebook_reports`.
        stability: of the tokens, when it was measured.

    Raises:
        TokenFileError: a token lies outside its alphabet, or there are not C codes per position.
        InputError: the alphabets are too large to count.
    """
    if sum(sizes) > _COUNTED:
        raise InputError(f"there are {sum(sizes)} codes to count, at most {_COUNTED} fit into memory")
    streamed = stream_tokens(sets, sizes, names)
    usages = [Usage(count) for count in streamed.counts.slots]
    together = overall_usage(usages)
    context = context_rate(streamed.sample, sizes)
    rate = _rate(streamed, sizes, together, context)
    return Report(
        images=streamed.images,
        failed=streamed.failed,
        tokens=streamed.counts.positions * len(sizes),
        codes_per_position=len(sizes),
        used=together.used,
        dead=together.dead,
        perplexity=together.perplexity,
        entropy_bits=together.entropy_bits,
        bits_per_pixel=rate.stored if rate else None,
        slots=tuple(slot_report(usage, top_k) for usage in usages),
        joint=joint_use(streamed.combinations, sizes) if streamed.combinations else None,
        curve=streamed.counts.whole_curve(),
        positions=position_use(streamed),
        context=context,
        rate=rate,
        codebooks=tuple(codebooks),
        quality=quality,
        stability=stability,
    )


def _rate(
    streamed: StreamedTokens, sizes: Sequence[int], together: OverallUsage, context: ContextRate | None
) -> BitRate | None:
    if not streamed.pixels:
        return None
    per_pixel = streamed.counts.positions / streamed.pixels
    return BitRate(
        stored=per_pixel * sum(map(math.log2, sizes)),
        entropy=per_pixel * len(sizes) * together.entropy_bits,
        context=per_pixel * len(sizes) * context.context_bits if context else None,
    )
