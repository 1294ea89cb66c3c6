"""`pipeserve serve --ray` and `pipeserve ray-manifest`, as processes; what starts no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from app.errors import CatalogError
from app.installed import versions_of
from app.ray.arguments import read_arguments
from bench.processes import free_port
from tests.cli.test_commands import pipeserve
from tests.server import RunningServer, wait_until


def test_one_machine_never_imports_ray() -> None:
    """Neither the library nor our package about it, whether it is installed or not."""
    code = "import sys, app.main, app.cli; print([name for name in sys.modules if name in ('ray', 'app.ray')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.skipif("ray" in versions_of(["ray"]), reason="the extra `ray` is installed")
def test_missing_extra_is_named() -> None:
    """With what to install."""
    done = pipeserve("serve", "--ray")
    assert done.returncode == 1
    assert "pip install 'pipeserve[ray]'" in done.stderr


def test_flags_that_do_not_go_together_are_said() -> None:
    """A cluster without --ray."""
    done = pipeserve("serve", "--ray-address", "auto")
    assert done.returncode == 1
    assert "--ray-address needs --ray." in done.stderr


def test_manifest_is_printed_for_kubectl(tmp_path: Path) -> None:
    """Two documents; a file that is wrong prints none, and says where."""
    file = tmp_path / "models.yaml"
    file.write_text("models: [{task: ner, replicas: {max: 2}}]")
    done = pipeserve("ray-manifest", "--image", "mine:1", "--models", str(file), "--name", "ner")
    assert done.returncode == 0, done.stderr
    config, service = yaml.safe_load_all(done.stdout)
    assert (config["kind"], service["kind"], service["metadata"]["name"]) == ("ConfigMap", "RayService", "ner")
    assert "mine:1" in done.stdout
    file.write_text("models: [{taks: ner}]")
    wrong = pipeserve("ray-manifest", "--image", "mine:1", "--models", str(file))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert 'unknown key "taks"' in wrong.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif("ray" not in versions_of(["ray"]), reason="the extra `ray` is not installed")
def test_cluster_of_its_own_begins_and_ends_with_the_command(tmp_path: Path) -> None:
    """Without a word of `ray start`: it serves, SIGTERM ends it, and none of its processes is left."""
    (tmp_path / "models.yaml").write_text("models: [{id: answers, task: question-answering, model: acme/answers}]")
    with RunningServer(tmp_path / "models.yaml", "--ray", "--port", str(free_port()), cache_dir=tmp_path) as server:
        wait_until(lambda: any("serving on" in line for line in server.log), 240, "the start")
        assert server.get("/v1/models").json()["data"][0]["state"] == "unloaded"
        started = server.descendants()
        assert server.stop() == 0, "".join(server.log)
        _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []


def test_wrong_arguments_of_an_application_are_named() -> None:
    """One sentence each, and what there is."""
    with pytest.raises(CatalogError) as error:
        read_arguments({"modles": "x", "drain": "soon"})
    assert "modles: " in str(error.value)
    assert "ingress_replicas" in str(error.value)
    assert "drain: " in str(error.value)
