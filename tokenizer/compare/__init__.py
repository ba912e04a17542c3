"""Comparing quantizers: `prepare` makes the entries, `run` trains one, `make_table` ranks what they leave."""

from tokenizer.compare.columns import shown, text
from tokenizer.compare.contest import Contest, Entry, everyone, prepare
from tokenizer.compare.document import Comparison
from tokenizer.compare.entry import clear, finished, free_memory, result_of, run
from tokenizer.compare.figures import DEFINITIONS
from tokenizer.compare.gallery import draw
from tokenizer.compare.page import page
from tokenizer.compare.record import Result
from tokenizer.compare.table import Failure, Table, make_table

__all__ = [
    "DEFINITIONS",
    "Comparison",
    "Contest",
    "Entry",
    "Failure",
    "Result",
    "Table",
    "clear",
    "draw",
    "everyone",
    "finished",
    "free_memory",
    "make_table",
    "page",
    "prepare",
    "result_of",
    "run",
    "shown",
    "text",
]
