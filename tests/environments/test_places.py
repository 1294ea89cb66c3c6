"""Where environments are, and what is said of those that are not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from app.catalog import read_catalog
from app.environments.places import STATE, environments_of, package_path, with_environments
from app.environments.shipped import SHIPPED
from app.errors import CatalogError

ROOT = Path(__file__).resolve().parent.parent.parent


def problem(folder: Path, text: str) -> str | None:
    """Of the one entry of that file, with `folder` as the cache."""
    (folder / "models.yaml").write_text(text)
    catalog = read_catalog(folder / "models.yaml")
    return with_environments(catalog, environments_of(catalog, folder)).models[0].problem


def test_an_entry_without_its_environment_says_how_to_build_it(tmp_path: Path) -> None:
    """One that is shipped, one that nobody knows, one that is declared; once it is there, nothing."""
    entry = "models: [{task: ner, env: %s}]\n"
    assert "`pipeserve env create optimum`" in (problem(tmp_path, entry % "optimum") or "")
    assert 'did you mean "optimum"?' in (problem(tmp_path, entry % "optimun") or "")
    assert "`pipeserve env create mine --requirements FILE`" in (problem(tmp_path, entry % "mine") or "")
    (tmp_path / "environments" / "optimum").mkdir(parents=True)
    assert "is not built yet" in (problem(tmp_path, entry % "optimum") or "")
    (tmp_path / "environments" / "optimum" / STATE).touch()
    assert problem(tmp_path, entry % "optimum") is None


def test_a_declared_environment_is_relative_to_the_file(tmp_path: Path) -> None:
    """It goes before one of the same name that was built."""
    text = "models: [{task: ner, env: optimum}]\nenvironments: {optimum: {python: mine/bin/python}}\n"
    python = tmp_path / "mine" / "bin" / "python"
    assert f"there is no Python {python}" in (problem(tmp_path, text) or "")
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    assert problem(tmp_path, text) is None
    catalog = read_catalog(tmp_path / "models.yaml")
    # Not resolved: a venv's Python is a link, and knows its environment by where the link lies.
    assert environments_of(catalog, tmp_path).python("optimum") == python


def test_a_name_that_is_no_name_is_an_error_of_form(tmp_path: Path) -> None:
    """It would be a folder elsewhere."""
    with pytest.raises(CatalogError, match="cannot name an environment"):
        problem(tmp_path, "models: [{task: ner, env: ../x}]")
    with pytest.raises(CatalogError, match="environments.mine.python: "):
        problem(tmp_path, "models: [{task: ner}]\nenvironments: {mine: {python: 3}}")


def test_an_installed_package_is_linked_alone(tmp_path: Path) -> None:
    """So that another interpreter finds it and none of the libraries beside it; a checkout is found as it is."""
    package = tmp_path / "site-packages" / "app"
    package.mkdir(parents=True)
    (tmp_path / "site-packages" / "torch").mkdir()
    found = package_path(tmp_path / "environments", package)
    assert package_path(tmp_path / "environments", package) == found
    assert [path.name for path in found.iterdir()] == ["app"]
    assert (found / "app").resolve() == package
    assert package_path(tmp_path / "environments") == ROOT


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_requirements_are_pinned_and_fit_the_package(name: str) -> None:
    """What the package requires of a library holds in its environments as well, but for those that are theirs."""
    lines = SHIPPED[name].requirements.read_text().splitlines()
    pinned = [Requirement(line) for line in lines if re.match(r"\w", line)]
    versions = {one.name.lower().replace("_", "-"): str(one.specifier).removeprefix("==") for one in pinned}
    assert all(str(one.specifier).startswith("==") for one in pinned)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        wanted = Requirement(line)
        key = wanted.name.lower().replace("_", "-")
        if key in versions:
            assert wanted.specifier.contains(Version(versions[key])), line
