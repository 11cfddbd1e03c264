"""The page around the contents: template, style and script in one file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from imageherd.files import write_atomically
from imageherd.report.data import ReportData
from imageherd.report.payload import build

MAX_BYTES = 29_000_000
SCRIPTS = ("report.js", "why.js", "tree.js", "cards.js", "members.js", "map.js")
# Replaced after the template is rendered, so that megabytes need not pass through it.
CONTENTS = b"@@contents@@"


def write_report(data: ReportData, path: Path) -> Path:
    """Write the report as one HTML file of at most 29 MB.

    The file needs no network and nothing beside it. Every text is carried as JSON and set as text,
    never as markup, and the page's policy runs no script but its own.

    Parameters
    ----------
    data : ReportData
        What to show.
    path : Path
        The file; replaced whole or not at all.

    Returns
    -------
    Path
        The file.

    Notes
    -----
    Time is mostly thumbnails: up to about 2,400 and those of the medoids and strips.
    """
    page = _page(data.title)
    contents = build(data, MAX_BYTES - len(page))
    # The last one: a title may hold the same words.
    before, _, after = page.rpartition(CONTENTS)
    write_atomically(path, lambda file: file.writelines((before, contents, after)))
    return path


def _page(title: str) -> bytes:
    from jinja2 import Environment
    from markupsafe import Markup

    style, theme = _asset("report.css"), _asset("theme.js")
    script = '"use strict";\n(() => {\n' + "\n".join(map(_asset, SCRIPTS)) + "\n})();\n"
    template = Environment(autoescape=True).from_string(_asset("template.html.j2"))
    html = template.render(
        title=title,
        policy=(
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
            f"script-src {_hash(theme)} {_hash(script)}; base-uri 'none'; form-action 'none'"
        ),
        style=Markup(style),
        theme=Markup(theme),
        script=Markup(script),
        contents=CONTENTS.decode(),
    )
    return html.encode("utf-8", "backslashreplace")


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
