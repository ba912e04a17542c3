"""A file name of its own for each image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenizer.files import FileNames


def file_names(names: list[str]) -> list[str]:
    chosen = FileNames(lambda: names, ".png")
    return [chosen.of(row, name) for row, name in enumerate(names)]


def test_the_suffix_is_replaced() -> None:
    assert file_names(["a/b.jpg", "c", "d.tar.gz"]) == ["a/b.png", "c.png", "d.tar.png"]
    assert file_names([]) == []


def test_one_stem_two_suffixes() -> None:
    assert file_names(["b.jpg", "b.webp", "a.jpg"]) == ["b.jpg.png", "b.webp.png", "a.png"]


def test_equal_names_are_numbered() -> None:
    assert file_names(["a.jpg"] * 3) == ["a.jpg.png", "a.jpg-1.png", "a.jpg-2.png"]


def test_a_made_name_does_not_take_anothers() -> None:
    given = ["a.jpg", "a.jpg", "a.jpg-1.x", "a.jpg.y", "a.jpg.png", "a.jpg-2", "a.jpg"]
    made = file_names(given)
    assert len(set(made)) == len(given)
    assert made[:2] == ["a.jpg.png", "a.jpg-3.png"]


def test_rows_can_be_asked_for_alone() -> None:
    given = ["a.jpg", "b.jpg", "a.jpg", "a.png"]
    chosen, all_of_them = FileNames(lambda: iter(given), ".png"), file_names(given)
    assert [chosen.of(row, given[row]) for row in (3, 0, 2, 1)] == [all_of_them[row] for row in (3, 0, 2, 1)]


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "a/../../b", ".\0./.\0./x", "\0", "", "..", "a\0/b", ".\ud800./x"],
)
def test_nothing_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (made,) = file_names([name])
    inside = (tmp_path / "out" / made).resolve()
    assert inside.is_relative_to(tmp_path / "out")
    assert inside.name.endswith(".png")
    assert "\0" not in made
    os.fsencode(made)


def test_nul_does_not_hide_the_parent() -> None:
    assert file_names([".\0./x.jpg", "/a\\b.jpg"]) == ["x.png", "a/b.png"]


def test_names_of_any_bytes_stay() -> None:
    name = os.fsdecode(b"\xff\xe9\n[x]")
    assert file_names([f"{name}.jpg"]) == [f"{name}.png"]


@pytest.mark.timeout(10)
def test_many_names_with_a_collision() -> None:
    made = file_names([*(f"{number}.jpg" for number in range(50_000)), "0.png"])
    assert made[0] == "0.jpg.png"
    assert made[-1] == "0.png.png"
    assert made[1:-1] == [f"{number}.png" for number in range(1, 50_000)]


@pytest.mark.timeout(10)
def test_many_equal_names() -> None:
    assert len(set(file_names(["x"] * 20_000))) == 20_000
