"""How the table's figures are shown: the same on the terminal and in the page."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tokenizer.compare.ranking import STEPS_TO_COMMON, ContestantRow, Ranking, Stat

NOTHING = "-"


@dataclass(frozen=True)
class Column:
    """One figure.

    Attributes:
        key: its name in `DEFINITIONS`.
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

    def show(self, stat: Stat | None) -> str:
        """Return mean and spread, such as `23.80 ±0.05`."""
        if stat is None or stat.mean is None:
            return NOTHING
        text = f"{self.scale * stat.mean:.{self.digits}f}"
        if not self.spread or stat.spread is None:
            return text
        return f"{text} ±{self.scale * stat.spread:.{self.digits}f}"


COLUMNS = (
    Column("psnr", "PSNR dB", spread=True),
    Column("ssim", "SSIM", 4, spread=True),
    Column("bits_per_pixel", "bits/px", 4),
    Column("used", "used %", 1, 100.0, spread=True),
    Column("perplexity", "perplexity", 1, spread=True),
    Column("effective_rank", "eff. rank", 2, spread=True),
    Column("reached", "reached %", 1, 100.0),
    Column("loss_steadiness", "steadiness", 3),
    Column(STEPS_TO_COMMON, "steps to common", 0),
    Column("seconds_per_step", "ms/step", 1, 1000.0),
    Column("cpu_seconds_per_step", "cpu ms/step", 1, 1000.0),
    Column("peak_memory_mb", "peak MB", 0),
)


def row_name(row: ContestantRow) -> str:
    """Return the row's label, with how many seeds finished where some did not."""
    if not row.failures:
        return row.label
    if row.kind == "failed":
        return f"{row.label} (failed)"
    return f"{row.label} ({len(row.results)} of {len(row.results) + len(row.failures)} seeds)"


def row_rank(row: ContestantRow) -> str:
    """Return the row's rank."""
    return NOTHING if row.rank is None else str(row.rank)


def shown_columns(table: Ranking) -> list[Column]:
    """Return the columns in which some row has a figure; the title of the common PSNR names it."""
    return [
        replace(column, title=f"steps to {table.common_psnr:.2f} dB") if column.key == STEPS_TO_COMMON else column
        for column in COLUMNS
        if any(_cell(column, row) != NOTHING for row in table.rows)
    ]


def _cell(column: Column, row: ContestantRow) -> str:
    return column.show(row.figures.get(column.key))


def ranking_rows(table: Ranking) -> list[tuple[str, ...]]:
    """Return the table as rows of aligned text, titles first."""
    columns = shown_columns(table)
    rows = [("#", "quantizer", *(column.title for column in columns))]
    rows += [(row_rank(row), row_name(row), *(_cell(column, row) for column in columns)) for row in table.rows]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    # Words begin together, numbers end together.
    return [
        tuple(c.ljust(w) if number == 1 else c.rjust(w) for number, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
