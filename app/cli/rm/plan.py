"""What `pipeserve rm` removes, and nothing outside the caches: repositories in the Hub's, exports and environments in
ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.utils import HFCacheInfo  # type: ignore[attr-defined]

    from app.catalog import Catalog, ModelSpec


@dataclass(frozen=True, kw_only=True)
class Removal:
    """kind: files, export or environment. repository: whose it is; None: of an entry that is a folder. remove: raises
    ModelFailed."""

    kind: str
    name: str
    num_bytes: int
    remove: Callable[[], None]
    repository: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One name on the command line. place: a repository, or an absolute folder. revision: None: all of them. entry:
    of models.yaml, if it is one."""

    name: str
    place: str
    revision: str | None = None
    entry: ModelSpec | None = None

    @property
    def is_folder(self) -> bool:
        return Path(self.place).is_absolute()


def find_wanted(name: str, revision: str | None, catalog: Catalog) -> Wanted:
    """Raises ModelFailed."""
    from app.errors import ModelFailed
    from app.hub import is_repository

    for spec in catalog.models:
        names = (spec.id, *spec.aliases)
        if name in names:
            return Wanted(name=name, place=spec.model, revision=revision or spec.revision, entry=spec)
        for adapter in spec.adapters:
            if name in (adapter.id, *(f"{one}:{adapter.id}" for one in names)):
                return Wanted(name=name, place=adapter.path, revision=revision or adapter.revision)
    if Path(name).expanduser().is_dir():
        raise ModelFailed(f"{name} is a folder of yours: rm touches nothing but the caches.")
    if not is_repository(name) and "/" in name:
        raise ModelFailed(f"{name} is neither an entry nor the id of a repository.")
    return Wanted(name=name, place=name, revision=revision)


def places_of(spec: ModelSpec) -> set[str]:
    """All repositories and folders that it names."""
    from app.catalog import PREPROCESSORS

    found = (spec.model, *(getattr(spec, key) for key in PREPROCESSORS), *(one.path for one in spec.adapters))
    return {place for place in found if place is not None}


def scan() -> HFCacheInfo | None:
    """The Hub's cache; None: there is none."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir()
    except CacheNotFound:
        return None


def unused(cache: HFCacheInfo | None, catalog: Catalog) -> list[Wanted]:
    """Models in the Hub's cache that no entry names."""
    declared = {place for spec in catalog.models for place in places_of(spec)}
    found = {repo.repo_id for repo in cache.repos if repo.repo_type == "model"} if cache is not None else set()
    return [Wanted(name=name, place=name) for name in sorted(found - declared)]


def files_of(wanted: Wanted, cache: HFCacheInfo | None) -> list[Removal]:
    """What the Hub's cache has of it. Raises ModelFailed."""
    if wanted.is_folder or cache is None or cache.cache_dir is None:
        return []
    repo = next((one for one in cache.repos if one.repo_type == "model" and one.repo_id == wanted.place), None)
    if repo is None:
        return _damaged(wanted, cache.cache_dir)
    revisions = [
        one for one in repo.revisions if wanted.revision is None or wanted.revision in (one.commit_hash, *one.refs)
    ]
    if not revisions:
        return []
    alone = replace(cache, repos=frozenset({repo}))  # copies of a repository have its commits
    strategy = alone.delete_revisions(*(one.commit_hash for one in revisions))
    paths = [*strategy.repos, *strategy.snapshots, *strategy.refs, *strategy.blobs]
    _check_inside(paths, cache.cache_dir)
    is_all = len(revisions) == len(repo.revisions)
    at = "" if is_all else " at " + ", ".join(sorted(one.commit_hash[:12] for one in revisions))

    def remove() -> None:
        from app.errors import ModelFailed

        try:
            strategy.execute()
        except OSError as error:
            raise ModelFailed(f"{wanted.place} is not removed: {error}.") from None
        if left := [path for path in paths if path.exists()]:  # of which huggingface_hub tells nobody but its log
            raise ModelFailed(f"{left[0]} could not be removed: look at who may write there.")

    return [
        Removal(
            kind="files",
            name=f"{wanted.place}{at}",
            num_bytes=int(strategy.expected_freed_size),
            remove=remove,
            repository=wanted.place,
        )
    ]


