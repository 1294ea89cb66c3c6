"""Where environments are, and how an interpreter there finds our package and nothing else of the server's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

import app
from app.catalog import Catalog, ModelSpec
from app.declaration.form import did_you_mean
from app.environments.shipped import SHIPPED

PACKAGE = Path(app.__file__).resolve().parent
STATE = "pipeserve.json"
"""Written last of all: a folder without it is no environment."""


def environments_folder(cache_dir: Path) -> Path:
    return cache_dir / "environments"


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


class Environments:
    """Those that were built in `folder`, and those that models.yaml declares: name -> interpreter."""

    def __init__(self, folder: Path, declared: Mapping[str, str]) -> None:
        self.folder = folder
        self._declared = declared

    def declare(self, declared: Mapping[str, str]) -> None:
        """These are the declared ones from now on."""
        self._declared = declared

    def python(self, name: str) -> Path:
        """The interpreter, whether it is there or not. A declared one goes before one that was built."""
        return Path(self._declared[name]) if name in self._declared else python_of(self.folder / name)

    def mark(self, name: str) -> str:
        """What changes when it is built anew; of a declared one, its interpreter."""
        try:
            return hashlib.sha256((self.folder / name / STATE).read_bytes()).hexdigest()[:16]
        except OSError:
            return str(self.python(name))

    def problem(self, name: str) -> str | None:
        """Why no worker can be started there; None: as far as can be seen, it can."""
        if name in self._declared:
            python = self.python(name)
            return None if os.path.isfile(python) else f'environment "{name}": there is no Python {python}.'
        if os.path.isfile(self.folder / name / STATE):
            return None
        if name in SHIPPED:
            return f'the environment "{name}" is not built yet; build it with `pipeserve env create {name}`.'
        near = did_you_mean(name, [*SHIPPED, *self._declared])
        return (
            f'there is no environment "{name}"{near}; declare its Python under `environments:`, or build it with'
            f" `pipeserve env create {name} --requirements FILE`."
        )


def environments_of(catalog: Catalog, cache_dir: Path) -> Environments:
    return Environments(environments_folder(cache_dir), catalog.environments)


def with_environments(catalog: Catalog, environments: Environments) -> Catalog:
    """The catalogue with a `problem` for every entry whose environment is not there."""
    return msgspec.structs.replace(
        catalog, models=tuple(_with_environment(spec, environments) for spec in catalog.models)
    )


def _with_environment(spec: ModelSpec, environments: Environments) -> ModelSpec:
    problem = None if spec.env is None or spec.problem is not None else environments.problem(spec.env)
    return spec if problem is None else msgspec.structs.replace(spec, problem=problem)


def is_checkout(root: Path) -> bool:
    """Whether the folder that holds our package holds no libraries beside it."""
    return root.name not in ("site-packages", "dist-packages")


def package_path(folder: Path, package: Path = PACKAGE) -> Path:
    """A folder that our package can be imported from by another interpreter, without the libraries that it is
    installed beside. folder: of the environments; a link is made there for an installed package."""
    if is_checkout(package.parent):
        return package.parent
    alone = folder / ".packages" / hashlib.sha256(str(package).encode()).hexdigest()[:16]
    alone.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (alone / package.name).symlink_to(package)
    return alone
