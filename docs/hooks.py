"""What the pages need beyond Markdown: formulas as MathML, and the command line's own help."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from typer.main import get_command

from imageherd.cli import VERBS, app

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_HELP = "<!-- help of every verb -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the verbs' help where the page asks for it."""
    if _HELP not in markdown:
        return markdown
    command: Any = get_command(app)
    parts = []
    for verb in VERBS:
        with command.commands[verb].make_context(verb, [], resilient_parsing=True) as context:
            parts.append(f"## {verb}\n\n```text\n{context.get_help()}\n```\n")
    return markdown.replace(_HELP, "\n".join(parts))


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""
    return _FORMULA.sub(_formula, content)


def _formula(found: re.Match[str]) -> str:
    _, bracket, latex = found.groups()
    display = "block" if bracket == "[" else "inline"
    return convert(html.unescape(latex), display=display)
