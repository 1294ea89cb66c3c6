"""Model cards, which anybody may have written."""

from __future__ import annotations

import pytest

from app.ui.markdown import card_html


def test_cards_are_markdown() -> None:
    """With tables and code, headings below the page's own."""
    html = card_html(
        "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx < 1\n```\n- [paper](https://arxiv.example/1)"
    )
    assert "<h2>Title</h2>" in html and "<td>1</td>" in html and "x &lt; 1" in html
    assert '<a href="https://arxiv.example/1" target="_blank" rel="noopener noreferrer nofollow">paper</a>' in html


@pytest.mark.parametrize(
    "card",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "[x](javascript:alert(1))",
        "[x](  JAVASCRIPT:alert(1))",
        "![x](https://tracker.example/pixel.png)",
        '![x" onload="alert(1)](https://tracker.example/pixel.png)',
        "[x](data:text/html,<script>alert(1)</script>)",
        '<a href="https://x" onclick="alert(1)">x</a>',
        "<iframe src=https://evil.example></iframe>\n\ntext",
        "<!-- comment --><svg onload=alert(1)>",
    ],
)
def test_cards_do_nothing_and_load_nothing(card: str) -> None:
    """Their own HTML is left out; pictures of other hosts are links."""
    html = card_html(card).lower()
    for what in ("<script", "<img", "<iframe", "<svg", ' onerror="', ' onload="', ' onclick="', 'href="javascript'):
        assert what not in html, html
