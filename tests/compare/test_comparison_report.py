"""What is written of a comparison: JSON, CSV, pictures, the page."""

from __future__ import annotations

import csv
import dataclasses
import html
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.compare.conftest import made
from tests.conftest import draw
from tokenizer.compare import (
    COMPARISON_DEFINITIONS,
    Comparison,
    ComparisonReport,
    EntryResult,
    FailedEntry,
    comparison_page,
    draw_gallery,
    rank_entries,
    write_comparison,
)
from tokenizer.compare.charts import draw_curves, draw_reconstructions, has_bands
from tokenizer.compare.measures import SoftFigures

Finished = tuple[Comparison, list[EntryResult]]


@pytest.fixture
def comparison(finished: Finished) -> ComparisonReport:
    comparison, results = finished
    return ComparisonReport(comparison, rank_entries(comparison.labels, results, []), "vqtok compare 'a b'")


def test_json_holds_everything(comparison: ComparisonReport, finished: Finished) -> None:
    values = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert values["version"] == 2
    assert sorted(values["ranking"]) == ["ema", "gumbel"]
    assert values["seeds"] == [0, 4]
    assert values["images"] == {"train": 20, "validation": 4, "seen_in_training": False}
    assert values["settings"]["steps"] == 12
    assert not {"quantizer", "seed"} & set(values["settings"])
    assert values["definitions"] == COMPARISON_DEFINITIONS
    assert {"torch", "device", "processor"} <= set(values["machines"][0])
    first, second, soft = values["contestants"]
    assert [one["rank"] for one in values["contestants"]] == [1, 2, None]
    assert set(first["figures"]) == set(COMPARISON_DEFINITIONS)
    assert first["spec"]["codebook_size"] == 32
    assert (first["codebook_sizes"], first["latent_dim"]) == ([32], 4)
    for one in (first, second):
        assert [entry["seed"] for entry in one["entries"]] == [0, 4]
        psnr = [entry["figures"]["psnr"] for entry in one["entries"]]
        assert one["figures"]["psnr"] == {
            "mean": pytest.approx(np.mean(psnr)),
            "spread": pytest.approx(np.std(psnr, ddof=1)),
        }
    assert first["figures"]["psnr"]["mean"] >= second["figures"]["psnr"]["mean"] >= values["common_psnr"]
    assert (soft["kind"], soft["entries"], set(soft["figures"])) == ("soft", [], {"psnr", "ssim"})
    assert "bits_per_pixel" not in soft["figures"]


def test_csv_has_a_line_for_each_contestant(comparison: ComparisonReport) -> None:
    header, *lines = csv.reader(io.StringIO(comparison.to_csv()))
    assert header[:6] == ["rank", "quantizer", "kind", "seeds", "psnr", "psnr_spread"]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert rows[0]["seeds"] == "0 4"
    assert float(rows[0]["psnr"]) == comparison.ranking.rows[0].figures["psnr"].mean
    assert rows[2]["kind"] == "soft"
    assert rows[2]["bits_per_pixel"] == ""


def test_remarks_name_what_a_reader_must_know(finished: Finished) -> None:
    comparison, _ = finished
    comparison = dataclasses.replace(comparison, notes={"all of you": comparison.labels, "wide": ("ema",)})
    few = dataclasses.replace(made("ema", 0, 20.0, tokens=639), skipped=2)
    other = dataclasses.replace(made("gumbel", 0, 20.0, tokens=640), machine={"torch": "3"})
    table = rank_entries(comparison.labels, [few, other], [FailedEntry("gumbel", 4, "no memory")])
    assert ComparisonReport(comparison, table, "").remarks() == [
        "all of you",
        "ema: wide",
        "gumbel with seed 4 failed: no memory",
        "ema with seed 0: 2 steps had no finite gradient",
        "fewer than 20 validation tokens a code of ema: used and perplexity are low for that alone",
        "the entries ran on several machines: times and memory cannot be compared",
    ]


