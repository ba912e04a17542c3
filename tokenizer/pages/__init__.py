"""HTML pages that need nothing beside them, for `vqtok report` and `vqtok compare`."""

from tokenizer.pages.pairs import Pair, pair
from tokenizer.pages.plots import DARK, LIGHT, Ink, Plot, plot
from tokenizer.pages.render import render

__all__ = ["DARK", "LIGHT", "Ink", "Pair", "Plot", "pair", "plot", "render"]
