"""What the Hub, or the disk that its files go to, may say no with."""

from __future__ import annotations

import errno
import os

import pytest

from app.hub import no_answer, refusal


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_a_sentence(number: int) -> None:
    """Also where a library has made another error of it; it says which disk, and is no matter of the network."""
    full = OSError(number, "no room")
    wrapped = RuntimeError("the download failed")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        said = refusal(error, "acme/tiny", None)
        assert said is not None
        assert said.startswith("acme/tiny was not downloaded: the disk of ")
        assert "HF_HOME" in said


def test_network_that_fails_is_no_refusal() -> None:
    """It may work another time, and what was downloaded before will do."""
    assert refusal(ConnectionResetError(errno.ECONNRESET, "reset"), "acme/tiny", None) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_cache_that_may_not_be_written_is_a_sentence(number: int) -> None:
    """It names the file and HF_HOME, and is no refusal: what was downloaded before will do."""
    denied = OSError(number, os.strerror(number), "/hub/token")
    wrapped = RuntimeError("the download failed")
    wrapped.__cause__ = denied
    for error in (denied, wrapped):
        assert refusal(error, "acme/tiny", None) is None
        assert no_answer(error).startswith(f"nothing can be downloaded: /hub/token: {os.strerror(number)}; let the")
        assert "HF_HOME" in no_answer(error)
    unreachable = OSError(errno.EACCES, "Permission denied")  # a firewall's
    assert "cannot be reached" in no_answer(unreachable)
