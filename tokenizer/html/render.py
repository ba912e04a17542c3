"""One HTML file from a template: style, script and pictures inside it, and a policy that forbids the network."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_KINDS = {b"\x89PNG": "png", b"RIFF": "webp"}


def render_page(template: Path, title: str, **values: Any) -> str:
    """Return the HTML of a template that extends `base.html`; all values are escaped.

    A filter `data_uri` makes the bytes of a PNG or WebP picture an address. Halves of surrogate pairs, which names of
    files may hold and UTF-8 does not, are written as escapes.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _HERE]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["data_uri"] = data_uri
    style, script = ((_HERE / name).read_text("utf-8") for name in ("style.css", "script.js"))
    text = environment.get_template(template.name).render(
        values,
        title=title,
        style=Markup(style),  # noqa: S704  # our own files, not a user's
        script=Markup(script),  # noqa: S704
        policy=_policy(style, script),
    )
    return text.encode("utf-8", "backslashreplace").decode()


def data_uri(data: bytes) -> str:
    """Return a PNG or WebP picture as an address that holds it."""
    return f"data:image/{_KINDS[data[:4]]};base64,{base64.b64encode(data).decode()}"


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy under which nothing is fetched and only our script and style are run.

    Source: W3C, "Content Security Policy Level 3", sections 2.3.1 and 6.7.
    """
    return (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
