"""The RayService of a models.yaml. Without Ray; Kubernetes' own check is of the pods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.catalog import read_catalog
from app.ray.arguments import Arguments, read_arguments
from app.ray.manifest import RAY_VERSION, Nodes, ray_service
from tests.deploy.tools import DEPLOY, run

MODELS = """models:
  - {id: small, task: text-classification, model: acme/small, threads: 2, replicas: {min: 1, max: 6}}
  - {id: large, task: text-generation, model: acme/large, device: cuda, replicas: {min: 2, max: 4}}
  - {id: shared, task: text-generation, model: acme/shared, ray: {num_gpus: 0.5}}
"""


def made(tmp_path: Path, text: str = MODELS, **nodes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    config, service = yaml.safe_load_all(ray_service(read_catalog(file), text, Nodes(image="pipeserve-ray:1", **nodes)))
    return config, service


def groups_of(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}


def test_file_is_in_the_cluster_as_it_is(tmp_path: Path) -> None:
    """Where the application looks for it; a changed file is a changed application."""
    config, service = made(tmp_path)
    assert config["data"]["models.yaml"] == MODELS
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    arguments = read_arguments(application["args"])
    (container,) = groups_of(service)["cpu"]["template"]["spec"]["containers"]
    assert str(arguments.models.parent) in [mount["mountPath"] for mount in container["volumeMounts"]]
    _, other = made(tmp_path, MODELS + "# another\n")
    assert other["spec"]["serveConfigV2"] != service["spec"]["serveConfigV2"]


def test_nodes_are_as_many_as_the_replicas_need(tmp_path: Path) -> None:
    """Of each kind, from the least to the most; the head runs none."""
    _, service = made(tmp_path, cpus=5, gpus=2)
    groups = groups_of(service)
    assert {name: (one["minReplicas"], one["maxReplicas"]) for name, one in groups.items()} == {
        "cpu": (1, 3),  # 1 or 6 replicas of 2 CPUs on nodes of 4
        "gpu": (1, 3),  # 2 or 4 GPUs and a half on nodes of 2
    }
    (container,) = groups["gpu"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_without_gpus_there_are_no_nodes_with_some(tmp_path: Path) -> None:
    """And no more nodes than the operator allows."""
    _, service = made(tmp_path, "models: [{task: ner, replicas: {max: 64}}]", most=4)
    assert {name: one["maxReplicas"] for name, one in groups_of(service).items()} == {"cpu": 4}


def test_kubernetes_takes_the_pods(tmp_path: Path) -> None:
    """Every field of every template."""
    _, service = made(tmp_path, cache_claim="caches")
    cluster = service["spec"]["rayClusterConfig"]
    for number, group in enumerate([cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]):
        file = tmp_path / f"pod-{number}.yaml"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        file.write_text(yaml.safe_dump(pod))
        run("kubernetes-validate", "--strict", file)


def test_serve_takes_its_config(tmp_path: Path) -> None:
    """Ray's own schema."""
    schema = pytest.importorskip("ray.serve.schema", reason="the extra `ray` is not installed")
    _, service = made(tmp_path)
    schema.ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))


def test_example_is_what_the_command_writes(tmp_path: Path) -> None:
    """deploy/ray/service.yaml, of deploy/ray/models.yaml."""
    models = DEPLOY / "ray" / "models.yaml"
    text = models.read_text()
    written = ray_service(read_catalog(models), text, Nodes(image="pipeserve-ray:0.1.0"))
    assert (DEPLOY / "ray" / "service.yaml").read_text() == written


def test_image_has_the_version_that_the_manifest_names() -> None:
    """KubeRay compares them."""
    assert f"ray[serve]=={RAY_VERSION}" in (DEPLOY / "ray" / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say_about_the_image() -> None:
    """Of its Dockerfile."""
    assert run("hadolint", "--no-color", DEPLOY / "ray" / "Dockerfile") == ""


def test_arguments_are_those_of_the_command() -> None:
    """In its words, as text or not."""
    settings = read_arguments(
        {"models": "/m.yaml", "drain": "10s", "max_body_size": "1MiB", "docs": "false", "ingress_replicas": "2"}
    ).settings({"PIPESERVE_API_KEYS": "a-long-enough-secret-of-a-client"})
    assert (str(settings.models), settings.drain_s, settings.max_body_bytes, settings.docs) == (
        "/m.yaml",
        10.0,
        2**20,
        False,
    )
    assert len(settings.keys) == 1
    assert settings.host == "0.0.0.0", "without keys, a client would count as the operator"
    assert set(Arguments.model_fields) >= {"models", "cache_dir", "keys_file"}
