"""Rows, lines, CSV and the page of reports; pictures collected for it."""

from __future__ import annotations

import csv
import html
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from tests.conftest import draw
from tokenizer.html import PicturePair
from tokenizer.images import placement_of
from tokenizer.metrics import NO_FIGURE
from tokenizer.report import (
    Baseline,
    ExtremePairs,
    ImageQuality,
    Quality,
    Report,
    ReportSection,
    Stability,
    TokenChange,
    figure_lines,
    report_page,
    reports_to_csv,
    usage_report,
)
from tokenizer.report.figures import flat_figures, report_figures
from tokenizer.report.report_html import MOST_ROWS
from tokenizer.report.report_plots import report_plots
from tokenizer.tokens import Header, ImageRecord, TokenSet


def report(
    sizes: tuple[int, ...] = (4,),
    images: int = 2,
    quality: Quality | None = None,
    stability: Stability | None = None,
) -> Report:
    """Figures of grids of 2 x 3 positions, all codes of every slot used in turn."""
    records = [
        ImageRecord(f"{number}.png", (2, 3), placement_of((16, 24), "none", None, 8)) for number in range(images)
    ]
    codes = np.stack([np.arange(images * 6).reshape(images, 2, 3) % size for size in sizes], axis=-1)
    tokens = TokenSet(Header("f" * 64, sizes, 8), records, codes)
    return usage_report([tokens], sizes, 2, quality, stability=stability)


def quality(*psnr: float | None, baselines: tuple[Baseline, ...] = ()) -> Quality:
    images = tuple(ImageQuality(f"{number}.png", value, 0.5, None) for number, value in enumerate(psnr))
    finite = [value for value in psnr if value is not None]
    mean = sum(finite) / len(finite) if finite else None
    return Quality(mean, 0.5, len(psnr) - len(finite), images, (), baselines=baselines)


def texts(made: Report) -> dict[str, str]:
    return {row.title: row.text for row in report_figures(made)}


def test_rows_of_one_slot() -> None:
    shown = texts(report())
    assert (shown["images"], shown["tokens"], shown["codebook"]) == ("2", "12", "4")
    assert (shown["used"], shown["dead"], shown["perplexity"]) == ("100.00 %", "0", "4.0")
    assert shown["entropy"] == "2.000 bits per code"
    assert shown["top 1 % of codes"] == "25.00 % of tokens"
    assert shown["rate as stored"] == f"{12 * 2 / (2 * 16 * 24):.4f} bits per pixel"
    assert not {"failed", "Zipf exponent", "combinations", "PSNR", "exact"} & set(shown)


def test_rows_of_several_slots() -> None:
    shown = texts(report((2, 3)))
    assert shown["codebook"] == "2 x 3"
    assert shown["code 1"] == "100.0 % used, perplexity 3.0"
    assert (shown["combinations"], shown["possible"]) == ("6", "6")
    assert shown["joint entropy"] == f"{math.log2(6):.3f} bits per position"
    assert "top 1 % of codes" not in shown


def test_rows_of_pictures_and_stability() -> None:
    baselines = (
        Baseline("JPEG", 0.2, 21.0, 0.6, reached=False, larger=1, images=3),
        Baseline("WebP", 0.1, 25.0, None, reached=True, larger=0, images=3),
    )
    stability = Stability(3, (TokenChange("none", "a control", 0.0, None), TokenChange("noise", "some", 0.125, 30.0)))
    shown = texts(report(quality=quality(20.0, None, baselines=baselines), stability=stability))
    assert (shown["PSNR"], shown["exact"], shown["SSIM"]) == ("20.00 dB", "1 images", "0.5000")
    assert shown["JPEG"] == "21.00 dB, SSIM 0.6000 at 0.2000 bits per pixel, more than the tokens need for 1 of 3"
    assert shown["WebP"] == "25.00 dB at 0.1000 bits per pixel"
    assert shown["none"] == "0.00 % of tokens change"
    assert shown["noise"] == "12.50 % of tokens change, pictures by 30.00 dB"


