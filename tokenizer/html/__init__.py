"""HTML pages that need nothing beside them, for `vqtok report` and `vqtok compare`."""

from __future__ import annotations

from tokenizer.html.pairs import PAIRS_NOTE, PicturePair, make_pair
from tokenizer.html.plots import DARK, DPI, LIGHT, Ink, Plot, make_plot, new_figure, style_axes
from tokenizer.html.render import render_page

__all__ = [
    "DARK",
    "DPI",
    "LIGHT",
    "PAIRS_NOTE",
    "Ink",
    "PicturePair",
    "Plot",
    "make_pair",
    "make_plot",
    "new_figure",
    "render_page",
    "style_axes",
]
