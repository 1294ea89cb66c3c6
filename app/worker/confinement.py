"""What a worker gives up for the entry that it serves (`app/confinement.py` has what every worker gives up)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from app.catalog import ModelSpec
from app.confinement import bar_network
from app.hub import TOKEN_VARIABLES

logger = logging.getLogger(__name__)


@contextmanager
def as_declared(spec: ModelSpec) -> Iterator[None]:
    """Around the load of a model. An offline one is barred from the network before its files are read, and any code
    among them runs; vLLM needs sockets of its own while it starts. The Hub's token is there while the model loads."""
    if not spec.trust_remote_code:
        # For torch.load whatever its caller says: tensors and plain values, nothing that runs.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    is_barred_late = spec.backend == "vllm"
    if spec.offline and not is_barred_late:
        _bar_network_of(spec)
    yield
    if spec.offline and is_barred_late:
        _bar_network_of(spec)
    if not spec.takes_adapters:  # which may come from the Hub at any time
        for name in TOKEN_VARIABLES:
            os.environ.pop(name, None)


def _bar_network_of(spec: ModelSpec) -> None:
    try:
        bar_network()
    except (OSError, AttributeError) as error:  # AttributeError: a libseccomp that lacks a function
        logger.warning(
            "%s is offline, so the Hub is not asked, but this system cannot bar its process from the network: %s",
            spec.id,
            error,
        )
