"""What a client may have loaded and chosen, and how names of adapters are agreed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2 as httpx
import msgspec
import pytest

from app.api.adapters import allowed_adapter
from app.api.names import agreed
from app.catalog import AdapterSpec, ModelSpec
from app.errors import InvalidInput, ModelFailed
from app.fleet.directory import Directory
from tests.api.conftest import LiveServer


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
    get = Directory(specs).get
    assert agreed(get, [None, "m"]) == "m" and agreed(get, [None, ""]) is None
    assert agreed(get, ["m", "sql"]) == agreed(get, ["m:sql", "m", "sql"]) == "m:sql"
    for names in (["m", "other"], ["m:sql", "poet"], ["sql", "other"]):
        with pytest.raises(InvalidInput, match="both asked for"):
            agreed(get, names)


SQL = AdapterSpec(id="sql", path="acme/sql")


def have_adapters(server: LiveServer, *names: str, **more: Any) -> None:
    """Entries of these names take some, with `sql` on the first."""
    for name in names:
        adapters = (SQL,) if name == names[0] else ()
        spec = server.fleet.specs[name]
        server.fleet.specs[name] = msgspec.structs.replace(spec, adapters=adapters, adapters_allow=("acme/*",), **more)


def test_job_carries_the_adapter_that_was_chosen(server: LiveServer) -> None:
    """The answer says which."""
    have_adapters(server, "reviews")
    for path, body in (
        ("/v1/text-classification", {"model": "sql"}),
        ("/v1/text-classification?model=rev:sql", {}),
        ("/models/reviews:sql", {}),
        ("/models/reviews:sql/pipeline/text-classification", {"model": "reviews"}),
        ("/v2/models/reviews:sql/infer", None),
    ):
        tensor = {"name": "inputs", "shape": [1], "datatype": "BYTES", "data": ["a"]}
        answer = server.post(path, {"inputs": [tensor]} if body is None else {"inputs": "a", **body})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-model"] == "reviews:sql"
        assert server.fleet.jobs[-1].adapter == SQL and server.fleet.jobs[-1].model_id == "reviews"
    assert server.post("/v1/text-classification", {"inputs": "a"}).headers["x-model"] == "reviews"
    assert server.fleet.jobs[-1].adapter is None


def test_parameter_of_text_generation_inference_chooses(server: LiveServer) -> None:
    """Also where the model's own `parameters:` say it; it may not contradict the name."""
    have_adapters(server, "tiny-text-generation")
    body = {"model": "tiny-text-generation", "inputs": "a", "parameters": {"adapter_id": "sql"}}
    for path in ("/generate", "/v1/text-generation"):
        assert server.post(path, body).headers["x-model"] == "tiny-text-generation:sql"
        assert server.fleet.jobs[-1].adapter == SQL and "adapter_id" not in server.fleet.jobs[-1].parameters
    other = msgspec.structs.replace(SQL, id="other")
    spec = server.fleet.specs["tiny-text-generation"]
    server.fleet.specs[spec.id] = msgspec.structs.replace(
        spec, adapters=(SQL, other), parameters={"adapter_id": "other"}
    )
    server.post("/v1/text-generation", {"model": spec.id, "inputs": "a"})
    assert server.fleet.jobs[-1].adapter == other
    answer = server.post("/v1/text-generation", {**body, "model": "other"})
    assert server.error_of(answer)[:2] == (422, "validation") and "both asked for" in answer.text


def load(server: LiveServer, **body: Any) -> httpx.Response:
    return server.post("/v1/load_lora_adapter", {"lora_name": "new", "lora_path": "acme/new", **body})


def test_only_model_that_takes_adapters_need_not_be_named(server: LiveServer) -> None:
    """Several must be; none says how to have one."""
    assert "declare `adapters_folder`" in load(server).json()["error"]["message"]
    have_adapters(server, "reviews")
    assert load(server).text == "Success: LoRA adapter 'new' added successfully."
    assert [one.id for one in server.fleet.specs["reviews"].adapters] == ["sql", "new"]
    have_adapters(server, "reviews", "ner")
    answer = load(server)
    assert answer.status_code == 400 and "reviews, ner" in answer.json()["error"]["message"]
    assert load(server, model="ner").status_code == 200
    below = server.post("/models/mask/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "acme/x"})
    assert below.status_code == 400 and '"mask" takes no adapters' in below.json()["error"]["message"]


def test_fields_of_vllm_are_taken_or_refused(server: LiveServer) -> None:
    have_adapters(server, "reviews")
    assert load(server, is_3d_lora_weight=False).status_code == 200
    assert load(server, is_3d_lora_weight=True).json()["error"]["param"] == "is_3d_lora_weight"
    assert load(server, lora_name="").json()["error"]["param"] == "lora_name"
    unload = {"lora_name": "sql", "lora_int_id": 3}
    assert server.post("/v1/unload_lora_adapter", unload).text == "Success: LoRA adapter 'sql' removed successfully."
    gone = server.post("/v1/unload_lora_adapter", {**unload, "model": "reviews"})
    assert gone.status_code == 404 and "has no adapter" in gone.json()["error"]["message"]
    assert server.post("/v1/unload_lora_adapter", {"lora_name": "reviews"}).status_code == 404


def test_bad_adapter_is_the_clients_matter_a_failed_model_is_not(server: LiveServer) -> None:
    have_adapters(server, "reviews")
    server.fleet.error = ModelFailed("it does not fit")
    answer = load(server)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "lora_path"
    server.fleet.fail("reviews", "its weights are broken")
    assert load(server).status_code == 503
