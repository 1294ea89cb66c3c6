"""Finding out what an entry is: its small files on this disk, else from the Hub. Used by the API process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.catalog import ModelSpec, cached_files, with_files
from app.declaration.inference import FILES
from app.errors import ModelFailed


async def resolve(spec: ModelSpec) -> ModelSpec:
    """The entry with its tasks, or with `problem`. Raises ModelFailed when the Hub does not give the files."""
    return await asyncio.to_thread(_resolve, spec)


def _resolve(spec: ModelSpec) -> ModelSpec:
    if not Path(spec.model).is_absolute() and not spec.tasks:
        _download(spec)
    return with_files(spec, cached_files(spec))


def _download(spec: ModelSpec) -> None:
    """config.json, and the files beside it that the repository has, into the Hub's cache."""
    # Imported here: it takes a third of a second, and a catalogue of folders does without.
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    for name in FILES:
        try:
            hf_hub_download(spec.model, name, revision=spec.revision, local_files_only=spec.offline)
        except GatedRepoError as error:
            raise ModelFailed(
                f"{spec.model} is gated: accept its licence on {constants.ENDPOINT} and set HF_TOKEN to a token of"
                " that account."
            ) from error
        except RepositoryNotFoundError as error:
            raise ModelFailed(
                f"{spec.model} does not exist on {constants.ENDPOINT}, or it is private and HF_TOKEN gives no access."
            ) from error
        except HFValidationError as error:
            raise ModelFailed(f"{spec.model} is neither a folder nor the id of a repository on the Hub.") from error
        except (HfHubHTTPError, OSError, EntryNotFoundError) as error:
            if name != FILES[0]:
                continue  # not every repository has a card, or sentence-transformers' modules
            if constants.HF_HUB_OFFLINE or spec.offline:
                raise ModelFailed(
                    f"{spec.model} is not in the cache, and the Hub is not to be asked (HF_HUB_OFFLINE or `offline`)."
                ) from error
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelFailed(
                f"The config of {spec.model} cannot be had from {constants.ENDPOINT}: {reason}"
            ) from error