def exports_of(wanted: Wanted, cache_dir: Path) -> Iterator[Removal]:
    """Exports that this machine made of its files."""
    from app.cli.exports import fingerprints, name_of_export
    from app.made_files import Kept, MadeFiles

    made = MadeFiles(cache_dir)
    if wanted.is_folder:
        folder = Path(wanted.place)
        sources = fingerprints(folder) if folder.is_dir() else set()
        of_hub = None
    else:
        sources = {source for folder in _snapshots(wanted.place) for source in fingerprints(folder)}
        of_hub = f"{wanted.place.replace('/', '--')}@"

    def removal(kept: Kept) -> Removal:
        def remove() -> None:
            from app.errors import ModelFailed

            try:
                made.remove(kept)
            except OSError as error:
                raise ModelFailed(f"{kept.folder} is not removed: {error}.") from None

        return Removal(
            kind="export",
            name=f"{wanted.place} as {name_of_export(kept.recipe)}, for {kept.recipe.task}",
            num_bytes=kept.num_bytes,
            remove=remove,
            repository=None if wanted.is_folder else wanted.place,
        )

    for kept in made.all():
        source = kept.recipe.source
        if source in sources or (of_hub is not None and source.startswith(of_hub)):
            yield removal(kept)


def environment_of(wanted: Wanted, catalog: Catalog, cache_dir: Path) -> Iterator[Removal]:
    """The one that this server built for the entry's workers. Raises ModelFailed where others have theirs in it."""
    from app.environments import building
    from app.environments.places import environments_folder
    from app.errors import ModelFailed

    entry = wanted.entry
    if entry is None or entry.env is None or entry.env in catalog.environments:
        return
    name, folder = entry.env, environments_folder(cache_dir)
    if not (folder / name).is_dir():
        return
    if others := [spec.id for spec in catalog.models if spec.env == name and spec.id != entry.id]:
        raise ModelFailed(f"The environment {name} is that of {', '.join(others)} too: leave --environment out.")

    def remove() -> None:
        try:
            building.remove(name, folder)
        except building.EnvironmentProblem as error:
            raise ModelFailed(str(error)) from None

    yield Removal(kind="environment", name=name, num_bytes=building.size_of(folder / name), remove=remove)


def also_named_by(wanted: Wanted, catalog: Catalog) -> list[str]:
    """Entries beside its own whose files these are as well."""
    own = None if wanted.entry is None else wanted.entry.id
    return [spec.id for spec in catalog.models if wanted.place in places_of(spec) and spec.id not in (own, wanted.name)]


def _damaged(wanted: Wanted, cache_dir: Path) -> list[Removal]:
    """What a download that was cut off left, which huggingface_hub does not list: the whole of it."""
    from huggingface_hub.file_download import repo_folder_name

    from app.errors import ModelFailed

    folder = cache_dir / repo_folder_name(repo_id=wanted.place, repo_type="model")
    if not folder.is_dir():
        return []
    _check_inside([folder], cache_dir)

    def remove() -> None:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise ModelFailed(f"{folder} is not removed: {error}.") from None

    return [
        Removal(
            kind="files",
            name=f"{wanted.place} (not whole)",
            num_bytes=_size(folder),
            remove=remove,
            repository=wanted.place,
        )
    ]


def _check_inside(paths: Iterable[Path], cache_dir: Path) -> None:
    """A cache may hold links that somebody made to files of his own. Raises ModelFailed."""
    from app.errors import ModelFailed

    root = cache_dir.resolve()
    for path in paths:
        if not (path.parent.resolve() / path.name).is_relative_to(root):
            raise ModelFailed(f"{path} is not in the cache {root}, though it is linked from there: nothing is removed.")
        if path.is_symlink() and path.is_dir():
            raise ModelFailed(f"{path} is a link to {path.resolve()}: nothing is removed.")


def _snapshots(repository: str) -> Sequence[Path]:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "snapshots"
    return list(folder.iterdir()) if folder.is_dir() else []


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
