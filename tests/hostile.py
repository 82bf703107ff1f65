"""Names that command something in one format or another, and what a reader's program makes of a text with them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

NAMES = (
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "[x]: http://evil.example",
    "`code` and ``more``",
    "a|b\\|c",
    "two\nlines\r\n\n# and a heading",
    "$x^2$ and $$y$$",
    "&lt;b&gt; &amp; &#60;i>",
    "~~gone~~ *b* _i_ **b** __i__",
    "http://evil.example www.evil.example <http://evil.example> a@evil.example",
    "# heading #",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "---",
    "===",
    "> quote",
    "    code",
    "\\input{x} \\",
    "{{x}} %{y} ^z^ % comment",
    "-->]]><!-- <b onclick='x'>\"",
    "</script><img src=x onerror=alert(1)>",
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text, a list entry for each piece between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data

    def says(self, name: str) -> bool:
        """Whether the name stands in the text, apart from how its words are spaced."""
        return _spaced(name) in _spaced(self.text)


def _spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def rendered(markdown: str) -> Page:
    """As a renderer with tables, struck text and raw HTML shows it: what is not escaped has its full effect."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
