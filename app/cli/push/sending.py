"""A parcel -> a commit in a repository of the Hub, by huggingface_hub: what was sent before it broke off is not sent
again."""

from __future__ import annotations

import logging as levels
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.push.parcel import CARD, Parcel

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo


MESSAGE = "Upload with pipeserve push"


@dataclass(frozen=True, kw_only=True)
class Destination:
    """to: OWNER/NAME. is_private: None: as the owner's repositories are by default. branch: None: main. is_proposed: as
    a pull request."""

    to: str
    is_private: bool | None = None
    branch: str | None = None
    is_proposed: bool = False
    message: str = MESSAGE


@dataclass(frozen=True, kw_only=True)
class Sent:
    """commit: None: the repository had all of it already."""

    url: str
    is_new: bool
    commit: str | None
    pull_request: str | None
    warnings: tuple[str, ...]


class Hub:
    """Reads HF_ENDPOINT, and without a token HF_TOKEN, or what `hf auth login` stored. Raises ModelFailed, with what to
    do about it."""

    def __init__(self, token: str | None) -> None:
        from huggingface_hub import HfApi, constants, get_token

        from app.errors import ModelFailed

        if not (token or get_token()):
            raise ModelFailed("The Hub takes nothing without a token: set HF_TOKEN to one that may write.")
        if constants.HF_HUB_OFFLINE:
            raise ModelFailed("HF_HUB_OFFLINE says that the Hub is not to be asked: unset it to push.")
        self._api = HfApi(token=token)

    def licence_of(self, repository: str) -> dict[str, str]:
        """None, where it has none or cannot be asked: that is no reason not to publish."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of requests or of httpx

        from app.cli.push.card import licence_in

        try:
            return licence_in(_info(self._api, repository).card_data)
        except (HTTPError, OSError):
            return {}

    def has_card(self, destination: Destination) -> bool:
        """Whether there is one that ours must not replace. A branch that is not there yet begins as main is."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        with _sentences(destination):
            try:
                found = _info(self._api, destination.to, destination.branch)
            except RevisionNotFoundError:
                found = _info(self._api, destination.to)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return False
        return any(file.rfilename == CARD for file in found.siblings or ())

    def send(self, parcel: Parcel, destination: Destination, *, shows_bars: bool) -> Sent:
        to, branch = destination.to, destination.branch
        with _sentences(destination):
            before = self._prepare(destination)
            head = before if branch is None else _info(self._api, to, branch)
            with _staged(parcel) as folder, _warned() as told, _bars(shows_bars):
                commit = self._api.upload_folder(
                    repo_id=to,
                    folder_path=folder,
                    revision=branch,
                    commit_message=destination.message,
                    create_pr=destination.is_proposed,
                )
        is_same = head is not None and commit.oid == head.sha
        return Sent(
            url=f"{self._api.endpoint}/{to}",
            is_new=before is None,
            commit=None if is_same else commit.oid,
            pull_request=commit.pr_url,
            warnings=tuple(told),
        )

    def _prepare(self, destination: Destination) -> ModelInfo | None:
        """What the repository was before, made with its branch if it is not there."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        from app.errors import ModelFailed

        to, branch = destination.to, destination.branch
        try:
            found: ModelInfo | None = _info(self._api, to)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            if destination.is_proposed:
                raise
            found = None
            self._api.create_repo(to, private=destination.is_private, exist_ok=True)
        if found is not None and destination.is_private and not found.private:
            raise ModelFailed(
                f"{to} is there already, and is public: make it private on its page, or push to another name."
            )
        if branch is not None and not branch.startswith("refs/"):
            self._api.create_branch(to, branch=branch, exist_ok=True)
        return found


def _info(api: HfApi, repository: str, revision: str | None = None) -> ModelInfo:
    from huggingface_hub import constants

    return api.model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)


@contextmanager
def _sentences(destination: Destination) -> Iterator[None]:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of requests or of httpx

    from app.errors import ModelFailed
    from app.hub import not_taken

    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # the last two: of its own checks, and of threads
        raise ModelFailed(not_taken(error, destination.to, destination.branch)) from error


@contextmanager
def _staged(parcel: Parcel) -> Iterator[Path]:
    """One folder of links: an upload takes one, and what is written for it must not come into the user's."""
    with tempfile.TemporaryDirectory(prefix="pipeserve-push-") as place:
        for item in parcel.items:
            path = Path(place, item.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(item.source, bytes):
                path.write_bytes(item.source)
            else:
                path.symlink_to(item.source.resolve())
        yield Path(place)


@contextmanager
def _warned() -> Iterator[list[str]]:
    """What the Hub finds odd about a card comes as Python's warnings; what huggingface_hub logs is told by `Sent`."""
    from huggingface_hub.utils import logging

    told: list[str] = []
    before = logging.get_verbosity()
    logging.set_verbosity(levels.ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield told
        told += [str(one.message).replace("\n", " ") for one in caught if issubclass(one.category, UserWarning)]
    finally:
        logging.set_verbosity(before)


@contextmanager
def _bars(are_shown: bool) -> Iterator[None]:
    """Those of huggingface_hub: its uploads report to nobody else."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    is_ours = not are_shown and not are_progress_bars_disabled()
    if is_ours:
        disable_progress_bars()
    try:
        yield
    finally:
        if is_ours:
            enable_progress_bars()
