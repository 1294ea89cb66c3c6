"""What an entry asks of a cluster, and what its replica gets. Without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.catalog import Catalog, ModelSpec, read_catalog
from app.ray.options import (
    deployment_name,
    deployment_options,
    num_cpus,
    num_gpus,
    replica_catalog,
    replica_cores,
    replica_range,
)


def entry(tmp_path: Path, keys: str) -> ModelSpec:
    file = tmp_path / "models.yaml"
    file.write_text(f"models: [{{model: acme/reviews, task: text-classification, {keys}}}]")
    (spec,) = read_catalog(file).models
    return spec


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("keep_alive: 5m", (0, 1)),
        ("keep_alive: -1", (1, 1)),
        ("pinned: true", (1, 1)),
        ("replicas: 3", (0, 3)),
        ("replicas: 3, pinned: true", (3, 3)),
        ("replicas: {max: 4}", (0, 4)),
        ("replicas: {max: 4}, keep_alive: -1", (1, 4)),
        ("replicas: {min: 2, max: 4}", (2, 4)),
        ("replicas: {min: 0, max: 4}, pinned: true", (0, 4)),
    ],
)
def test_replicas_follow_from_the_range_and_from_keep_alive(
    tmp_path: Path, keys: str, expected: tuple[int, int]
) -> None:
    """An explicit minimum counts; without one, what is unloaded after a while goes to zero."""
    assert replica_range(entry(tmp_path, keys)) == expected


@pytest.mark.parametrize(
    ("keys", "cpus", "gpus"),
    [
        ("device: cpu", 1, 0),
        ("threads: 6", 6, 0),
        ("threads: 6, ray: {num_cpus: 2}", 2, 0),
        ("device: cuda", 1, 1),
        ("device: 1", 1, 1),
        ("devices: [0, 1]", 1, 2),
        ("devices: [0, 1, 2, 3], replicas: 2", 1, 2),
        ("device_map: {a: 0, b: 1}", 1, 2),
        ("ray: {num_gpus: 0.25}", 1, 0.25),
        ("device: cuda, ray: {num_gpus: 0.5}", 1, 0.5),
    ],
)
def test_resources_follow_from_threads_and_devices(tmp_path: Path, keys: str, cpus: float, gpus: float) -> None:
    """Unless `ray:` says otherwise."""
    spec = entry(tmp_path, keys)
    assert (num_cpus(spec), num_gpus(spec)) == (cpus, gpus)


def test_scaling_follows_the_batch_and_keep_alive(tmp_path: Path) -> None:
    """As many requests for each replica as fit a batch; a replica goes when it was idle for `keep_alive`."""
    keys = "replicas: {max: 8}, batch: {max_items: 16}, keep_alive: 90s, queue: {max_items: 500}"
    options = deployment_options(entry(tmp_path, f"{keys}, ray: {{upscale_delay: 20s}}"), drain_s=30.0)
    assert options["autoscaling_config"] == {
        "min_replicas": 0,
        "max_replicas": 8,
        "initial_replicas": 0,
        "target_ongoing_requests": 16.0,
        "upscale_delay_s": 20.0,
        "downscale_delay_s": 90.0,
        "look_back_period_s": 20.0,
    }
    assert (options["max_ongoing_requests"], options["max_queued_requests"]) == (64, 500)
    assert options["graceful_shutdown_timeout_s"] == 35.0


def test_preload_and_fixed_numbers(tmp_path: Path) -> None:
    """A model to be loaded at the start has a replica at the start; a fixed number is not scaled."""
    options = deployment_options(entry(tmp_path, "preload: true"), drain_s=30.0)
    assert options["autoscaling_config"]["initial_replicas"] == 1
    fixed = deployment_options(entry(tmp_path, "replicas: 2, pinned: true"), drain_s=30.0)
    assert fixed["num_replicas"] == 2
    assert "autoscaling_config" not in fixed


def test_actor_asks_for_resources_and_memory(tmp_path: Path) -> None:
    """Named resources as they are; memory of the machine only where the model is on it."""
    asked = deployment_options(entry(tmp_path, "memory: 1GiB, ray: {resources: {fast: 1}}"), drain_s=1.0)
    assert asked["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 0.0, "resources": {"fast": 1.0}, "memory": 2**30}
    on_gpu = deployment_options(entry(tmp_path, "memory: 1GiB, device: cuda"), drain_s=1.0)
    assert on_gpu["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 1.0}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("device: cuda:3", {"device": "cuda:0", "devices": (), "budget": {}}),
        ("devices: [4, 5]", {"device": None, "devices": ("cuda:0", "cuda:1"), "budget": {}}),
        ("ray: {num_gpus: 0.25}", {"device": "cuda:0", "devices": (), "budget": {"cuda:0": 0.25}}),
        ("keep_alive: 1m", {"device": "cpu", "devices": (), "budget": {}}),
        ("device: xpu:1", {"device": "xpu:0", "devices": (), "budget": {}}),
    ],
)
def test_replica_has_its_devices_from_zero_on(tmp_path: Path, keys: str, expected: dict[str, Any]) -> None:
    """As Ray shows them to it; a share of a GPU is a share of its memory. The model stays as long as the replica."""
    spec = entry(tmp_path, keys)
    catalog = replica_catalog(Catalog(models=(spec, spec), budget={"cpu": 5}), spec)
    (only,) = catalog.models
    found = {"device": only.device, "devices": only.devices, "budget": catalog.budget}
    assert found == expected
    assert (only.replicas, only.keep_alive_s, only.pinned) == (1, -1.0, True)


def test_replica_computes_with_the_cpus_that_it_has(tmp_path: Path) -> None:
    """Its fleet leaves one of its cores alone."""
    assert replica_cores(entry(tmp_path, "threads: 4")) == 5
    assert replica_cores(entry(tmp_path, "ray: {num_cpus: 0.5}")) == 2


def test_names_are_fit_for_files_and_differ() -> None:
    """Serve makes files of them; two models never have the same."""
    assert deployment_name("reviews-1.5_b") == "reviews-1.5_b"
    names = {deployment_name(name) for name in ("acme/a", "acme-a", "acme#a", "acme a")}
    assert len(names) == 4
    assert all("/" not in name and "#" not in name for name in names)
