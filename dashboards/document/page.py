"""One HTML page that needs nothing from outside: style and script are in it, light by day and dark by night."""

from __future__ import annotations

import html

from dashboards.ink import screen
from dashboards.ink.style import DARK, LIGHT, Theme

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
{themes}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
        margin: 1.5rem auto 4rem; max-width: 62rem; padding: 0 1rem }}
h1 {{ font-size: 1.7rem; margin: 0 0 .3rem }}
h2 {{ font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-bottom: 1px solid var(--grid); padding-bottom: .2rem }}
h3 {{ font-size: 1rem; margin: 1.4rem 0 .3rem }}
p, li {{ max-width: 46rem }}
.caption, caption {{ color: var(--muted); font-size: .87rem; text-align: left; caption-side: bottom; padding: .3rem 0 }}
.answer {{ border-left: 4px solid var(--mark); padding: .2rem 0 .2rem 1rem; margin: .8rem 0 }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: .5rem 0 }}
th, td {{ text-align: right; padding: .22rem .8rem; border-bottom: 1px solid var(--grid); vertical-align: top;
          white-space: nowrap }}
th, td.text {{ white-space: normal }}
thead th {{ border-bottom: 1.5px solid var(--muted) }}
td.text, th.text {{ text-align: left }}
td.best {{ font-weight: 600 }}
tr.apart td {{ border-top: 1.5px solid var(--muted) }}
pre {{ background: var(--grid); padding: .7rem 1rem; overflow-x: auto; font-size: .83rem; border-radius: 4px }}
details summary {{ cursor: pointer; color: var(--muted) }}
details.section > summary {{ font-size: 1.2rem; font-weight: 700; color: var(--ink); margin: 2.2rem 0 .4rem;
                             border-bottom: 1px solid var(--grid); padding-bottom: .2rem }}
.figure {{ margin: .6rem 0 }}
@media print {{ details:not([open]) {{ display: none }} body {{ max-width: none }}
                .figure, tr {{ break-inside: avoid }} }}
</style></head><body>
<h1>{title}</h1>
{body}
{script}
</body></html>
"""


def page(title: str, body: str) -> str:
    """A page with `title` (text) over `body` (HTML, with pictures by `screen.embedded`)."""
    return _PAGE.format(title=html.escape(title), body=body, script=screen.script(), themes=_themes())


def _themes() -> str:
    return f":root {{ {_variables(LIGHT)} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}"


def _variables(theme: Theme) -> str:
    values = {"ink": theme.ink, "paper": theme.paper, "muted": theme.muted, "grid": theme.grid}
    values["mark"] = theme.colour("blue")
    return " ".join(f"--{name}: {value};" for name, value in values.items())
