"""The columns of a ranking: the same on the terminal and in the page."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tokenizer.compare.ranking import STEPS_TO_COMMON, ContestantRow, Ranking, SeedMean
from tokenizer.metrics import NO_FIGURE


@dataclass(frozen=True)
class RankingColumn:
    """One figure.

    Attributes:
        key: its name in `COMPARISON_DEFINITIONS`.
        title: above it.
        digits: after the decimal point.
        scale: what it is multiplied with first.
        spread: show that over seeds.
    """

    key: str
    title: str
    digits: int = 2
    scale: float = 1.0
    spread: bool = False

    def show(self, stat: SeedMean | None) -> str:
        """Return mean and spread, such as `23.80 ±0.05`."""
        if stat is None or stat.mean is None:
            return NO_FIGURE
        text = f"{self.scale * stat.mean:.{self.digits}f}"
        if not self.spread or stat.spread is None:
            return text
        return f"{text} ±{self.scale * stat.spread:.{self.digits}f}"


COLUMNS = (
    RankingColumn("psnr", "PSNR dB", spread=True),
    RankingColumn("ssim", "SSIM", 4, spread=True),
    RankingColumn("lite0_distance", "Lite0 distance", 4, spread=True),
    RankingColumn("lite0_frechet", "Lite0 Frechet", spread=True),
    RankingColumn("recognized_alike", "recognized alike %", 1, 100.0, spread=True),
    RankingColumn("flat_psnr", "flat dB"),
    RankingColumn("blocking", "blocking"),
    RankingColumn("patchwork", "patchwork"),
    RankingColumn("bits_per_pixel", "bits/px", 4),
    RankingColumn("used", "used %", 1, 100.0, spread=True),
    RankingColumn("perplexity", "perplexity", 1, spread=True),
    RankingColumn("effective_rank", "eff. rank", 2, spread=True),
    RankingColumn("reached", "reached %", 1, 100.0),
    RankingColumn("loss_steadiness", "steadiness", 3),
    RankingColumn(STEPS_TO_COMMON, "steps to common", 0),
    RankingColumn("seconds_per_step", "ms/step", 1, 1000.0),
    RankingColumn("cpu_seconds_per_step", "cpu ms/step", 1, 1000.0),
    RankingColumn("peak_memory_mb", "peak MB", 0),
)


def contestant_name(row: ContestantRow) -> str:
    """Return the row's label, with how many seeds finished where some did not."""
    if not row.failures:
        return row.label
    if row.kind == "failed":
        return f"{row.label} (failed)"
    return f"{row.label} ({len(row.results)} of {len(row.results) + len(row.failures)} seeds)"


def contestant_rank(row: ContestantRow) -> str:
    """Return the row's rank."""
    return NO_FIGURE if row.rank is None else str(row.rank)


def shown_columns(ranking: Ranking) -> list[RankingColumn]:
    """Return the columns in which some row has a figure; the title of the common PSNR names it."""
    return [
        replace(column, title=f"steps to {ranking.common_psnr:.2f} dB") if column.key == STEPS_TO_COMMON else column
        for column in COLUMNS
        if any(_cell(column, row) != NO_FIGURE for row in ranking.rows)
    ]


def _cell(column: RankingColumn, row: ContestantRow) -> str:
    return column.show(row.figures.get(column.key))


def ranking_rows(ranking: Ranking) -> list[tuple[str, ...]]:
    """Return the ranking as rows of cells, the titles first: rank, quantizer, and one cell for each shown column."""
    columns = shown_columns(ranking)
    titles = ("#", "quantizer", *(column.title for column in columns))
    rows = (
        (contestant_rank(row), contestant_name(row), *(_cell(column, row) for column in columns))
        for row in ranking.rows
    )
    return [titles, *rows]