def test_an_empty_set_has_rows_and_a_page() -> None:
    empty = report(images=0)
    assert texts(empty)["used"] == "0.00 %"
    assert "<h1>Report: none</h1>" in report_page([ReportSection("none", empty)], "")
    assert report_plots([("none", empty)]) == []


def test_lines_side_by_side() -> None:
    shown = {line.title: line for line in figure_lines([("a", report()), ("b", report((2, 3), quality=quality(20.0)))])}
    assert shown["codebook"].cells == ("4", "2 x 3")
    assert shown["PSNR"].cells == (NO_FIGURE, "20.00 dB")
    assert shown["top 1 % of codes"].cells[1] == NO_FIGURE
    assert shown["perplexity"].about.startswith("2 ** entropy_bits")
    groups = [line.group for line in shown.values()]
    assert len(list(dict.fromkeys(groups))) == sum(a != b for a, b in zip(groups, [None, *groups], strict=False))


def test_csv_holds_every_single_figure() -> None:
    baselines = (Baseline("JPEG", 0.2, 21.0, 0.6, reached=False, larger=1, images=3),)
    stability = Stability(3, (TokenChange("shift_1", "moved", 0.5, 30.0, 0, (0.4, 0.6)),))
    made = [
        ("a", report()),
        ("b", report((2, 3), quality=quality(20.0, 22.0, baselines=baselines), stability=stability)),
    ]
    first, second = csv.DictReader(io.StringIO(reports_to_csv(made)))
    assert (first["name"], second["name"]) == ("a", "b")
    assert (float(first["used"]), float(second["psnr"])) == (1.0, 21.0)
    assert first["psnr"] == ""
    assert float(second["slot_1_perplexity"]) == pytest.approx(3)
    assert float(second["joint_distinct"]) == 6
    assert (float(second["jpeg_psnr"]), second["jpeg_reached"]) == (21.0, "False")
    assert (float(second["stability_shift_1_changed"]), float(second["stability_shift_1_slot_1_changed"])) == (0.5, 0.6)
    assert all(
        value is None or isinstance(value, (int, float, str)) for _, one in made for value in flat_figures(one).values()
    )


def collected(most: int, levels: list[int]) -> ExtremePairs:
    """A gallery that has met pictures whose error is each of the levels in turn."""
    gallery = ExtremePairs(most)
    for number, level in enumerate(levels):
        picture = np.full((8, 8, 3), 100, np.uint8)
        gallery.keep(f"{number}", picture, picture + np.uint8(level))
    return gallery


def names(pairs: list[PicturePair]) -> list[int]:
    return [int(views.name) for views in pairs]


def test_the_gallery_keeps_the_ends() -> None:
    random = np.random.default_rng(0)
    levels = random.permutation(100).tolist()
    gallery = collected(6, levels)
    order = np.argsort(levels).tolist()
    assert names(gallery.worst) == order[::-1][:3]
    assert names(gallery.best) == order[:3]
    assert gallery.best[0].note == "exact"
    assert gallery.worst[0].note == f"{10 * math.log10(255**2 / 99**2):.2f} dB"
    assert len({views.anchor for views in gallery.worst + gallery.best}) == 6


@pytest.mark.parametrize(("most", "worst", "best"), [(0, 0, 0), (1, 1, 0), (2, 1, 1), (4, 2, 1), (9, 3, 0)])
def test_few_pictures_are_shown_once(most: int, worst: int, best: int) -> None:
    gallery = collected(most, [5, 9, 7])
    assert names(gallery.worst) == [1, 2, 0][:worst]
    assert names(gallery.best) == [0, 2, 1][:best]


