"""What an application is built with where Serve builds it: `serve run app.ray:build models=... cache_dir=...`, or
`args:` of a Serve config. The words are those of `pipeserve serve`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.access.keys import VARIABLE, keys_of_variable
from app.durations import parse_duration, parse_size
from app.errors import CatalogError
from app.settings import Settings, default_cache_dir

ANYWHERE = "0.0.0.0"
"""Where Serve's proxies may listen, which nobody tells the application: nobody counts as on the same machine."""
_DEFAULT = Settings()
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Size = Annotated[int, BeforeValidator(parse_size)]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")  # not strict: on a command line, everything is text

    models: Path = _DEFAULT.models
    ingress_replicas: int = Field(default=1, ge=1)
    checksum: str = ""  # heeded by Serve alone, which builds the application anew when an argument is another
    cache_dir: Path = Field(default_factory=default_cache_dir)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    max_body_size: Size = _DEFAULT.max_body_bytes
    drain: Duration = _DEFAULT.drain_s
    load_wait: Duration = _DEFAULT.load_wait_s
    forward_timeout: Duration = _DEFAULT.forward_timeout_s
    keys_file: Path | None = None
    cors_origins: tuple[str, ...] = ()
    docs: bool = _DEFAULT.docs
    launcher: Literal["auto", "forkserver", "spawn"] = "auto"

    def settings(self, environ: Mapping[str, str] = os.environ) -> Settings:
        return Settings(
            models=self.models,
            host=ANYWHERE,
            cache_dir=self.cache_dir,
            log_level=self.log_level,
            log_format=self.log_format,
            max_body_bytes=self.max_body_size,
            drain_s=self.drain,
            load_wait_s=self.load_wait,
            forward_timeout_s=self.forward_timeout,
            keys=keys_of_variable(environ.get(VARIABLE, "")),
            keys_file=self.keys_file,
            cors_origins=self.cors_origins,
            docs=self.docs,
            launcher=self.launcher,
        )


def read_arguments(given: Mapping[str, Any]) -> Arguments:
    """Raises CatalogError with a sentence for each that is wrong."""
    try:
        return Arguments.model_validate(given)
    except ValidationError as error:
        known = ", ".join(Arguments.model_fields)
        raise CatalogError(
            "\n".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
                + (f" (there is {known})" if one["type"] == "extra_forbidden" else "")
                for one in error.errors(include_url=False)
            )
        ) from None
