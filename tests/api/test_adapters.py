"""What a client may have loaded, and how names of adapters are agreed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.api.adapters import allowed_adapter
from app.api.names import agreed
from app.catalog import AdapterSpec, ModelSpec
from app.errors import InvalidInput
from app.fleet.directory import Directory


def spec_of(folder: Path | None = None, *patterns: str) -> ModelSpec:
    return ModelSpec(
        id="m", model="m", adapters_folder=None if folder is None else str(folder), adapters_allow=patterns
    )


def test_folders_below_the_declared_one_are_allowed(tmp_path: Path) -> None:
    """By their whole path, or from the declared folder."""
    inside = tmp_path / "allowed" / "team" / "sql"
    inside.mkdir(parents=True)
    spec = spec_of(tmp_path / "allowed")
    for path in ("team/sql", "./team/../team/sql", str(inside)):
        assert allowed_adapter(spec, "sql", path) == AdapterSpec(id="sql", path=str(inside))


@pytest.mark.parametrize("path", ["..", ".", "", "../secret", "link", "team/../../secret", "nothing", "a\0b", "/"])
def test_no_other_folder_is(tmp_path: Path, path: str) -> None:
    """Not by dots, not by a link."""
    (tmp_path / "allowed" / "team").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match="no such folder below the `adapters_folder`"):
        allowed_adapter(spec_of(tmp_path / "allowed"), "sql", path)


def test_repositories_are_allowed_by_pattern(tmp_path: Path) -> None:
    """A pattern allows no folder."""
    spec = spec_of(None, "acme/*", "other/one")
    assert allowed_adapter(spec, "sql", "acme/sql").path == "acme/sql"
    assert allowed_adapter(spec, "one", "other/one").path == "other/one"
    for path in ("other/two", "acme", "acme/a/b", "acme/../x", str(tmp_path), "https://acme/x"):
        with pytest.raises(InvalidInput, match="no pattern of `adapters_allow`"):
            allowed_adapter(spec, "sql", path)


def test_keys_that_would_allow_are_named() -> None:
    with pytest.raises(InvalidInput, match="declare `adapters_folder` .* or `adapters_allow`") as raised:
        allowed_adapter(spec_of(), "sql", "sql")
    assert raised.value.param == "lora_path"


def test_names_agree_where_one_says_more() -> None:
    """Path, query and body: the model in one and its adapter in another is the adapter."""
    adapters = (AdapterSpec(id="sql", path="/sql"), AdapterSpec(id="poet", path="/poet"))
    specs = [ModelSpec(id="m", model="m", adapters=adapters), ModelSpec(id="other", model="m")]
    get = Directory(lambda: specs).get
    assert agreed(["m"], get).name == "m"
    assert agreed(["m", "sql"], get).name == agreed(["m:sql", "m", "sql"], get).name == "m:sql"
    for names in (["m", "other"], ["m:sql", "poet"], ["sql", "other"]):
        with pytest.raises(InvalidInput, match="both asked for"):
            agreed(names, get)
