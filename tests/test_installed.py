"""Versions of what is installed."""

from __future__ import annotations

from app.installed import versions_of


def test_versions_are_those_installed() -> None:
    """A package that is missing is left out."""
    assert set(versions_of(["numpy", "no-such-package-anywhere"])) == {"numpy"}
