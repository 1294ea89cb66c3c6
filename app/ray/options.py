"""What an entry of models.yaml asks of a Ray cluster: the options of its deployment, and what its replica gets."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

import msgspec

from app.catalog import Catalog, ModelSpec

REQUESTS_PER_BATCH = 4
"""Requests that a replica holds for each that fits one of its batches: one that is computed, one that is prepared,
and what comes while they are. More wait at the ingress, for whichever replica is free first."""
MIN_REQUESTS = 32
"""Of a replica, whatever its batch: the ingress hears of room only when it looks, and a replica whose requests take a
millisecond would wait for it."""
MAX_PAUSE_S = 0.05
"""Of an ingress between two looks; Serve's own limit is ten times that, in which a busy replica runs dry."""
INGRESS_REQUESTS = 4096
DOWNSCALE_DELAY_S = 300.0
"""Of models that are never unloaded."""
_MIN_LOOK_BACK_S = 12.0  # Serve's handles report every 10 s
_DRAIN_MARGIN_S = 5.0
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def deployment_name(model_id: str) -> str:
    """Serve makes files and actors of this name."""
    name = _NOT_IN_A_NAME.sub("-", model_id)
    return name if name == model_id else f"{name}-{hashlib.sha256(model_id.encode()).hexdigest()[:8]}"


def num_gpus(spec: ModelSpec) -> float:
    """What a replica gets. A model that names no device computes on the CPU unless `ray: {num_gpus}` says otherwise:
    where it will be is not known when it is asked for."""
    if spec.ray.num_gpus is not None:
        return spec.ray.num_gpus
    if isinstance(spec.device_map, dict):
        named = {str(device) for device in spec.device_map.values()}
    else:
        named = set(spec.devices) or {spec.device or "cpu"}
    accelerators = named - {"cpu"}
    return float(max(1, len(accelerators) // spec.replicas)) if accelerators else 0.0


def num_cpus(spec: ModelSpec) -> float:
    return spec.ray.num_cpus if spec.ray.num_cpus is not None else float(spec.threads or 1)


def replica_range(spec: ModelSpec) -> tuple[int, int]:
    """(least, most) replicas of the model."""
    is_unloaded = spec.keep_alive_s >= 0 and not spec.pinned
    if spec.scaling is None:
        return (0 if is_unloaded else spec.replicas), spec.replicas
    least = spec.scaling.min_replicas
    if least is None:
        least = 0 if is_unloaded else 1
    return least, spec.scaling.max_replicas


def deployment_options(spec: ModelSpec, *, drain_s: float) -> dict[str, Any]:
    """For `serve.deployment(...).options(...)`."""
    least, most = replica_range(spec)
    batch = spec.batch.max_items
    options: dict[str, Any] = {
        "name": deployment_name(spec.id),
        "ray_actor_options": _actor_options(spec),
        "max_ongoing_requests": max(MIN_REQUESTS, REQUESTS_PER_BATCH * batch),
        "request_router_config": {"max_backoff_s": MAX_PAUSE_S},
        "max_queued_requests": spec.queue.max_items,
        "graceful_shutdown_timeout_s": drain_s + _DRAIN_MARGIN_S,
    }
    if least == most:
        return {**options, "num_replicas": most}
    delay_s = spec.keep_alive_s if spec.keep_alive_s >= 0 else DOWNSCALE_DELAY_S
    return {
        **options,
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            "initial_replicas": max(least, int(spec.preload)),
            "target_ongoing_requests": float(batch),
            "upscale_delay_s": spec.ray.upscale_delay_s,
            "downscale_delay_s": delay_s,
            "look_back_period_s": max(_MIN_LOOK_BACK_S, spec.ray.upscale_delay_s),
        },
    }


def _actor_options(spec: ModelSpec) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": num_cpus(spec), "num_gpus": num_gpus(spec)}
    if spec.ray.resources:
        options["resources"] = dict(spec.ray.resources)
    if spec.memory_bytes is not None and not options["num_gpus"]:
        options["memory"] = spec.memory_bytes
    return options


def replica_catalog(catalog: Catalog, spec: ModelSpec) -> Catalog:
    """The catalogue of a replica: the one model, there for as long as the replica is, on the devices that Ray gives it,
    which it numbers from 0."""
    gpus = num_gpus(spec)
    count = math.ceil(gpus)
    kind = next((one.partition(":")[0] for one in (*spec.devices, spec.device or "cpu") if one != "cpu"), "cuda")
    places = tuple(f"{kind}:{number}" for number in range(count))
    only = msgspec.structs.replace(
        spec,
        replicas=1,
        keep_alive_s=-1.0,
        pinned=True,
        preload=True,
        device=places[0] if count == 1 else None if count else "cpu",
        devices=places if count > 1 else (),
    )
    budget: dict[str, int | float] = {places[0]: gpus} if 0 < gpus < 1 else {}
    return msgspec.structs.replace(catalog, models=(only,), budget=budget)


def replica_cores(spec: ModelSpec) -> int:
    """As many as its fleet may think there are: it keeps one for itself."""
    return 1 + max(1, spec.threads or int(num_cpus(spec)))
