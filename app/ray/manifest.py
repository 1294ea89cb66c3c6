"""The RayService that KubeRay runs: a Ray cluster and the application on it, from a models.yaml. Needs neither ray nor
a cluster."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from app.catalog import Catalog, ModelSpec
from app.ray.options import num_cpus, num_gpus, replica_range

RAY_VERSION = "2.60.0"
"""The version that the tests ran with; that of the image must be the same."""
PORT = 8000
USER = 10001  # of the Dockerfile
_MODELS = "/etc/pipeserve"
_CACHE = "/cache"
_SPARE_CPUS = 1  # on every node: Serve's proxy, and the ingress on one of them
_GRACE_S = 60


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chooses; the rest follows from the models. cpus: of a node; None: as many as its largest
    replica needs. gpus: of a node that has some. most: nodes of each kind; None: as many as all replicas need."""

    image: str
    name: str = "pipeserve"
    cpus: int | None = None
    memory: str = "16Gi"
    gpus: int = 1
    most: int | None = None
    cache_claim: str | None = None  # a volume for the caches that all nodes may write; None: each has its own


def ray_service(catalog: Catalog, text: str, nodes: Nodes) -> str:
    """YAML of two documents. text: of the models.yaml that the catalogue was read from."""
    # Also those that cannot be served here: their folders may be in the image.
    on_gpus = [spec for spec in catalog.models if num_gpus(spec)]
    on_cpus = [spec for spec in catalog.models if not num_gpus(spec)]
    groups = [_worker_group("cpu", on_cpus, nodes, gpus=0, spare_cpus=_SPARE_CPUS)]
    if on_gpus:
        groups.append(_worker_group("gpu", on_gpus, nodes, gpus=nodes.gpus, spare_cpus=_SPARE_CPUS))
    service = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": nodes.name},
        "spec": {
            "serveConfigV2": yaml.safe_dump(_serve_config(text), sort_keys=False),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "enableInTreeAutoscaling": True,
                "headGroupSpec": {
                    # No replica beside what the whole cluster depends on.
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
                    "template": _pod(nodes, cpus=2, gpus=0, is_head=True),
                },
                "workerGroupSpecs": groups,
            },
        },
    }
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{nodes.name}-models"},
        "data": {"models.yaml": text},
    }
    return yaml.dump_all([config, service], Dumper=_Dumper, sort_keys=False, width=120)


def _serve_config(text: str) -> dict[str, Any]:
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORT},
        "applications": [
            {
                "name": "pipeserve",
                "route_prefix": "/",
                "import_path": "app.ray:build",
                "args": {
                    "models": f"{_MODELS}/models.yaml",
                    "cache_dir": f"{_CACHE}/pipeserve",
                    "log_format": "json",
                    # Another one has Serve build the application anew: it does not look into the file.
                    "checksum": hashlib.sha256(text.encode()).hexdigest()[:16],
                },
            }
        ],
    }


def _worker_group(name: str, specs: Iterable[ModelSpec], nodes: Nodes, *, gpus: int, spare_cpus: int) -> dict[str, Any]:
    """So many nodes as the least replicas need, up to as many as the most do."""
    specs = list(specs)
    cpus = nodes.cpus or math.ceil(max((num_cpus(spec) for spec in specs), default=1.0)) + spare_cpus
    fewest, most = (_nodes_for(specs, which, cpus=cpus - spare_cpus, gpus=gpus) for which in (0, 1))
    most = max(1, most if nodes.most is None else nodes.most)
    is_cpu = not gpus
    fewest = min(most, max(fewest, int(is_cpu)))  # the ingress is on one of those without GPUs
    return {
        "groupName": name,
        "replicas": fewest,
        "minReplicas": fewest,
        "maxReplicas": most,
        "rayStartParams": {},
        "template": _pod(nodes, cpus=cpus, gpus=gpus, is_head=False),
    }


def _nodes_for(specs: Iterable[ModelSpec], which: int, *, cpus: int, gpus: int) -> int:
    """which: 0 for the least replicas, 1 for the most."""
    totals = [
        (num_cpus(spec) * number, num_gpus(spec) * number) for spec in specs for number in [replica_range(spec)[which]]
    ]
    by_cpus = sum(needed for needed, _ in totals) / max(1, cpus)
    by_gpus = sum(needed for _, needed in totals) / gpus if gpus else 0.0
    return math.ceil(max(by_cpus, by_gpus))


def _pod(nodes: Nodes, *, cpus: int, gpus: int, is_head: bool) -> dict[str, Any]:
    limits: dict[str, Any] = {"memory": nodes.memory}
    if gpus:
        limits["nvidia.com/gpu"] = gpus
    ports = [(PORT, "serve")]
    if is_head:
        ports += [(6379, "gcs-server"), (8265, "dashboard"), (10001, "client")]
    cache: dict[str, Any] = {"emptyDir": {}}
    if nodes.cache_claim is not None:
        cache = {"persistentVolumeClaim": {"claimName": nodes.cache_claim}}
    return {
        "spec": {
            "terminationGracePeriodSeconds": _GRACE_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "ray-head" if is_head else "ray-worker",
                    "image": nodes.image,
                    "ports": [{"containerPort": number, "name": name} for number, name in ports],
                    "env": [
                        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
                        {"name": "HF_HOME", "value": f"{_CACHE}/huggingface"},
                        _of_secret("PIPESERVE_API_KEYS", nodes.name),
                        _of_secret("HF_TOKEN", nodes.name),
                    ],
                    "resources": {"requests": {"cpu": str(cpus), "memory": nodes.memory}, "limits": limits},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [
                        {"name": "models", "mountPath": _MODELS, "readOnly": True},
                        {"name": "cache", "mountPath": _CACHE},
                    ],
                }
            ],
            "volumes": [
                {"name": "models", "configMap": {"name": f"{nodes.name}-models"}},
                {"name": "cache", **cache},
            ],
        }
    }


def _of_secret(variable: str, name: str) -> dict[str, Any]:
    return {
        "name": variable,
        "valueFrom": {"secretKeyRef": {"name": f"{name}-secrets", "key": variable, "optional": True}},
    }


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as people write them, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
