"""Why the Hub did not give a model's files, as sentences: for the API process (resolving) and for workers (fetching);
and why it took none, for the command line.

huggingface_hub is imported where it is used: it takes a third of a second, and a catalogue of folders does without.
"""

from __future__ import annotations

import errno
import os

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""In which huggingface_hub looks for the operator's token."""
_MAX_TOLD = 300  # characters of what the Hub says
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def is_repository(name: object) -> bool:
    """Whether others can find it by this name: an id of the Hub's, no folder of this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if not isinstance(name, str) or name.count("/") != 1 or os.path.exists(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def refusal(error: BaseException, model: str, revision: str | None) -> str | None:
    """What the operator has to do, where the Hub said no or the disk is full; None where it may work another time."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"{model} is gated: accept its licence at {constants.ENDPOINT}/{model} and set HF_TOKEN to a token of"
            " that account."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{model} has no revision {revision}."
    if isinstance(error, RepositoryNotFoundError):
        return f"{model} does not exist on {constants.ENDPOINT}, or it is private and HF_TOKEN gives no access to it."
    if _is_disk_full(error):
        return (
            f"{model} was not downloaded: the disk of {constants.HF_HOME} is full. Make room there, or set HF_HOME to a"
            " folder on another disk."
        )
    if isinstance(error, HFValidationError):
        return f"{model} is neither a folder nor the id of a repository on the Hub."
    if _status(error) in (401, 403):
        return f"{model} may not be read: accept its licence, if it has one, and set HF_TOKEN to a token with access."
    return None


def not_taken(error: BaseException, repository: str, revision: str | None) -> str:
    """Why nothing, or not everything, was published in a repository, and what to do about it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    status, told = _status(error), _told_by_server(error)
    if isinstance(error, HFValidationError):
        return f"{repository} cannot be the id of a repository on the Hub."
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {revision}."
    if isinstance(error, RepositoryNotFoundError):
        return f"{repository} does not exist on {constants.ENDPOINT}, or the token gives no access to it."
    if status == 401:
        return (
            f"{constants.ENDPOINT} does not know the token: set HF_TOKEN to one of yours, with the permission to write."
        )
    if status == 403:
        return (
            f"The token may not write to {repository}{told}: it needs the permission to write there. --pr proposes it"
            " instead."
        )
    if status is not None:
        return f"{constants.ENDPOINT} answered {status} to what was sent to {repository}{told}."
    if isinstance(error, ValueError):  # of checks before anything is sent
        return f"{repository}: {' '.join(str(error).split())[:_MAX_TOLD].rstrip('.')}."
    return f"Not all of it was sent: {no_answer(error)}. The same command goes on: what the Hub has is not sent again."


def _told_by_server(error: BaseException) -> str:
    for one in (error, _cause(error)):
        if message := getattr(one, "server_message", None):
            return f" ({' '.join(str(message).split())[:_MAX_TOLD].rstrip('.')})"
    return ""


def no_answer(error: BaseException) -> str:
    """That the Hub answered with an error, or not at all, or that what it gives may not be put anywhere: the middle of
    a sentence."""
    from huggingface_hub import constants

    if (denied := _denied(error)) is not None:
        return (
            f"nothing can be downloaded: {denied.filename}: {denied.strerror}; let the server's user read and write all"
            f" of {constants.HF_HOME}, or set HF_HOME to a folder where it may"
        )
    status = _status(error)
    if status is not None:
        return f"{constants.ENDPOINT} answered {status}"
    lines = str(_cause(error)).strip().splitlines() or [type(_cause(error)).__name__]
    return f"{constants.ENDPOINT} cannot be reached ({lines[0][:200].rstrip('.')})"


def _cause(error: BaseException) -> BaseException:
    """The Hub's library wraps what happened."""
    return error.__cause__ or error.__context__ or error


def _is_disk_full(error: BaseException) -> bool:
    """Or a quota is used up, or files may not be as large."""
    found = [one.errno for one in (error, _cause(error)) if isinstance(one, OSError)]
    return any(number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) for number in found)


def _denied(error: BaseException) -> OSError | None:
    """The file, or folder, that may not be touched; a network's refusals are about none."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.filename is not None and found.errno in _DENIED:
            return found
        found = found.__cause__ or found.__context__
    return None


def _status(error: BaseException) -> int | None:
    for one in (error, _cause(error)):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None
