"""A Ray cluster of two nodes on this machine, for tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ray.cluster import RayCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    # Read when ray is imported: the autoscaler hears often enough for a test, and a busy machine has time.
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    }
    with RayCluster(tmp_path_factory.mktemp("ray")) as running:
        yield running


@pytest.fixture
def deploy(cluster: RayCluster, tmp_path: Path) -> Iterator[Any]:
    """Serves entries whose workers are scripted, until the test ends."""
    yield lambda *entries: cluster.deploy(tmp_path, entries, is_scripted=True)
    cluster.undeploy()
