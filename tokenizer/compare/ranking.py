"""The ranking: means and spreads of each contestant over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from tokenizer.compare.entry_result import EntryResult

SOFT = "soft (not decodable from tokens)"
STEPS_TO_COMMON = "steps_to_common"


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds, and the standard deviation (n - 1); None for one seed, or where some seed has no value."""

    mean: float | None
    spread: float | None = None


@dataclass(frozen=True)
class FailedEntry:
    """An entry that could not finish, and why."""

    label: str
    seed: int
    reason: str


@dataclass(frozen=True)
class ContestantRow:
    """One contestant over its seeds.

    Attributes:
        label: the quantizer on one line.
        kind: `ranked`; `soft`, pictures that no tokens hold; or `failed`, without a finished seed.
        rank: 1 for the highest mean PSNR; None where it is not ranked.
        figures: means and spreads over the finished seeds.
        results: of the finished seeds.
        failures: of the others.
    """

    label: str
    kind: Literal["ranked", "soft", "failed"]
    rank: int | None = None
    figures: Mapping[str, SeedMean] = field(default_factory=dict)
    results: tuple[EntryResult, ...] = ()
    failures: tuple[FailedEntry, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """All contestants: ranked ones by rank, then those without a finished seed, then soft ones.

    Attributes:
        rows: in that order.
        common_psnr: lowest mean PSNR of the ranked, in dB.
    """

    rows: tuple[ContestantRow, ...]
    common_psnr: float | None

    @property
    def ranked(self) -> list[ContestantRow]:
        """The rows with a rank."""
        return [row for row in self.rows if row.kind == "ranked"]


def rank_entries(labels: Sequence[str], results: Sequence[EntryResult], failures: Sequence[FailedEntry]) -> Ranking:
    """Return the ranking of the contestants `labels`, from the results and failures of their entries."""
    rows = [_row(label, results, failures) for label in labels]
    means = [row.figures["psnr"].mean for row in rows if row.kind == "ranked"]
    common = min((mean for mean in means if mean is not None), default=None)
    best_first = sorted((row for row in rows if row.kind == "ranked"), key=_by_psnr)
    ranked = [_placed(row, rank, common) for rank, row in enumerate(best_first, 1)]
    soft = [made for row in ranked if (made := _soft(row)) is not None]
    return Ranking((*ranked, *(row for row in rows if row.kind == "failed"), *soft), common)


def seed_mean(values: Sequence[float | None]) -> SeedMean:
    """Return mean and spread of one value for each seed."""
    present = [value for value in values if value is not None]
    if not present or len(present) < len(values):
        return SeedMean(None)
    return SeedMean(statistics.fmean(present), statistics.stdev(present) if len(present) > 1 else None)


def _row(label: str, results: Sequence[EntryResult], failures: Sequence[FailedEntry]) -> ContestantRow:
    own = tuple(result for result in results if result.quantizer == label)
    lost = tuple(failure for failure in failures if failure.label == label)
    if not own:
        return ContestantRow(label, "failed", failures=lost)
    each = [asdict(result.figures) for result in own]
    figures = {name: seed_mean([values[name] for values in each]) for name in each[0]}
    return ContestantRow(label, "ranked", None, figures, own, lost)


def _by_psnr(row: ContestantRow) -> float:
    mean = row.figures["psnr"].mean
    return -math.inf if mean is None else -mean  # no figure: every picture came back exactly


def _placed(row: ContestantRow, rank: int, common: float | None) -> ContestantRow:
    steps = first_step_reaching([result.curves.psnr for result in row.results], common) if common is not None else None
    return ContestantRow(
        row.label, row.kind, rank, {**row.figures, STEPS_TO_COMMON: SeedMean(steps)}, row.results, row.failures
    )


def _soft(row: ContestantRow) -> ContestantRow | None:
    soft = [result.soft for result in row.results if result.soft is not None]
    if not soft:
        return None
    figures = {"psnr": seed_mean([one.psnr for one in soft]), "ssim": seed_mean([one.ssim for one in soft])}
    return ContestantRow(f"{row.label}, {SOFT}", "soft", None, figures, row.results)


def mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """Return the mean of (step, value) curves, at all their steps that all of them span; linear in between."""
    if not curves or not all(curves):
        return []
    first, last = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    steps = sorted({step for curve in curves for step, _ in curve if first <= step <= last})
    columns = [tuple(zip(*curve, strict=True)) for curve in curves]
    values = np.mean([np.interp(steps, column[0], column[1]) for column in columns], axis=0)
    return list(zip(steps, values.tolist(), strict=True))


def first_step_reaching(curves: Sequence[Sequence[Sequence[float]]], level: float) -> float | None:
    """Return the first step at which the mean curve reaches `level`; None where it does not."""
    before: tuple[float, float] | None = None
    for step, value in mean_curve(curves):
        # The mean of means may miss itself by a rounding.
        if value >= level - 1e-9:
            if before is None:
                return step
            share = min(1.0, (level - before[1]) / (value - before[1]))
            return before[0] + share * (step - before[0])
        before = step, value
    return None
