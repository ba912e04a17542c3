"""The pages in a real browser: what moves, what sorts, what is asked of the network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.compare.conftest import Prepare, made
from tests.conftest import draw
from tokenizer import compare
from tokenizer.compare.charts import draw_curves, draw_reconstructions
from tokenizer.compare.gallery import ComparisonGallery
from tokenizer.html import make_pair
from tokenizer.images import placement_of
from tokenizer.report import ExtremePairs, ImageQuality, Quality, Report, ReportSection, report_page, usage_report
from tokenizer.tokens import Header, ImageRecord, TokenSet

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

NAMES = ("café.png", "<script>alert(1)</script>.png", "b" * 120 + ".png", "c.png")
Open = Callable[..., "Page"]


def report(seed: int = 0) -> Report:
    """Figures of 120 images of 3 x 4 positions; the quality of four of them."""
    random = np.random.default_rng(seed)
    placement = placement_of((24, 32), "none", None, 8)
    records = [ImageRecord(f"{number}.png", (3, 4), placement) for number in range(120)]
    tokens = TokenSet(Header("f" * 64, (64,), 8), records, random.geometric(0.1, (120, 3, 4, 1)).clip(1, 64) - 1)
    images = tuple(ImageQuality(name, 20.0 + 5 * (number % 3), 0.5, None) for number, name in enumerate(NAMES))
    return usage_report([tokens], (64,), 3, Quality(22.5, 0.5, 0, images, ()))


@functools.cache
def text_of_one() -> str:
    """The page of one report, drawn once."""
    return report_page([section()], "vqtok report")


def section(name: str = "run", number: int = 1) -> ReportSection:
    gallery = ExtremePairs(4, f"picture-{number}")
    for index, one in enumerate(NAMES):
        picture = draw(48, 64, index)
        gallery.keep(one, picture, np.roll(picture, 2 + index, axis=1))
    return ReportSection(name, report(number), gallery.worst, gallery.best)


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a page, and see that it asks for nothing and complains about nothing."""
    told: list[str] = []
    asked: list[str] = []
    opened: list[Page] = []

    def open_page(text: str, width: int = 1280, scheme: str = "light") -> Page:
        path = tmp_path / "page.html"
        path.write_text(text, "utf-8")
        view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        view.on("console", lambda message: told.append(message.text))
        view.on("pageerror", lambda error: told.append(str(error)))
        view.on("request", lambda request: asked.append(request.url))
        view.goto(path.as_uri())
        opened.append(view)
        return view

    yield open_page
    for view in opened:
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert view.evaluate(broken) == 0, "every picture is there"
        view.close()
    assert told == []
    pages = [url for url in asked if not url.startswith("data:")]
    assert set(pages) == {(tmp_path / "page.html").as_uri()}


def split(views: Locator) -> str:
    """What of the right picture is cut off on the left."""
    cut: str = views.locator("img").nth(1).evaluate("image => getComputedStyle(image).clipPath")
    return cut.rpartition(" ")[2].rstrip(")")


def test_the_slider_moves_the_split(show: Open) -> None:
    view = show(text_of_one())
    pair = view.locator(".pair").first
    views, slider = pair.locator(".views"), pair.locator("input")
    assert split(views) == "50%"
    before = views.screenshot()
    slider.focus()
    for _ in range(10):
        view.keyboard.press("ArrowLeft")
    assert (slider.input_value(), split(views)) == ("40", "40%")
    assert views.screenshot() != before
    view.keyboard.press("End")
    assert split(views) == "100%"
    box = views.bounding_box()
    assert box
    view.mouse.move(box["x"] + box["width"] / 4, box["y"] + 10)
    assert split(views) == "100%", "only a press moves it"
    view.mouse.down()
    assert slider.input_value() == "25"
    view.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + 20)
    view.mouse.up()
    assert (slider.input_value(), split(views)) == ("75", "75%")
    assert split(view.locator(".pair .views").nth(1)) == "50%", "the others stay"


