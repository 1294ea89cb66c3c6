"""Every metric that an operator reads of is one that a server has, with the labels that he reads of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.access.clients import Clients
from app.access.keys import keys_of_variable
from app.catalog import ModelSpec
from app.fleet.requests import DeviceUse, ModelStatus
from app.telemetry import KeyCollector, Telemetry
from tests.deploy.tools import DEPLOY, REPOSITORY, read

NAME = re.compile(r"\bpipeserve_[a-z][a-z0-9_]*")
SELECTOR = re.compile(r"\b(pipeserve_[a-z0-9_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
OF_PROMETHEUS = {"job", "instance", "namespace", "pod"}
"""Labels that come with the scrape."""

Sample = tuple[str, dict[str, str]]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """All series of a server with keys and a model of each kind, before its first request."""
    telemetry = Telemetry(CollectorRegistry())
    clients = Clients(keys_of_variable("a-secret-of-enough-characters-0123"), clock=float, unix_time=float)
    telemetry.registry.register(KeyCollector(clients))
    specs = [
        ModelSpec(id="chat", model="acme/chat", tasks=("text-generation",)),
        ModelSpec(id="vectors", model="acme/vectors", tasks=("feature-extraction",), cache_bytes=1),
    ]
    telemetry.declare(specs)
    devices = [DeviceUse(device="cpu", budget_bytes=1, used_bytes=0)]
    telemetry.refresh([ModelStatus(spec=spec, state="unloaded") for spec in specs], devices)
    families = text_string_to_metric_families(telemetry.render("")[0].decode())
    return [(sample.name, sample.labels) for family in families for sample in family.samples]


def files() -> list[Path]:
    found = [path for path in DEPLOY.rglob("*") if path.is_file() and not path.is_symlink()]
    return [*found, REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")]


def expressions() -> Iterator[str]:
    """Every query of rules, dashboard and chart."""
    for group in read(DEPLOY / "prometheus" / "rules.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "pipeserve.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()))
    for path in (DEPLOY / "helm" / "pipeserve" / "templates").glob("scaledobject.yaml"):
        yield from re.findall(r'printf "([^"]*pipeserve_[^"]*)"', path.read_text())


def matches(labels: dict[str, str], matchers: Any) -> bool:
    """Whether a series has what a selector asks for. Dashboard variables and printf's places stand for anything."""
    for name, operator, wanted in matchers:
        if name in OF_PROMETHEUS or "$" in wanted:
            continue
        if name not in labels:
            return False
        pattern = wanted if operator.endswith("~") else re.escape(wanted)
        if (re.fullmatch(pattern, labels[name]) is None) == (operator[0] == "="):
            return False
    return True


def test_metrics_exist(samples: list[Sample]) -> None:
    """In files for operators and in the docs: a metric that was renamed is renamed there too."""
    known = {name for name, _ in samples}
    known |= {name.removesuffix(end) for name in known for end in ("_bucket", "_sum", "_count")}
    told = {(path.relative_to(REPOSITORY), name) for path in files() for name in NAME.findall(path.read_text())}
    assert len(told) > 60
    assert sorted(f"{path}: {name}" for path, name in told if name not in known) == []


def test_selectors_match_series_that_are_there_from_the_start(samples: list[Sample]) -> None:
    """A label, or a value of it, that no server has would make an alert that never comes."""
    asked = [(name, MATCHER.findall(inner or "")) for text in expressions() for name, inner in SELECTOR.findall(text)]
    assert len(asked) > 60
    unmatched = [
        (name, matchers)
        for name, matchers in asked
        if not any(name == of and matches(labels, matchers) for of, labels in samples)
    ]
    assert unmatched == []


def test_labels_that_are_grouped_by_exist(samples: list[Sample]) -> None:
    """`by (...)` of a label that the metric lacks gives one line where several were meant."""
    labels_of: dict[str, set[str]] = {}
    for name, labels in samples:
        labels_of.setdefault(name, set()).update(labels)
    checked = 0
    for text in expressions():
        for by, inner in re.findall(r"by \(([^)]*)\) \((?:rate|increase)?\(?([^{\[]*)", text):
            for metric in NAME.findall(inner):
                wanted = {label.strip() for label in by.split(",")} - OF_PROMETHEUS
                assert wanted <= labels_of[metric], text
                checked += 1
    assert checked > 40


def test_recording_rules_that_are_used_are_made() -> None:
    """`pipeserve:...` in rules and dashboard."""
    rules = read(DEPLOY / "prometheus" / "rules.yml")
    made = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    used = {name for text in expressions() for name in re.findall(r"\bpipeserve:[a-z0-9_:]+", text)}
    assert used and used <= made
