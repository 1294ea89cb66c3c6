"""Model cards as HTML. Whoever wrote a card may not do anything on our pages: its own HTML is left out, links do not
say where they come from, and pictures at other hosts are links, as nothing is loaded from there."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

_SCHEMES = frozenset({"http", "https", "mailto"})


def card_html(markdown: str) -> str:
    """Headings begin below the page's own."""
    return str(_renderer().render(markdown))


def _renderer() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    made.add_render_rule("html_block", _nothing)
    made.add_render_rule("html_inline", _nothing)
    made.add_render_rule("image", _picture)
    made.add_render_rule("link_open", _link)
    made.add_render_rule("heading_open", _heading)
    made.add_render_rule("heading_close", _heading)
    return made


def _nothing(self: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    return ""


def _picture(self: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    return _anchor(str(token.attrs.get("src", ""))) + f"{escape(token.content) or 'picture'}</a>"


def _link(self: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    return _anchor(str(tokens[at].attrs.get("href", "")))


def _anchor(address: str) -> str:
    """Of another site, or none: a card's relative links are for the Hub's pages."""
    if urlsplit(address).scheme.lower() not in _SCHEMES:
        return "<a>"
    return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer nofollow">'


def _heading(self: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    level = min(int(token.tag[1]) + 1, 6)
    return f"<h{level}>" if token.nesting == 1 else f"</h{level}>\n"
