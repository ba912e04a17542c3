"""Plots on light and on dark."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.test_floors import ROOT
from tokenizer.html import DARK, LIGHT, Ink, make_plot, new_figure, style_axes

GUARDED = sorted(
    file for folder in ("pages", "compare", "evaluate") for file in (ROOT / "tokenizer" / folder).glob("*.py")
)


def line(ink: Ink) -> object:
    drawn = new_figure(3, 2, ink)
    axes = drawn.subplots()
    axes.plot([0, 1], [0, 1], color=ink.lines[0])
    style_axes(axes, ink, "title", "x", "y")
    return drawn


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`, as WCAG 2 defines it."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def test_both_schemes_are_drawn_without_touching_settings() -> None:
    before = dict(mpl.rcParams)
    made = make_plot(line, "a line")  # type: ignore[arg-type]
    assert dict(mpl.rcParams) == before
    for data, ink in ((made.light, LIGHT), (made.dark, DARK)):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("PNG", (450, 300))
            corner = image.convert("RGB").getpixel((0, 0))
        assert corner == tuple(int(ink.paper[start : start + 2], 16) for start in (1, 3, 5))
    assert make_plot(line, "a line") == made, "equal plots are equal bytes"  # type: ignore[arg-type]


@pytest.mark.parametrize("ink", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_can_be_told_from_the_paper(ink: Ink) -> None:
    """Contrast of WCAG 2: 4.5 for text; 2 for lines, as the last colors of the color-blind's palette are light."""

    def contrast(color: str) -> float:
        low, high = sorted((luminance(color), luminance(ink.paper)))
        return (high + 0.05) / (low + 0.05)

    assert contrast(ink.text) > 4.5
    assert all(contrast(color) > 2 for color in ink.lines)


@pytest.mark.parametrize("file", GUARDED, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_drawing_is_loaded_when_it_is_needed(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    guarded = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    named = {alias.name for node in guarded for alias in node.names} | {getattr(node, "module", "") for node in guarded}
    assert not {name.split(".")[0] for name in named} & {"matplotlib", "jinja2", "markupsafe"}
    assert "pyplot" not in file.read_text("utf-8")
