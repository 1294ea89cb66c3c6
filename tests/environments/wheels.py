"""Tiny wheels, written by hand: what `pip` installs in these tests, without an index or a build."""

from __future__ import annotations

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, code: str, version: str = "1.0") -> Path:
    """A distribution of one module, of the same name."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name}-hello = {name}:hello\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def requirements_of(folder: Path, *wheels: Path) -> Path:
    path = folder / "requirements.txt"
    path.write_text("\n".join(["--no-index", *map(str, wheels)]) + "\n")
    return path
