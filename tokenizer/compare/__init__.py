"""Comparing quantizers: `prepare_comparison` makes the entries, `run_comparison` trains, ranks and writes them."""

from __future__ import annotations

from tokenizer.compare.columns import RankingColumn, ranking_rows, shown_columns
from tokenizer.compare.comparison import (
    RUNS_FOLDER,
    Comparison,
    Entry,
    parse_quantizers,
    parse_seeds,
    prepare_comparison,
)
from tokenizer.compare.comparison_html import comparison_page
from tokenizer.compare.comparison_report import COMPARISON_FILE, COMPARISON_VERSION, ComparisonReport
from tokenizer.compare.comparison_run import (
    EntryBegun,
    EntryEvent,
    EntryFailed,
    EntryFinished,
    EntryKept,
    EntryStep,
    check_comparison_outputs,
    run_comparison,
    write_comparison,
)
from tokenizer.compare.entry import clear_entries, finished_entries, result_of_entry, train_entry
from tokenizer.compare.entry_result import EntryResult, read_result
from tokenizer.compare.gallery import ComparisonGallery, draw_gallery
from tokenizer.compare.measures import COMPARISON_DEFINITIONS
from tokenizer.compare.ranking import FailedEntry, Ranking, rank_entries

__all__ = [
    "COMPARISON_DEFINITIONS",
    "COMPARISON_FILE",
    "COMPARISON_VERSION",
    "RUNS_FOLDER",
    "Comparison",
    "ComparisonGallery",
    "ComparisonReport",
    "Entry",
    "EntryBegun",
    "EntryEvent",
    "EntryFailed",
    "EntryFinished",
    "EntryKept",
    "EntryResult",
    "EntryStep",
    "FailedEntry",
    "Ranking",
    "RankingColumn",
    "check_comparison_outputs",
    "clear_entries",
    "comparison_page",
    "draw_gallery",
    "finished_entries",
    "parse_quantizers",
    "parse_seeds",
    "prepare_comparison",
    "rank_entries",
    "ranking_rows",
    "read_result",
    "result_of_entry",
    "run_comparison",
    "shown_columns",
    "train_entry",
    "write_comparison",
]
