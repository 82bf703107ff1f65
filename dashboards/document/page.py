"""One HTML page that needs nothing from outside: style and script are in it, light by day and dark by night.

Nothing else may run on it or be fetched by it: its policy names style and script by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources

from dashboards.ink import script
from dashboards.ink.chart import Chart
from dashboards.ink.explorer import Explorer
from dashboards.ink.style import DARK, LIGHT, Theme

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{style}</style></head><body>
<h1>{title}</h1>
{body}
<script>{script}</script>
</body></html>
"""
_PARTS = ("drawing.js", "tables.js", "explorer.js", "begin.js")


def page(title: str, body: str) -> str:
    """A page with `title` (text) over `body` (HTML, with pictures by `drawing`)."""
    style, code = _themes() + _read("page.css"), "\n".join(map(_read, _PARTS))
    policy = f"default-src 'none'; img-src 'self' data: file:; style-src {_hash(style)}; script-src {_hash(code)}"
    policy += "; base-uri 'none'; form-action 'none'"
    return _PAGE.format(title=html.escape(title), body=body, policy=policy, style=style, script=code)


def drawing(drawn: Chart | Explorer) -> str:
    """A picture of a page: its numbers, and the place where the page's script draws them."""
    kind = "chart" if isinstance(drawn, Chart) else "explorer"
    data = f'<script type="application/json" class="{kind}">{script.written(drawn)}</script>'
    return f'{data}<div class="figure"></div>'


def _read(name: str) -> str:
    return resources.files("dashboards.document").joinpath("script", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _themes() -> str:
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}"
    return f":root {{ {_variables(LIGHT)} }}\n{dark}\n"


def _variables(theme: Theme) -> str:
    values = {"ink": theme.ink, "paper": theme.paper, "muted": theme.muted, "grid": theme.grid, **theme.hues}
    return " ".join(f"--{name}: {value};" for name, value in values.items())
