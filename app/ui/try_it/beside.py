"""What stands around an answer: what went wrong, how long it took, the same in curl, its JSON, its link. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from app.ui.client import Answer, ApiError
from app.ui.try_it.results import abridged, json_html

_MAX_COPIED_CHARS = 300_000
_TITLES: Mapping[int, str] = {
    0: "No server",
    400: "This cannot be asked",
    401: "Not logged in",
    403: "Not allowed",
    404: "Not here",
    413: "Too much at once",
    415: "This file cannot be read",
    422: "This cannot be asked",
    429: "Busy",
    500: "The model failed",
    501: "Not possible in this installation",
    503: "Not ready",
    504: "It took too long",
}


def problem_html(sentence: str, *, title: str = "", after: str = "") -> str:
    head = f"<b>{escape(title)}</b> " if title else ""
    return f'<div class="ps-alert" role="alert">{head}{escape(sentence)}{after}</div>'


def error_html(error: ApiError) -> str:
    again = "" if error.retry_after_s is None else f" Try again in {error.retry_after_s:.0f} s."
    title = _TITLES.get(error.status, f"Error {error.status}")
    return problem_html(f"{error}{again}", title=title, after=f" <small>{error.status}</small>" if error.status else "")


def waiting_html(sentence: str, bar: str = "") -> str:
    shown = bar or '<div class="ps-progress ps-unknown"><i></i></div>'
    return f'<div role="status"><p class="ps-note">{escape(sentence)}</p>{shown}</div>'


def beside_html(answer: Answer, *, curl: str, link: str | None) -> str:
    """link: that opens the form as it is."""
    shown = "" if answer.media_type != "application/json" else _json(answer.json())
    return f"{_facts(answer, link)}{curl_html(curl)}{shown}"


def curl_html(line: str) -> str:
    return _folded("The same with curl", line, f"<pre>{escape(line)}</pre>")


def _json(answer: Any) -> str:
    whole = json.dumps(answer, ensure_ascii=False)
    copied = whole if len(whole) <= _MAX_COPIED_CHARS else json.dumps(abridged(answer), ensure_ascii=False)
    return _folded("JSON", copied, json_html(answer))


def _folded(title: str, copied: str, content: str) -> str:
    return (
        f'<details class="ps-fold"><summary>{title}</summary><div>'
        f'<button type="button" class="ps-button" data-copy="{escape(copied)}">Copy</button>{content}</div></details>'
    )


def _facts(answer: Answer, link: str | None) -> str:
    facts = []
    if answer.total_ms is not None:
        beside = f", {answer.batch_size} in its batch" if (answer.batch_size or 0) > 1 else ""
        facts.append(f"<span>{answer.total_ms:.0f} ms in the server{beside}</span>")
    if link is not None:
        facts.append(f'<button type="button" class="ps-button" data-copy="{escape(link)}">Copy link</button>')
    return f'<p class="ps-note ps-under">{"".join(facts)}</p>' if facts else ""
