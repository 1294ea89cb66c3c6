"""What the operator chose at start, from flags and `PIPESERVE_*` variables: frozen, passed to whoever needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.access.keys import Key


CACHE_DIR_VARIABLE = "PIPESERVE_CACHE_DIR"
"""For the server, and by it for its workers."""


def default_cache_dir() -> Path:
    return Path.home() / ".cache" / "pipeserve"


def cache_dir_of(environ: Mapping[str, str]) -> Path:
    """Where a worker keeps what it makes: the server's cache folder."""
    return Path(environ.get(CACHE_DIR_VARIABLE) or default_cache_dir())


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files as uvicorn takes them. ca_certs: clients must show a certificate that one of these has signed."""

    certfile: Path
    keyfile: Path | None = None  # unset: it is in the other file
    keyfile_password: str | None = field(default=None, repr=False)
    ca_certs: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times in seconds, sizes in bytes. `app/cli` reads them from flags and the environment."""

    models: Path = Path("models.yaml")
    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "info"
    log_format: str = "text"  # or "json"
    cache_dir: Path = field(default_factory=default_cache_dir)
    files_dir: Path | None = None  # of `/v1/files` and `/v1/batches`; unset: there are none
    max_files_bytes: int = 16 * 2**30  # of all files in it
    max_body_bytes: int = 32 * 2**20
    max_queue_items: int = 8192  # permits in total; models.yaml `queue:` overrides
    drain_s: float = 30.0
    client_timeout_s: float = 30.0  # for a head, a body (longer if it comes fast enough), and the reading of an answer
    max_connections: int = 16_384  # or as many as the system's limit of open files leaves room for
    load_wait_s: float = 300.0  # how long a request is held while its model loads
    heartbeat_timeout_s: float = 10.0
    load_heartbeat_timeout_s: float = 60.0
    forward_timeout_s: float = 60.0
    keys: tuple[Key, ...] = ()  # of the variable PIPESERVE_API_KEYS
    keys_file: Path | None = None  # where it is set, nobody gets in without a key, whether there is one in it or not
    tls: Tls | None = None
    cors_origins: tuple[str, ...] = ()  # whose pages may read answers; ("*",): any
    docs: bool = True  # /docs and /openapi.json
    ui: bool = True  # /ui, where the extra is installed
    launcher: str = "auto"  # "forkserver" where the system has it, else "spawn"
