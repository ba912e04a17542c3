"""Names of images as paths that stay inside a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokenizer.errors import OutputError
from tokenizer.files import path_beneath, safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("a//./b.jpg", "a/b.jpg"),
        ("../../a.jpg", "a.jpg"),
        ("/etc/passwd", "etc/passwd"),
        (r"a\..\b.jpg", "a/b.jpg"),
        ("C:\\x.png", "C_/x.png"),
        ("a/d:b.png", "a/d_b.png"),
        (".\0./.\ud800./x", "x"),
        ("", "image"),
        ("../..", "image"),
        ("a\udcff.png", "a\udcff.png"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(st.characters(codec=None)))
@example("../" * 400 + "a" * 300)
@example("\U0001f600" * 5000)
def test_any_name_stays_inside_and_fits(name: str) -> None:
    safe = safe_name(name)
    parts = safe.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert "\\" not in safe
    assert len(os.fsencode(safe)) <= 1000
    assert all(len(os.fsencode(part)) <= 255 for part in parts)
    assert safe_name(safe) == safe


def test_long_names_keep_their_start_and_suffix() -> None:
    one, other = (safe_name("a" * 300 + letter + ".jpeg") for letter in "xy")
    assert one != other
    assert one.startswith("a" * 110 + "~")
    assert one.endswith(".jpeg")
    assert safe_name("x." + "s" * 300) != safe_name("x." + "s" * 301)


def test_long_paths_keep_their_last_part() -> None:
    one, other = (safe_name(f"{folder}/" * 300 + "b.png") for folder in ("deep", "Deep"))
    assert one != other
    assert one.endswith("/b.png")
    assert len(one.split("/")) == 2


def test_path_beneath(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for path in (folder / "inner", elsewhere):
        path.mkdir(parents=True)
    (folder / "alias").symlink_to(folder / "inner")
    (folder / "away").symlink_to(elsewhere)
    assert path_beneath(folder, "a/b.png") == folder / "a/b.png"
    assert path_beneath(folder, "alias/b.png") == folder / "alias/b.png"
    assert path_beneath(folder, "away") == folder / "away"  # a link itself is replaced, not followed
    with pytest.raises(OutputError, match=r"away leads out of .*out through a link: remove the link$"):
        path_beneath(folder, "away/b.png")
