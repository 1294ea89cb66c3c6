"""Which files the pages read for a visitor."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.ui.try_it.uploads import read_upload


def test_files_of_the_folder_are_read(tmp_path: Path) -> None:
    """As the API takes them."""
    (tmp_path / "a.png").write_bytes(b"abc")
    assert read_upload(str(tmp_path / "a.png"), tmp_path) == "YWJj"


@pytest.mark.parametrize("path", ["{outside}", "{folder}/../secret", "{folder}/link", "{folder}", "relative", ""])
def test_no_other_file_is(tmp_path: Path, path: str) -> None:
    """Whatever the browser says, and through no link."""
    outside, folder = tmp_path / "secret", tmp_path / "files"
    outside.write_text("secret")
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    with pytest.raises(ValueError, match="choose it again"):
        read_upload(path.format(outside=outside, folder=folder), folder)
