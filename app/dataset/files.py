"""Files that columns name, and where they may be."""

from __future__ import annotations

from pathlib import Path

from app.dataset.rows import BadRow


class FolderFiles:
    """Those of a folder, by their paths relative to it or whole, and none outside of it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        """Raises BadRow."""
        root = self._root.resolve()
        try:
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                raise BadRow(f"{name!r} is not below {root}; --files FOLDER says where files may be.")
            return path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadRow(f"{name[:200]!r} cannot be read: {reason}.") from None
