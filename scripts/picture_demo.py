"""Draws docs/demo.svg, a terminal with some requests of `make demo` and what they were answered:
`python -m scripts.picture_demo` (it runs the demo)."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).resolve().parent.parent / "docs" / "demo.svg"
SHOWN = (
    "Is this review good or bad?",
    "Which names are in this sentence?",
    "What does this picture show?",
    "How near are these sentences",
)
"""Beginnings of the titles of those requests that fit on a screen."""
_FONT_OF_ANOTHER_HOST = re.compile(r"@font-face \{\{.*?\}\}", re.DOTALL)


def main() -> None:
    done = subprocess.run([sys.executable, "-m", "demo.run", "--once"], check=True, capture_output=True, text=True)
    requests = re.split(r"\n(?=# )", done.stdout)
    console = Console(record=True, width=118, file=io.StringIO())
    for request in requests:
        if request.startswith(tuple(f"# {title}" for title in SHOWN)):
            console.print(_coloured(request.strip()), end="\n\n")
    font_free = _FONT_OF_ANOTHER_HOST.sub("", CONSOLE_SVG_FORMAT)
    TARGET.write_text(console.export_svg(title="make demo", code_format=font_free, unique_id="demo"))


def _coloured(request: str) -> Text:
    text = Text(request)
    text.highlight_regex(r"(?m)^# .*$", "dim")
    text.highlight_regex(r"(?m)^\$ (.*\\\n)*.*$", "bold green")
    text.highlight_regex(r'"[^"\n]*"(?=: )', "cyan")
    return text


if __name__ == "__main__":
    main()
