"""Writes the dashboard of deploy/grafana: `python -m scripts.generate_dashboard`.

Grafana's JSON repeats everything for every panel; here a panel is a line or two. A `$` in a query is one of Grafana's
variables: what was chosen at the top of the dashboard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards" / "pipeserve.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SERVER = 'job=~"$job",instance=~"$instance"'
MODEL = SERVER + ',model=~"$model"'
COLUMNS = 24
HEIGHT = 8


@dataclass(frozen=True, kw_only=True)
class Panel:
    """queries: PromQL and the legend of its lines. unit: Grafana's id of it. kind: Grafana's type of panel."""

    title: str
    queries: Sequence[tuple[str, str]]
    text: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = HEIGHT
    is_stacked: bool = False
    maximum: float | None = None


def quantile(share: float, metric: str, by: str = "model") -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{MODEL}}}[$__rate_interval])))"


def rate(metric: str, by: str, labels: str = MODEL) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def mean(metric: str) -> str:
    return f"{rate(metric + '_sum', 'model')} / {rate(metric + '_count', 'model')}"


ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        Panel(
            title="Servers up",
            queries=[(f"sum(up{{{SERVER}}})", "")],
            text="Servers that Prometheus reaches.",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Requests a second",
            queries=[(f'sum(rate(pipeserve_requests_total{{{MODEL},task!=""}}[$__rate_interval]))', "")],
            text="Requests for inference, however they ended.",
            unit="reqps",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Server errors",
            queries=[
                (
                    f'sum(rate(pipeserve_requests_total{{{MODEL},task!="",status=~"5.."}}[$__rate_interval]))'
                    f' / sum(rate(pipeserve_requests_total{{{MODEL},task!=""}}[$__rate_interval]))',
                    "",
                )
            ],
            text="The share of requests that ended in a status of 500 or more.",
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Models loaded",
            queries=[(f'sum(pipeserve_model_state{{{MODEL},state="ready"}})', "")],
            text="Models in memory, on all servers.",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Models failed",
            queries=[(f'sum(pipeserve_model_state{{{MODEL},state="failed"}})', "")],
            text="Models that cannot start; /v1/models has their reasons.",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Items waiting",
            queries=[(f"sum(pipeserve_queue_items{{{MODEL}}})", "")],
            text="Items that wait for their model or for a forward.",
            kind="stat",
            width=4,
            height=4,
        ),
    ],
    "Requests": [
        Panel(
            title="Requests by model",
            queries=[
                (f'sum by (model) (rate(pipeserve_requests_total{{{MODEL},task!=""}}[$__rate_interval]))', "{{model}}")
            ],
            text="Requests for inference a second.",
            unit="reqps",
            is_stacked=True,
        ),
        Panel(
            title="Requests by status",
            queries=[
                (f"sum by (status) (rate(pipeserve_requests_total{{{SERVER}}}[$__rate_interval])) > 0", "{{status}}")
            ],
            text="All HTTP requests; 499: the client had left.",
            unit="reqps",
            is_stacked=True,
        ),
        Panel(
            title="Open requests",
            queries=[(f"pipeserve_open_requests{{{SERVER}}}", "{{instance}}")],
            text="HTTP requests that are being answered.",
        ),
        Panel(
            title="Time of a request",
            queries=[
                (quantile(0.5, "pipeserve_request_seconds"), "{{model}} p50"),
                (quantile(0.99, "pipeserve_request_seconds"), "{{model}} p99"),
            ],
            text="From the headers to the last byte of the answer.",
            unit="s",
        ),
        Panel(
            title="Failures by code",
            queries=[(f"{rate('pipeserve_failures_total', 'code')} > 0", "{{code}}")],
            text="Requests for inference that ended in an error.",
            unit="reqps",
            is_stacked=True,
        ),
        Panel(
            title="Refused at the door",
            queries=[(rate("pipeserve_rejections_total", "model, reason"), "{{model}} {{reason}}")],
            text="Jobs that were not taken: full queues, shares, too long a wait (429); draining or failed (503).",
            unit="reqps",
            is_stacked=True,
        ),
        Panel(
            title="Connections cut",
            queries=[(f"{rate('pipeserve_cut_connections_total', 'reason', SERVER)} > 0", "{{reason}}")],
            text="Clients too slow with a head, a body or reading, or too many of them. A second.",
            is_stacked=True,
            width=12,
        ),
        Panel(
            title="models.yaml read again",
            queries=[
                (
                    f"sum by (outcome) (increase(pipeserve_reloads_total{{{SERVER}}}[$__rate_interval])) > 0",
                    "{{outcome}}",
                ),
            ],
            text="`failed`: the file was wrong, and nothing was changed.",
            width=12,
        ),
    ],
    "Where the time goes": [
        Panel(
            title="Waiting",
            queries=[
                (quantile(0.5, "pipeserve_queue_seconds"), "{{model}} p50"),
                (quantile(0.99, "pipeserve_queue_seconds"), "{{model}} p99"),
            ],
            text="For the model, for a batch, between stages.",
            unit="s",
        ),
        Panel(
            title="Forward",
            queries=[
                (quantile(0.5, "pipeserve_forward_seconds"), "{{model}} p50"),
                (quantile(0.99, "pipeserve_forward_seconds"), "{{model}} p99"),
            ],
            text="One batch on the device.",
            unit="s",
        ),
        Panel(
            title="Prepare and finish",
            queries=[
                (quantile(0.99, "pipeserve_prepare_seconds"), "{{model}} prepare p99"),
                (quantile(0.99, "pipeserve_finish_seconds"), "{{model}} finish p99"),
            ],
            text="Tokenizing, decoding, writing the answer.",
            unit="s",
        ),
        Panel(
            title="Items waiting and in flight",
            queries=[
                (f"sum by (model) (pipeserve_queue_items{{{MODEL}}})", "{{model}} waiting"),
                (f"sum by (model) (pipeserve_in_flight_items{{{MODEL}}})", "{{model}} in flight"),
            ],
            text="What autoscaling goes by.",
        ),
        Panel(
            title="Estimated wait",
            queries=[
                (f"max by (model, instance) (pipeserve_estimated_wait_seconds{{{MODEL}}})", "{{model}} {{instance}}")
            ],
            text="How long one more item would wait; what admission and Retry-After go by.",
            unit="s",
        ),
        Panel(
            title="Too late to compute",
            queries=[(rate("pipeserve_shed_jobs_total", "model"), "{{model}}")],
            text="Jobs that were taken and not computed: their answer would have missed their deadline.",
            unit="reqps",
        ),
        Panel(
            title="Items of a batch",
            queries=[(mean("pipeserve_batch_items"), "{{model}}")],
            text="The mean of the forwards of the moment.",
        ),
        Panel(
            title="Padding",
            queries=[(mean("pipeserve_padding_ratio"), "{{model}}")],
            text="The mean share of a forward's tokens that were padding.",
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            title="Batches that failed",
            queries=[
                (rate("pipeserve_batches_total", "model, outcome", MODEL + ',outcome!="ok"'), "{{model}} {{outcome}}")
            ],
            text="They are halved until only the culprit fails.",
        ),
        Panel(
            title="Tokens",
            queries=[(rate("pipeserve_tokens_total", "model"), "{{model}}")],
            text="Tokens a second, padding not included.",
        ),
        Panel(
            title="Answers from the cache",
            queries=[(rate("pipeserve_response_cache_requests_total", "model, outcome"), "{{model}} {{outcome}}")],
            text="Of models with `cache:`.",
            unit="reqps",
            is_stacked=True,
        ),
    ],
    "Models and memory": [
        Panel(
            title="States",
            queries=[(f"sum by (state) (pipeserve_model_state{{{MODEL}}})", "{{state}}")],
            text="How many models are in which state.",
            is_stacked=True,
        ),
        Panel(
            title="Memory of models",
            queries=[(f"sum by (model, device) (pipeserve_model_memory_bytes{{{MODEL}}}) > 0", "{{model}} {{device}}")],
            text="Of those that are loaded.",
            unit="bytes",
            is_stacked=True,
        ),
        Panel(
            title="Memory of devices",
            queries=[
                (
                    f"sum by (device, instance) (pipeserve_device_memory_used_bytes{{{SERVER}}})",
                    "{{instance}} {{device}}",
                ),
                (
                    f"sum by (device, instance) (pipeserve_device_memory_budget_bytes{{{SERVER}}})",
                    "{{instance}} {{device}} budget",
                ),
            ],
            text="What models have, and what they may take.",
            unit="bytes",
        ),
        Panel(
            title="Replicas",
            queries=[(f"sum by (model) (pipeserve_model_replicas{{{MODEL}}})", "{{model}}")],
            text="Worker processes.",
        ),
        Panel(
            title="Loads",
            queries=[
                (
                    f"sum by (model, outcome) (increase(pipeserve_loads_total{{{MODEL}}}[$__rate_interval])) > 0",
                    "{{model}} {{outcome}}",
                )
            ],
            text="How many, and how they ended.",
        ),
        Panel(
            title="Time of a load",
            queries=[(quantile(0.99, "pipeserve_load_seconds"), "{{model}} p99")],
            text="What a request to an unloaded model waits.",
            unit="s",
        ),
        Panel(
            title="Unloaded",
            queries=[
                (
                    f"sum by (model, reason) (increase(pipeserve_evictions_total{{{MODEL}}}[$__rate_interval])) > 0",
                    "{{model}} {{reason}}",
                )
            ],
            text="`memory`: another model needed its place.",
        ),
        Panel(
            title="Workers replaced",
            queries=[
                (f"sum by (model) (increase(pipeserve_restarts_total{{{MODEL}}}[$__rate_interval])) > 0", "{{model}}")
            ],
            text="After their death; no request is lost by it.",
        ),
        Panel(
            title="Memory of kept answers",
            queries=[(f"sum by (model) (pipeserve_response_cache_bytes{{{MODEL}}})", "{{model}}")],
            text="Of models with `cache:`.",
            unit="bytes",
        ),
        Panel(
            title="Recompiles",
            queries=[
                (f"sum by (model) (increase(pipeserve_recompiles_total{{{MODEL}}}[$__rate_interval]))", "{{model}}")
            ],
            text="Batches that the code of `compile: true` did not fit. There should be none.",
        ),
    ],
    "Generation": [
        Panel(
            title="Tokens generated",
            queries=[(rate("pipeserve_generated_tokens_total", "model"), "{{model}}")],
            text="A second.",
        ),
        Panel(
            title="Texts",
            queries=[
                (f"sum by (model) (pipeserve_generating_sequences{{{MODEL}}})", "{{model}} generated"),
                (f"sum by (model) (pipeserve_waiting_sequences{{{MODEL}}})", "{{model}} waiting"),
            ],
            text="Generated now, and waiting for room.",
        ),
        Panel(
            title="Keys and values",
            queries=[
                (f"max by (model, instance) (pipeserve_kv_cache_usage_ratio{{{MODEL}}})", "{{model}} {{instance}}")
            ],
            text="The share of their memory that running texts have.",
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            title="To the first token",
            queries=[
                (quantile(0.5, "pipeserve_time_to_first_token_seconds"), "{{model}} p50"),
                (quantile(0.99, "pipeserve_time_to_first_token_seconds"), "{{model}} p99"),
            ],
            text="From a job's arrival in its worker.",
            unit="s",
        ),
        Panel(
            title="Between tokens",
            queries=[
                (quantile(0.5, "pipeserve_inter_token_seconds"), "{{model}} p50"),
                (quantile(0.99, "pipeserve_inter_token_seconds"), "{{model}} p99"),
            ],
            text="Of one text.",
            unit="s",
        ),
        Panel(
            title="Prompts",
            queries=[
                (rate("pipeserve_prompt_tokens_total", "model"), "{{model}} read"),
                (rate("pipeserve_cached_prompt_tokens_total", "model"), "{{model}} known already"),
            ],
            text="Tokens a second; those that prompts have in common are computed once.",
        ),
        Panel(
            title="Steps",
            queries=[(rate("pipeserve_generation_steps_total", "model"), "{{model}}")],
            text="Forwards a second.",
        ),
        Panel(
            title="Preemptions",
            queries=[(rate("pipeserve_preemptions_total", "model"), "{{model}}")],
            text="Texts that gave their memory to others and began again.",
        ),
    ],
    "Keys": [
        Panel(
            title="Requests by key",
            queries=[(rate("pipeserve_key_requests_total", "key", SERVER), "{{key}}")],
            text="A second.",
            unit="reqps",
            width=6,
        ),
        Panel(
            title="Tokens by key",
            queries=[(rate("pipeserve_key_tokens_total", "key, kind", SERVER), "{{key}} {{kind}}")],
            text="Read and written, a second.",
            width=6,
        ),
        Panel(
            title="Computing by key",
            queries=[(rate("pipeserve_key_compute_seconds_total", "key", SERVER), "{{key}}")],
            text="Seconds of a device a second.",
            width=6,
        ),
        Panel(
            title="Refused",
            queries=[
                (rate("pipeserve_key_limited_requests_total", "key", SERVER), "{{key}} over its limit"),
                (rate("pipeserve_refused_keys_total", "reason", SERVER), "{{reason}}"),
            ],
            text="Limits of keys (429), and requests without a valid one (401).",
            unit="reqps",
            width=6,
        ),
    ],
    "The server's own process": [
        Panel(
            title="CPU",
            queries=[(f"rate(pipeserve_process_cpu_seconds_total{{{SERVER}}}[$__rate_interval])", "{{instance}}")],
            text="Of the API process, in cores.",
            width=6,
        ),
        Panel(
            title="Memory",
            queries=[(f"pipeserve_process_memory_bytes{{{SERVER}}}", "{{instance}}")],
            text="Of the API process.",
            unit="bytes",
            width=6,
        ),
        Panel(
            title="Open files",
            queries=[(f"pipeserve_process_open_fds{{{SERVER}}}", "{{instance}}")],
            text="Of the API process, connections included.",
            width=6,
        ),
        Panel(
            title="Up for",
            queries=[(f"time() - pipeserve_process_start_seconds{{{SERVER}}}", "{{instance}}")],
            text="Since its start.",
            unit="s",
            width=6,
        ),
    ],
}


def laid_out() -> Iterator[dict[str, Any]]:
    """Rows below each other, a row's panels side by side as they fit."""
    y = number = 0
    for title, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": place(0, y, COLUMNS, 1),
            "panels": [],
        }
        y += 1
        x = 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + panel.height
            number += 1
            yield drawn(panel, number, place(x, y, panel.width, panel.height))
            x += panel.width
        y += panels[-1].height


def place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def drawn(panel: Panel, number: int, where: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "timeseries":
        custom = {"fillOpacity": 25 if panel.is_stacked else 5, "showPoints": "never"}
        if panel.is_stacked:
            custom["stacking"] = {"mode": "normal", "group": "A"}
        defaults["custom"] = custom
        options: dict[str, Any] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "area"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": where,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def variables() -> list[dict[str, Any]]:
    found = [{"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus", "refresh": 1}]
    for name, query in (
        ("job", "label_values(pipeserve_build_info, job)"),
        ("instance", 'label_values(pipeserve_build_info{job=~"$job"}, instance)'),
        ("model", f"label_values(pipeserve_model_state{{{SERVER}}}, model)"),
    ):
        found.append(
            {
                "name": name,
                "type": "query",
                "label": name.capitalize(),
                "datasource": SOURCE,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )
    return found


def dashboard() -> dict[str, Any]:
    return {
        "uid": "pipeserve",
        "title": "Pipeserve",
        "description": "Requests, queues, models, memory and generation of Pipeserve servers.",
        "tags": ["pipeserve"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": list(laid_out()),
    }


def page() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page())
