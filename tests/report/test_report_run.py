"""Whole reports from Python: names, several models, refusals, files, thresholds, progress."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import draw, save
from tokenizer import jobs, report
from tokenizer.errors import InputError, OutputError, TokenFileError, UsageError, VqtokError
from tokenizer.images import placement_of
from tokenizer.models import fingerprint_of, load_checkpoint, save_checkpoint
from tokenizer.report import ReportFiles, ReportOptions, ReportSection
from tokenizer.tokens import Header, ImageRecord, TokenSet, read_tokens, tokens_to_bytes, write_tokens


def made_up(size: int, codes: list[int], model: str = "f" * 64) -> TokenSet:
    """Tokens of one picture of 16x16 pixels, 8x8 for each."""
    record = ImageRecord("x.png", (2, 2), placement_of((16, 16), "none", None, 8))
    return TokenSet(Header(model, (size,), 8), [record], [np.array(codes).reshape(2, 2, 1)])


def build(*arguments: Any, track: Any = None, **keywords: Any) -> list[ReportSection]:
    plan = report.plan_reports(*arguments, **keywords)
    return list(report.build_reports(plan, **({"track": track} if track else {})))


@pytest.fixture
def moved(run: Path, tmp_path: Path) -> Path:
    """The checkpoint with other weights."""
    model = load_checkpoint(run)
    model.encoder.requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.01)
    save_checkpoint(tmp_path / "moved", model, {})
    return tmp_path / "moved"


def test_tokens_in_memory_in_files_and_in_a_stream(tmp_path: Path) -> None:
    tokens = made_up(8, [0, 1, 1, 3])
    write_tokens(tmp_path / "t.npy", tokens)
    stream = io.BytesIO(tokens_to_bytes(tokens, "safetensors"))
    sections = build([tokens, tmp_path / "t.npy", str(tmp_path), "-"], stdin=stream)
    assert [section.name for section in sections] == ["tokens 1", str(tmp_path / "t.npy"), str(tmp_path), "stdin"]
    assert all(section.report == sections[0].report for section in sections)
    assert (sections[0].report.used, sections[0].report.dead, sections[0].checkpoint) == (3 / 8, 5, "")
    assert report.report_remarks(sections[:1]) == [
        "4 tokens are few for this codebook: used and perplexity are low for that alone"
    ]
    assert report.report_remarks(sections)[3].startswith("stdin: 4 tokens are few")


def test_several_models_on_the_same_images(run: Path, moved: Path, photos: Path) -> None:
    counted: list[tuple[int, int]] = []

    def track(items: Iterable[Any], total: int) -> Iterable[Any]:
        items = list(items)
        counted.append((len(items), total))
        return items

    one, two = build(images=photos / "b", models=[run, moved, run], track=track)
    assert (one.name, two.name) == (str(run), str(moved))
    assert counted == [(8, 8), (8, 8)]
    assert one.report.quality is not None
    assert two.report.quality is not None
    assert one.report.quality.psnr != two.report.quality.psnr
    assert (one.checkpoint.partition(" from ")[2], one.report.images) == (f"{run}, on cpu", 8)
    first = build(images=str(photos / "b"), models=[run], options=ReportOptions(max_images=2))[0].report
    assert [image.name for image in first.quality.images] == ["01.png", "04.png"]


def test_tokens_go_with_the_model_that_made_them(run: Path, moved: Path, photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/x.png", draw(16, 16))
    tokens = {model: made_up(32, [0, 1, 2, 3], fingerprint_of(model)) for model in (run, moved)}
    sections = build([tokens[moved], tokens[run]], tmp_path / "in", [run, moved])
    assert [section.checkpoint.partition(" from ")[2] for section in sections] == [f"{moved}, on cpu", f"{run}, on cpu"]
    with pytest.raises(UsageError, match="none of the 2 checkpoints made tokens 1"):
        report.plan_reports([made_up(32, [0] * 4)], models=[run, moved])
    with pytest.raises(TokenFileError, match="tokens 1: it was made by the checkpoint ffffffffffff"):
        build([made_up(32, [0] * 4)], models=[run])
    with pytest.raises(UsageError, match="tokens 1 was made by checkpoint ffffffffffff, which does not ship"):
        report.plan_reports([made_up(32, [0] * 4)], photos)


def test_images_that_cannot_be_read(run: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/good.png", draw(32, 32))
    (tmp_path / "in/bad.png").write_text("text")
    (section,) = build(images=tmp_path / "in", models=[run])
    assert [failure.name for failure in section.not_encoded] == ["bad.png"]
    (tmp_path / "in/good.png").unlink()
    with pytest.raises(InputError, match=r"0 of 1 images encoded, the first is bad\.png: not an image"):
        build(images=tmp_path / "in", models=[run])


def test_everything_is_written(run: Path, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"in/{number}\udcff\n.png", draw(64, 48, number))
    files = ReportFiles(tmp_path / "r.csv", tmp_path / "out/r.html", tmp_path / "codes.png")
    options = ReportOptions(baselines=True, stability=True, max_pictures=2)
    plan = report.plan_reports(images=tmp_path / "in", models=[run], options=options, files=files)
    assert not any(path.exists() for path in dataclasses.astuple(files))
    sections = list(report.build_reports(plan))
    report.write_reports(files, sections, command="vqtok report <here>")
    (row,) = csv.DictReader(io.StringIO(files.csv.read_text()))
    assert float(row["psnr"]) == sections[0].report.quality.psnr
    assert {"jpeg_psnr", "stability_none_changed"} <= set(row)
    page = files.html.read_text()
    assert "<pre>vqtok report &lt;here&gt;</pre>" in page
    assert page.count('<figure class="pair"') == 2
    assert files.codebook_picture is not None
    with Image.open(files.codebook_picture) as picture:
        assert picture.format == "PNG"
    report.write_reports(ReportFiles(html=files.html), sections)
    assert "<pre>" not in files.html.read_text()
    with pytest.raises(OutputError, match=r"r\.csv exists: pass --overwrite"):
        report.plan_reports(images=tmp_path / "in", models=[run], files=files)
    report.plan_reports(images=tmp_path / "in", models=[run], files=files, existing="overwrite")


def test_rows_hold_the_figures_of_all_reports() -> None:
    sections = build([made_up(8, [0, 1, 1, 3]), made_up(4, [0, 0, 0, 0])])
    rows = report.report_rows(sections)
    assert rows[0] == ("", "tokens 1", "tokens 2")
    assert ("used", "37.50 %", "25.00 %") in rows
    (most_used,) = (row[1] for row in report.report_rows(sections[:1]) if row[0] == "most used")
    assert most_used.startswith("1 (50.00 %), 0 (25.00 %), 3 (25.00 %), ")
    titles = [titles for titles, _ in report.shown_definitions(sections)]
    assert "used" in titles
    values = report.reports_to_json(sections)
    assert (values["version"], [one["name"] for one in values["reports"]]) == (3, ["tokens 1", "tokens 2"])
    assert report.reports_to_json(sections[:1]) == sections[0].report.to_json()


def test_thresholds_are_judged() -> None:
    sections = build([made_up(8, [0, 1, 1, 3]), made_up(4, [0, 1, 2, 3])])
    (missed,) = report.missed_thresholds(sections, ReportOptions(least_usage=0.5, least_psnr=99.0))
    assert missed == report.MissedThreshold("tokens 1", "used", 0.375, 0.5)
    assert report.missed_thresholds(sections, ReportOptions(least_usage=0.375)) == []
    quality = report.Quality(psnr=None, ssim=None, exact=1, images=(), missing=(), recognized_alike=0.25)
    seen = dataclasses.replace(sections[0], report=dataclasses.replace(sections[0].report, quality=quality))
    (missed,) = report.missed_thresholds([seen, sections[1]], ReportOptions(least_psnr=99.0, least_recognized=0.5))
    assert missed == report.MissedThreshold("tokens 1", "recognized_alike", 0.25, 0.5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({}, "nothing to report on: name token files, or --images"),
        ({"tokens": ["-", "-"]}, "stdin is named twice"),
        ({"tokens": ["-"]}, "- stands for a stream, and none was given"),
        ({"tokens": ["T"], "options": ReportOptions(max_images=3)}, "--max-images is for --images without token files"),
        ({"tokens": ["T"], "options": ReportOptions(stability=True)}, "--stability needs the originals"),
        ({"tokens": ["T"], "options": ReportOptions(least_psnr=0.0)}, "--fail-under-psnr needs the originals"),
        ({"tokens": ["T"], "options": ReportOptions(perceptual=True)}, "--perceptual needs the originals"),
        ({"images": "P", "options": ReportOptions(least_recognized=0.5)}, "--fail-under-recognized needs --perceptual"),
        ({"images": "P", "options": ReportOptions(least_psnr=float("nan"))}, "is nan, expected a number of dB"),
        ({"tokens": ["T"], "files": ReportFiles(Path("a"), Path("b/../a"))}, "a is named for two outputs"),
        ({"images": "P", "models": ["a", "b"], "files": ReportFiles(codebook_picture=Path("a"))}, "is of one report"),
        ({"tokens": ["nowhere.npy"]}, "cannot read nowhere.npy"),
        ({"images": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_contradicts_itself_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Path, call: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"P": photos}
    call = {name: values.get(value, value) if isinstance(value, str) else value for name, value in call.items()}
    if call.get("tokens") == ["T"]:
        call["tokens"] = [made_up(8, [0, 1, 1, 3])]
    with pytest.raises(VqtokError, match=said.replace("(", r"\(")):
        build(**call)
    assert list(tmp_path.iterdir()) == []


def test_what_needs_the_extra_says_so_before_work(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--perceptual needs .* not installed: pip install 'vqtok\[perceptual\]'$"):
        report.plan_reports(images=photos, options=ReportOptions(perceptual=True))


def test_one_name_needs_no_list(run: Path, photos: Path, tmp_path: Path) -> None:
    for _ in jobs.encode(photos / "b", tmp_path / "t.npy", run):
        pass
    listed = build(tokens=[str(tmp_path / "t.npy")], models=[str(run)])
    assert build(tokens=str(tmp_path / "t.npy"), models=str(run)) == listed
    assert build(tokens=read_tokens(tmp_path / "t.npy"), models=run)[0].report.tokens == listed[0].report.tokens