def test_a_picture_grows_on_demand(show: Open) -> None:
    view = show(text_of_one())
    pair = view.locator(".pair").first
    narrow = pair.bounding_box()
    pair.get_by_role("button", name="large").click()
    wide = pair.bounding_box()
    assert narrow
    assert wide
    assert wide["width"] > 2 * narrow["width"]
    assert pair.locator("button").get_attribute("aria-pressed") == "true"


def first_column(view: Page) -> list[str]:
    return view.locator("table.sortable tbody th").all_inner_texts()


def test_the_table_sorts_by_click_and_by_key(show: Open) -> None:
    view = show(text_of_one())
    heads = view.locator("table.sortable thead th")
    assert first_column(view) == [NAMES[0], NAMES[3], NAMES[1], NAMES[2]], "lowest PSNR first"
    heads.nth(0).locator("button").click()
    assert heads.nth(0).get_attribute("aria-sort") == "ascending"
    assert first_column(view) == sorted(NAMES, key=lambda name: (name[0] != "<", name))
    psnr_head = heads.nth(1).locator("button")
    psnr_head.focus()
    view.keyboard.press("Enter")
    assert first_column(view)[2:] == [NAMES[1], NAMES[2]]
    view.keyboard.press("Enter")
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    assert heads.nth(0).get_attribute("aria-sort") is None
    assert first_column(view)[:2] == [NAMES[2], NAMES[1]]


def test_a_row_leads_to_its_picture(show: Open) -> None:
    view = show(text_of_one())
    link = view.locator("table.sortable a").first
    target = link.get_attribute("href")
    assert target
    link.click()
    assert view.locator(target).locator("figcaption span").first.inner_text() == link.inner_text()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(show: Open, count: int, scheme: str) -> None:
    several = [section(f"a/very/long/{'path' * 12}/{number}.safetensors", number) for number in range(count)]
    view = show(report_page(several, "vqtok report " + "x" * 200), 360, scheme)
    view.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert view.evaluate("document.documentElement.scrollWidth") <= 360
    ground = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 27)")
    plot = view.locator(".plots img").first.evaluate("image => image.currentSrc")
    other = view.locator(".plots source").first.get_attribute("srcset")
    assert (plot == other) == (scheme == "dark")


def test_names_do_nothing(show: Open) -> None:
    view = show(report_page([section("<img src=x onerror=alert(1)>")], "</pre><script>alert(1)</script>"))
    assert view.locator("img[src=x]").count() == 0
    assert view.title() == "Report: <img src=x onerror=alert(1)>"


def test_the_comparison_has_the_same_parts(show: Open, prepare: Prepare, tmp_path: Path) -> None:
    contest = prepare(tmp_path / "out", ["ema", "gumbel"])
    labels = ["ema", "gumbel"]
    table = compare.rank_entries(labels, [made(label, 0, 20.0 + number) for number, label in enumerate(labels)], [])
    pictures = [draw(32, 32, number) for number in range(3)]
    pairs = tuple(make_pair(f"picture-1-{number}", "p", "1 dB", one, one[::-1]) for number, one in enumerate(pictures))
    sheet = draw_reconstructions(pictures, [(label, pictures) for label in labels])
    drawn = ComparisonGallery(draw_curves(table), sheet, (("1  ema", pairs),))
    view = show(compare.comparison_page(compare.ComparisonReport(contest, table, "vqtok compare"), drawn), 360, "dark")
    assert view.evaluate("document.documentElement.scrollWidth") <= 360
    views = view.locator(".pair .views").first
    view.locator(".pair input").first.focus()
    view.keyboard.press("Home")
    assert split(views) == "0%"
    head = view.locator("table.sortable thead th").nth(1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert first_column(view) == labels


def test_scripts_that_got_in_would_not_run(show: Open, browser: Browser) -> None:
    text = text_of_one().replace("</body>", "<script>document.title = 'taken'</script></body>")
    view = browser.new_page()
    view.set_content(text)
    assert view.title() != "taken"
    view.close()
    show(text_of_one())
