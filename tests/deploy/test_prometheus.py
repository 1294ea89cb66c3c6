"""Prometheus' own tools on our files, and a real Prometheus on a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from typer.testing import CliRunner

from app.cli import cli
from bench.processes import free_port
from tests.contract.conftest import write_catalog
from tests.deploy.tools import DEPLOY, read, run, tool
from tests.server import RunningServer, wait_until

FOLDER = DEPLOY / "prometheus"


def rules() -> list[dict[str, Any]]:
    return [rule for group in read(FOLDER / "rules.yml")["groups"] for rule in group["rules"]]


def test_promtool_accepts_configuration_and_rules() -> None:
    """Syntax, PromQL and templates."""
    run("promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yml")
    assert "SUCCESS" in run("promtool", "check", "rules", FOLDER / "rules.yml")


def test_alerts_come_when_they_should() -> None:
    """On series that are written down in rules.test.yml."""
    assert "SUCCESS" in run("promtool", "test", "rules", FOLDER / "rules.test.yml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    """Once silent and once raised, each with a sentence and a severity."""
    alerts = [rule for rule in rules() if "alert" in rule]
    tests = [one for test in read(FOLDER / "rules.test.yml")["tests"] for one in test.get("alert_rule_test", ())]
    raised = {test["alertname"] for test in tests if test.get("exp_alerts")}
    silent = {test["alertname"] for test in tests if not test.get("exp_alerts")}
    names = {alert["alert"] for alert in alerts}
    assert names == raised == silent
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} <= set(alert["annotations"])


@contextmanager
def prometheus(server: RunningServer, key: str, folder: Path) -> Iterator[httpx.Client]:
    """A real one that scrapes the server every second and knows the rules, with its other settings as we ship them."""
    (folder / "metrics-key").write_text(key + "\n")
    config = read(FOLDER / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(folder / "metrics-key")
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
                wait_until(lambda: is_up(client), timeout_s=60, what="a scrape of the server")
                yield client
        finally:
            process.terminate()
            process.wait(30)


def answer(client: httpx.Client, expression: str) -> list[Any]:
    """Raises where Prometheus refuses the expression."""
    response = client.get("/api/v1/query", params={"query": expression})
    assert response.status_code == 200, response.text
    found: list[Any] = response.json()["data"]["result"]
    return found


def is_up(client: httpx.Client) -> bool:
    try:
        if client.get("/-/ready").status_code != 200:
            return False
        return any(sample["value"][1] == "1" for sample in answer(client, 'up{job="pipeserve"}'))
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_prometheus_scrapes_a_server_and_knows_its_failed_model(tmp_path: Path) -> None:
    """With a key of the scope `metrics` from its file; every query of the dashboard runs, and an alert comes."""
    tool("prometheus")
    keys = tmp_path / "keys.yaml"
    made = CliRunner().invoke(cli, ["keys", "create", "scraper", "--keys-file", str(keys), "--scope", "metrics"])
    assert made.exit_code == 0, made.output
    missing = {"id": "missing", "task": "fill-mask", "model": str(tmp_path / "nowhere")}
    catalog = write_catalog(tmp_path / "models.yaml", tmp_path, [missing])
    with RunningServer(catalog, "--keys-file", str(keys), cache_dir=tmp_path / "cache") as server:
        with prometheus(server, made.stdout.strip(), tmp_path) as client:
            text = (DEPLOY / "grafana" / "dashboards" / "pipeserve.json").read_text()
            for variable, value in {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*", "$model": ".*"}.items():
                text = text.replace(variable, value)
            targets = [target for panel in json.loads(text)["panels"] for target in panel.get("targets", ())]
            assert len(targets) > 40
            for target in targets:
                answer(client, target["expr"])
            assert answer(client, "sum(pipeserve_model_state{state='failed'})")[0]["value"][1] == "1"
            wait_until(lambda: "PipeserveModelFailed" in pending(client), timeout_s=30, what="the alert")
            assert "PipeserveDown" not in pending(client)


def pending(client: httpx.Client) -> set[str]:
    """Alerts that are raised, or will be if what raised them lasts."""
    alerts = client.get("/api/v1/alerts").json()["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts}
