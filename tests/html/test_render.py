"""The frame of a page: what it may load, what is escaped, what is in the package."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
import pytest

from tests.test_floors import ROOT
from tokenizer.html import render_page
from tokenizer.html.render import data_uri

PNG = b"\x89PNG\r\n"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "own.html"
    path.write_text('{% extends "base.html" %}{% block body %}<p title="{{ text }}">{{ text }}</p>{% endblock %}')
    return path


def test_texts_are_escaped(template: Path) -> None:
    text = render_page(template, "<b>", text="\"></p><script>alert('x')</script>")
    assert "<title>&lt;b&gt;</title>" in text
    assert '<p title="&#34;&gt;&lt;/p&gt;&lt;script&gt;' in text
    assert text.count("<script>") == 1


def test_names_that_utf8_does_not_have(template: Path) -> None:
    text = render_page(template, "t", text="a\udcffb café")
    assert '<p title="a\\udcffb café">' in text
    text.encode()


def test_a_value_that_is_missing_is_an_error(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_page(template, "t")


def test_the_policy_allows_this_script_and_style_alone(template: Path) -> None:
    text = render_page(template, "t", text="")
    policy = re.search('Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].replace("&#39;", "'").split("; "))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    for tag in ("style", "script"):
        own = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?://|@import|url\(", text)


def test_pictures_become_addresses() -> None:
    assert data_uri(PNG) == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert data_uri(b"RIFF1234WEBP").startswith("data:image/webp;")


def test_no_setting_leaves_the_parts_of_the_page_out_of_the_wheel() -> None:
    """Hatch takes all files of the packages but those that git ignores."""
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not {"*.html", "*.css", "*.js"} & set(ignored)
    for name in ("base.html", "parts.html", "style.css", "script.js"):
        assert (ROOT / "tokenizer/html" / name).is_file()