@pytest.mark.slow
def test_pictures_lie_beside_the_entries(comparison: ComparisonReport) -> None:
    gallery = draw_gallery(comparison.comparison, comparison.ranking)
    folder = comparison.comparison.folder
    assert write_comparison(comparison) == folder / "comparison.json"
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(json.dumps(comparison.to_json()))
    assert (folder / "curves.png").read_bytes() == gallery.curves.light
    assert (folder / "reconstructions.png").read_bytes() == gallery.reconstructions.light
    with Image.open(io.BytesIO(gallery.reconstructions.light)) as sheet:
        # Three rows and four columns of cells of 256 pixels, and the labels.
        assert 3 * 256 < sheet.height < 3 * 280
        assert 4 * 256 + 100 < sheet.width < 4 * 280 + 600
    assert [label for label, _ in gallery.pairs] == [f"{row.rank}  {row.label}" for row in comparison.ranking.ranked]
    assert [len(pairs) for _, pairs in gallery.pairs] == [4, 4]


def test_a_sheet_shows_the_pictures_where_they_belong() -> None:
    flat = [np.full((64, 64, 3), color, np.uint8) for color in ((200, 30, 30), (30, 200, 30))]
    other = [np.full((32, 32, 3), color, np.uint8) for color in ((30, 30, 200), (200, 200, 30))]
    with Image.open(io.BytesIO(draw_reconstructions(flat, [("1  a\n20 dB", other)]).light)) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    for row, wanted in ((0.25, flat), (0.75, other)):
        line = pixels[round(row * height)]
        for column, picture in ((width - 140 - 265, wanted[0]), (width - 140, wanted[1])):
            assert np.abs(line[column] - picture[0, 0]).max() <= 1
    assert (pixels[:, 60:120] < 100).any(), "the labels"


@pytest.mark.slow
def test_curves_of_many_contestants_keep_room(finished: Finished) -> None:
    labels = [f"{'long-' * (number % 4)}name{number}" for number in range(16)]
    table = rank_entries(labels, [made(label, seed, 20.0) for label in labels for seed in (0, 1)], [])
    assert not has_bands(table)
    with Image.open(io.BytesIO(draw_curves(table).light)) as many:
        tall = many.height
    few = rank_entries(labels[:1], [made(labels[0], seed, 20.0) for seed in (0, 1)], [])
    assert has_bands(few)
    with Image.open(io.BytesIO(draw_curves(few).light)) as one:
        assert tall > one.height + 200
    assert draw_curves(rank_entries(["a"], [made("a", 0, 20.0, curve=())], []))


class Reader(html.parser.HTMLParser):
    """Notes what a page refers to, and its table."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "srcset", "href", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "img", "link", "br", "source", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.mark.slow
def test_the_page_needs_nothing_beside_it(comparison: ComparisonReport) -> None:
    text = comparison_page(comparison, draw_gallery(comparison.comparison, comparison.ranking))
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.addresses) == 1 + 2 * 2 + 2 * 8, "an icon, two plots in two inks, and eight pairs"
    assert all(address.startswith("data:") for address in reader.addresses)
    assert not re.search(r"https?://|@import|url\(", text)
    assert [row[1] for row in reader.rows[:4]] == ["quantizer", *(row.label for row in comparison.ranking.rows)]
    best = comparison.ranking.rows[0].figures["psnr"]
    assert reader.rows[1][2] == f"{best.mean:.2f} ±{best.spread:.2f}"
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    for definition in (COMPARISON_DEFINITIONS["psnr"], COMPARISON_DEFINITIONS["reached"]):
        assert f"<dd>{html.escape(definition)}</dd>" in text
    assert "<pre>vqtok compare &#39;a b&#39;</pre>" in text
    assert len(reader.rows) == 4 + 1 + 4
    assert '<tr class="aside">' in text


def test_the_page_escapes_what_others_wrote(finished: Finished) -> None:
    comparison, _ = finished
    evil = "</td><script>alert(1)</script>"
    soft = SoftFigures(1.0, 0.1)
    table = rank_entries([evil], [made(evil, 0, 20.0, soft=soft)], [FailedEntry(evil, 1, evil)])
    gallery = draw_gallery(comparison, rank_entries([], [], []))
    text = comparison_page(ComparisonReport(comparison, table, evil), gallery)
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in text


def test_drawing_leaves_settings_as_they_were(finished: Finished) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw_curves(rank_entries(["a"], [made("a", 0, 20.0)], []))
    draw_reconstructions([draw(16, 16)], [])
    assert dict(mpl.rcParams) == before
