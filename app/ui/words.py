"""Numbers as people read them."""

from __future__ import annotations


def bytes_text(size: float) -> str:
    """438 MB; in powers of ten, as disks and the Hub have them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit in ("B", "kB", "MB") else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def count_text(count: float) -> str:
    """22.7 M."""
    for unit in ("", " k", " M", " B"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} T"


def since_text(seconds: float) -> str:
    """just now, 5 min ago, 3 h ago, 2 days ago."""
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h ago"
    return f"{seconds // 86400:.0f} days ago"


def seconds_text(seconds: float) -> str:
    """0.42 ms, 18 ms, 1.2 s, 2.5 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.2g} min"
