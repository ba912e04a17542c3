"""Comparing quantizers: `prepare` makes the entries, `run` trains one, `make_table` ranks what they leave."""

from __future__ import annotations

from tokenizer.compare.columns import ranking_rows, shown_columns
from tokenizer.compare.comparison import Comparison, Entry, prepare_comparison, single_methods
from tokenizer.compare.comparison_page import comparison_page
from tokenizer.compare.document import ComparisonReport
from tokenizer.compare.entry import clear_entries, finished_entries, free_memory, result_of, train_entry
from tokenizer.compare.gallery import draw_gallery
from tokenizer.compare.measures import DEFINITIONS
from tokenizer.compare.ranking import FailedEntry, Ranking, rank_entries
from tokenizer.compare.record import EntryResult

__all__ = [
    "DEFINITIONS",
    "Comparison",
    "ComparisonReport",
    "Entry",
    "EntryResult",
    "FailedEntry",
    "Ranking",
    "clear_entries",
    "comparison_page",
    "draw_gallery",
    "finished_entries",
    "free_memory",
    "prepare_comparison",
    "rank_entries",
    "ranking_rows",
    "result_of",
    "shown_columns",
    "single_methods",
    "train_entry",
]
