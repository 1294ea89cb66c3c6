"""How the pages look: the theme, the style sheet, the icons. Everything is in this folder, nothing at another host."""

from __future__ import annotations

from pathlib import Path

FILES = Path(__file__).parent / "files"
"""What browsers get as it is."""
LOGO = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9" fill="#4f46e5"/>'
    '<path d="M7 11h7a4 4 0 0 1 4 4v2a4 4 0 0 0 4 4h3" fill="none" stroke="#fff" stroke-width="3"'
    ' stroke-linecap="round"/><circle cx="24" cy="11" r="2.6" fill="#fbbf24"/></svg>'
)


def _icon(paths: str) -> str:
    return (
        '<svg class="ps-glyph" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8"'
        f' stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{paths}</svg>'
    )


ICONS = {
    "text": _icon('<path d="M4 6h16M4 11h16M4 16h10"/>'),
    "image": _icon(
        '<rect x="3" y="4" width="18" height="16" rx="3"/><circle cx="9" cy="10" r="1.6"/>'
        '<path d="m4 18 6-5 4 3 3-2 4 4"/>'
    ),
    "audio": _icon('<path d="M4 10v4M8 7v10M12 4v16M16 8v8M20 10v4"/>'),
    "video": _icon('<rect x="3" y="5" width="13" height="14" rx="3"/><path d="m16 10 5-3v10l-5-3"/>'),
    "multimodal": _icon('<path d="M12 3 3.5 7.5 12 12l8.5-4.5zM3.5 12 12 16.5l8.5-4.5M3.5 16.5 12 21l8.5-4.5"/>'),
    "search": _icon('<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>'),
    "theme": _icon('<path d="M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z"/>'),
    "pin": _icon('<path d="M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v6"/>'),
    "people": _icon(
        '<circle cx="9" cy="8" r="3.2"/><path d="M3 19a6 6 0 0 1 12 0"/>'
        '<path d="M15.5 5.2a3.2 3.2 0 0 1 0 5.9M17.5 13.6A6 6 0 0 1 21 19"/>'
    ),
    "check": _icon('<path d="m5 12.5 4.5 4.5L19 7.5"/>'),
}
