"""The comparison as one HTML file that needs nothing beside it: no network, no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizer.compare.charts import has_bands
from tokenizer.compare.columns import RankingColumn, contestant_name, contestant_rank, shown_columns
from tokenizer.compare.comparison_report import ComparisonReport
from tokenizer.compare.gallery import ComparisonGallery
from tokenizer.compare.measures import COMPARISON_DEFINITIONS
from tokenizer.compare.ranking import STEPS_TO_COMMON, ContestantRow, SeedMean
from tokenizer.html import PAIRS_NOTE, render_page

_TEMPLATE = Path(__file__).with_name("comparison.html")
# Not marked are a rate, what other work on the machine changes, and what earlier entries leave in memory.
_LOW_IS_BEST = ("patchwork", "loss_steadiness", STEPS_TO_COMMON, "cpu_seconds_per_step")
_HIGH_IS_BEST = ("psnr", "ssim", "flat_psnr", "used", "perplexity", "effective_rank")


def comparison_page(report: ComparisonReport, gallery: ComparisonGallery) -> str:
    """Return the HTML of a comparison with its pictures."""
    ranking = report.ranking
    shown = shown_columns(ranking)
    return render_page(
        _TEMPLATE,
        "Quantizers compared",
        summary=_summary(report),
        columns=shown,
        definitions=COMPARISON_DEFINITIONS,
        banded=has_bands(ranking),
        rows=[_row(row, shown, _bests(report)) for row in ranking.rows],
        entries=list(_entries(report, shown)),
        remarks=report.remarks(),
        gallery=gallery,
        stored=PAIRS_NOTE,
        command=report.command,
        facts=list(_facts(report)),
    )


def _summary(report: ComparisonReport) -> str:
    comparison = report.comparison
    plan, count = comparison.entries[0].plan, len(comparison.labels)
    config = plan.config
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    seeds = f"{len(comparison.seeds)} seeds" if len(comparison.seeds) > 1 else "one seed"
    spread = "; a ± is the standard deviation over seeds" if len(comparison.seeds) > 1 else ""
    kind = "of them" if plan.overlap else "validation images"
    return (
        f"{count} quantizers, each trained for {budget} with {seeds} on {len(plan.train)} images, and compared on "
        f"{len(plan.validation)} {kind}: same network, same crops in the same order, pictures decoded from the tokens "
        f"alone. Ranked by mean PSNR{spread}."
    )


def _bests(report: ComparisonReport) -> dict[str, float]:
    """Return the best mean of each figure that has a better end."""
    found: dict[str, float] = {}
    for keys, choose in ((_HIGH_IS_BEST, max), (_LOW_IS_BEST, min)):
        for key in keys:
            means = [row.figures[key].mean for row in report.ranking.ranked if key in row.figures]
            present = [mean for mean in means if mean is not None]
            if len(present) > 1:
                found[key] = choose(present)
    return found


def _row(row: ContestantRow, shown: list[RankingColumn], bests: Mapping[str, float]) -> dict[str, Any]:
    cells = []
    for column in shown:
        stat = row.figures.get(column.key)
        mean = stat.mean if stat else None
        text, _, spread = column.show(stat).partition(" ±")
        cells.append(
            {
                "text": text,
                "spread": f"±{spread}" if spread else "",
                "value": "" if mean is None else mean,
                "best": row.kind == "ranked" and mean is not None and mean == bests.get(column.key),
            }
        )
    return {"place": contestant_rank(row), "name": contestant_name(row), "cells": cells, "aside": row.kind != "ranked"}


def _entries(report: ComparisonReport, shown: list[RankingColumn]) -> Iterator[dict[str, Any]]:
    for row in report.ranking.ranked:
        for result in row.results:
            numbers = [str(result.seed), str(result.steps), f"{result.seconds:.0f}"]
            figures = [
                column.show(SeedMean(getattr(result.figures, column.key)))
                for column in shown
                if column.key != STEPS_TO_COMMON
            ]
            yield {"name": row.label, "cells": numbers + figures}


def _facts(report: ComparisonReport) -> Iterator[tuple[str, str]]:
    for machine in report.machines():
        yield from ((key, str(value)) for key, value in machine.items())
    yield "seeds", ", ".join(map(str, report.comparison.seeds))
    for key, value in report.settings().items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", str(item)) for name, item in value.items())
        elif value is not None:
            yield key, str(value)