def test_very_many_images_are_cut_in_the_table() -> None:
    many = report(quality=quality(*[float(number) for number in range(MOST_ROWS + 100)], None))
    text = report_page([ReportSection("many", many)], "")
    shown = [int(name) for name in re.findall(r'data-value="(\d+).png"', text)]
    half = MOST_ROWS // 2
    assert shown == [*range(half), *range(half + 101, MOST_ROWS + 101)]
    assert f"of {MOST_ROWS + 101}; --json has all" in text


def test_the_page_says_what_the_figures_mean() -> None:
    stability = Stability(3, (TokenChange("noise", "some & more", 0.125, 30.0),))
    codes = io.BytesIO()
    Image.fromarray(draw(16, 16)).save(codes, "PNG")
    made = report(quality=quality(20.0), stability=stability)
    text = report_page([ReportSection("a<b", made, codes=codes.getvalue())], "vqtok report 'x y'")
    for definition in made.to_json()["definitions"].values():
        assert f"<dd>{html.escape(definition)}</dd>".replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in text
    assert "<h1>Report: a&lt;b</h1>" in text
    assert "<pre>vqtok report &#39;x y&#39;</pre>" in text
    assert "some &amp; more" in text
    assert "<h2>Codes</h2>" in text


def test_pages_of_several_name_each() -> None:
    text = report_page(
        [ReportSection("a", report(quality=quality(20.0))), ReportSection("b", report(quality=quality(21.0)))], ""
    )
    for expected in ('<th scope="col">a</th>', "<h2>Images: a</h2>", "<h2>Images: b</h2>"):
        assert expected in text


@pytest.mark.slow
def test_plots_are_there_where_figures_are() -> None:
    assert len(report_plots([("a", report(images=60))])) == 3, "ranks, use and perplexity"
    assert len(report_plots([("a", report(images=120, quality=quality(20.0, 21.0)))])) == 5, "and PSNR and positions"


class TestFlatAreas:
    @pytest.fixture
    @staticmethod
    def flat() -> Report:
        images = (
            ImageQuality("a.png", 20.0, 0.5, flat_psnr=31.25, flat_share=1.0, blocking=1.5, patchwork=2.25),
            ImageQuality("b.png", 20.0, 0.5, flat_share=0.0),
        )
        jpeg = Baseline("JPEG", 0.2, 21.0, 0.6, reached=True, larger=0, images=2, flat_psnr=40.0)
        quality = Quality(
            *(20.0, 0.5, 0, images, ()),
            baselines=(jpeg,),
            flat_psnr=31.25,
            flat_share=0.5,
            blocking=1.5,
            patchwork=2.25,
        )
        return report(quality=quality)

    def test_rows(self, flat: Report) -> None:
        shown = {figure.title: figure.text for figure in report_figures(flat)}
        titles = ("PSNR, flat areas", "flat areas", "blocking", "patchwork")
        texts = ["31.25 dB", "50.0 % of blocks", "1.50 of other steps", "2.25 levels"]
        assert [shown[title] for title in titles] == texts
        assert shown["JPEG"] == "21.00 dB (40.00 in flat areas), SSIM 0.6000 at 0.2000 bits per pixel"
        keys = {figure.title: figure.key for figure in report_figures(flat)}
        assert all(keys[title] in flat.to_json()["definitions"] for title in titles)

    def test_csv_and_json(self, flat: Report) -> None:
        (row,) = csv.DictReader(io.StringIO(reports_to_csv([("a", flat)])))
        keys = ("flat_psnr", "flat_share", "blocking", "patchwork", "jpeg_flat_psnr")
        assert [row[key] for key in keys] == ["31.25", "0.5", "1.5", "2.25", "40.0"]
        values = flat.to_json()
        assert all(values[key] == values["quality"][key] is not None for key in keys[:-1])

    def test_page(self, flat: Report) -> None:
        page = report_page([ReportSection("a", flat)])
        for text in ("flat PSNR dB", "31.25", "2.25", "PSNR, flat areas"):
            assert text in page
