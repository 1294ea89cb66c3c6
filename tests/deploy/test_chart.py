"""The Helm chart, rendered by helm and held against the schemas of Kubernetes, Prometheus' operator and KEDA."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from app import __version__
from app.access.key_file import KeyFile
from app.access.keys import Key
from app.api.server import LAST_WRITES_S
from app.cli import cli
from app.durations import parse_duration
from tests.deploy.tools import DEPLOY, complaint, read, run, unknown_to_their_owners

CHART = DEPLOY / "helm" / "pipeserve"
EVERYTHING = (
    "keys.secret=keys,tls.secret=cert,hub.tokenSecret=hub,gpu.count=2,image.pullSecrets={registry},ingress.enabled=true,"
    "ingress.tlsSecret=cert,ingress.className=nginx,serviceMonitor.enabled=true,serviceMonitor.keySecret.name=scraper,"
    "alerts.enabled=true,cache.accessMode=ReadWriteMany,cache.storageClass=shared,priorityClassName=high,"
    "runtimeClassName=nvidia,serviceAccount.name=pipeserve,nodeSelector.zone=a,podLabels.team=search,podAnnotations.a=b"
)
AUTOSCALED = ("hpa", "keda")


def rendered(*settings: str) -> dict[str, Any]:
    """By kind."""
    chosen = [argument for setting in settings for argument in ("--set", setting)]
    text = run("helm", "template", "pipeserve", CHART, "--namespace", "models", *chosen)
    return {document["kind"]: document for document in yaml.safe_load_all(text) if document}


def pod_of(documents: dict[str, Any]) -> Any:
    return documents["Deployment"]["spec"]["template"]["spec"]


def is_custom(document: dict[str, Any]) -> bool:
    return document["apiVersion"].partition("/")[0] in ("monitoring.coreos.com", "keda.sh")


def environment_of(documents: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(documents)["containers"]
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def test_helm_lint_has_nothing_to_say() -> None:
    """Warnings included."""
    assert "0 chart(s) failed" in run("helm", "lint", "--strict", CHART)


@pytest.mark.parametrize(
    "settings",
    [(), (EVERYTHING, "autoscaling.engine=hpa"), (EVERYTHING, "autoscaling.engine=keda"), ("cache.enabled=false",)],
    ids=["defaults", "everything and hpa", "everything and keda", "no cache"],
)
def test_every_resource_fits_its_schema(settings: tuple[str, ...], tmp_path: Path) -> None:
    """No unknown field, none of a wrong type."""
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(one for one in rendered(*settings).values() if not is_custom(one)))
    run("kubernetes-validate", "--strict", file)


@pytest.mark.slow  # the models of Prometheus' operator take seconds to import
def test_every_custom_resource_fits_its_owners_models() -> None:
    """ServiceMonitor, PrometheusRule and ScaledObject: no field that Prometheus' operator or KEDA does not know."""
    custom = [one for one in rendered(EVERYTHING, "autoscaling.engine=keda").values() if is_custom(one)]
    assert {one["kind"] for one in custom} == {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
    assert unknown_to_their_owners(*custom) == ""


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("replcas=2", "additional properties 'replcas' not allowed"),
        ("image.tga=x", "additional properties 'tga' not allowed"),
        ("replicas=two", "got string, want integer"),
        ("gpu.count=-1", "minimum: got -1, want 0"),
        ("autoscaling.engine=vpa", "value must be one of"),
        ("models.models=null", "missing property 'models'"),
        ("replicas=2", "cache.accessMode: ReadWriteOnce is for one pod, and there may be 2"),
        ("autoscaling.engine=keda", "cache.accessMode: ReadWriteOnce is for one pod, and there may be 4"),
        ("autoscaling.minReplicas=9", "autoscaling.minReplicas: it is above maxReplicas."),
        ("autoscaling.engine=hpa,autoscaling.minReplicas=0,cache.enabled=false", "an HPA does not scale to zero"),
        ("autoscaling.engine=keda,autoscaling.minReplicas=0,cache.enabled=false", "autoscaling.keda.wakeQuery"),
    ],
)
def test_wrong_values_are_refused_by_name(setting: str, sentence: str) -> None:
    """A typo, a wrong type, and keys that do not go together."""
    assert sentence in complaint("helm", "template", "pipeserve", CHART, "--set", setting)


def test_pod_is_confined() -> None:
    """What the restricted pod security standard asks, and a root file system that nothing writes to."""
    pod = pod_of(rendered(EVERYTHING))
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/cache/huggingface", "/cache/pipeserve", "/tmp"}


@pytest.mark.parametrize(("pre_stop_s", "drain_s"), [(5, 30), (20, 300)])
def test_grace_period_is_what_stopping_takes(pre_stop_s: int, drain_s: int) -> None:
    """Withdrawing the endpoint, the drain, the last writes and some seconds for workers; no less, whatever is set."""
    documents = rendered(f"preStopSeconds={pre_stop_s},drainSeconds={drain_s}")
    pod = pod_of(documents)
    assert pod["terminationGracePeriodSeconds"] == pre_stop_s + drain_s + 15 > pre_stop_s + drain_s + LAST_WRITES_S + 5
    assert parse_duration(environment_of(documents)["PIPESERVE_DRAIN"]) == drain_s
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(pre_stop_s)]


def test_probes_ask_different_questions() -> None:
    """Started and alive: the event loop turns. Ready: it takes requests. Over TLS where the server has it."""
    for setting, scheme in (("replicas=1", "HTTP"), ("tls.secret=cert", "HTTPS")):
        (container,) = pod_of(rendered(setting))["containers"]
        asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {name: get["path"] for name, get in asked.items()} == {
            "startup": "/livez",
            "liveness": "/livez",
            "readiness": "/readyz",
        }
        assert {get["scheme"] for get in asked.values()} == {scheme}


def test_change_of_models_rolls_the_pods() -> None:
    """The pods' template has a sum over models.yaml."""
    before, after = rendered(), rendered("models.models[0].model=acme/other")
    sums = [
        one["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/models"] for one in (before, after)
    ]
    assert sums[0] != sums[1]
    assert "acme/other" in after["ConfigMap"]["data"]["models.yaml"]


def test_change_of_ones_own_config_map_reaches_the_pods_and_rolls_nothing() -> None:
    """It is mounted as a folder, which the kubelet brings up to date, and the template says nothing about it."""
    documents = rendered("modelsConfigMap=mine")
    assert "ConfigMap" not in documents
    assert "annotations" not in documents["Deployment"]["spec"]["template"]["metadata"]
    pod = pod_of(documents)
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "models"]
    assert volume["configMap"] == {"name": "mine"}
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "models"]
    assert "subPath" not in mount
    assert environment_of(documents)["PIPESERVE_MODELS"] == f"{mount['mountPath']}/models.yaml"


def test_default_models_are_right(tmp_path: Path) -> None:
    """`pipeserve check` has nothing against the models.yaml that the chart writes."""
    file = tmp_path / "models.yaml"
    file.write_text(rendered()["ConfigMap"]["data"]["models.yaml"])
    checked = CliRunner().invoke(cli, ["check", str(file), "--cache-dir", str(tmp_path)])
    assert checked.exit_code == 0, checked.output


def test_pods_that_share_no_volume_are_replaced_one_after_the_other() -> None:
    """A new pod would wait for ever for a volume that the old one holds; otherwise no request is turned away, unless
    there is no room for a pod more than there are."""
    assert rendered()["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    shared = rendered("cache.accessMode=ReadWriteMany,replicas=3")["Deployment"]["spec"]
    assert shared["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert shared["replicas"] == 3
    crowded = rendered("cache.enabled=false,rollingUpdate.maxSurge=0,rollingUpdate.maxUnavailable=1")
    assert crowded["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_gpus_are_asked_for_beside_the_other_limits() -> None:
    """And none where there are none."""
    limits = pod_of(rendered("gpu.count=2"))["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "8Gi", "nvidia.com/gpu": 2}
    assert "nvidia.com/gpu" not in pod_of(rendered())["containers"][0]["resources"]["limits"]


def test_keys_come_from_a_secret_that_is_followed() -> None:
    """Mounted as a folder, readable by the server's group, and named to the server."""
    documents = rendered("keys.secret=keys")
    pod = pod_of(documents)
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "keys"]
    assert volume["secret"] == {"secretName": "keys", "defaultMode": 0o440}
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "keys"]
    assert "subPath" not in mount
    assert environment_of(documents)["PIPESERVE_KEYS_FILE"] == f"{mount['mountPath']}/keys.yaml"


async def test_servers_reader_of_keys_follows_a_secret_as_the_kubelet_mounts_it(tmp_path: Path) -> None:
    """What `pipeserve keys` wrote is the Secret; its change is another folder that the link `..data` leads to."""
    written, mounted = tmp_path / "keys.yaml", tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "keys.yaml").symlink_to("..data/keys.yaml")

    def create(name: str, *options: str) -> None:
        command = ["keys", "create", name, "--keys-file", str(written), *options]
        assert CliRunner().invoke(cli, command).exit_code == 0
        (mounted / f"..{name}").mkdir()
        (mounted / f"..{name}" / "keys.yaml").write_bytes(written.read_bytes())
        (mounted / "..data_tmp").symlink_to(f"..{name}")
        (mounted / "..data_tmp").replace(mounted / "..data")

    create("website", "--rpm", "60")
    file = KeyFile(mounted / "keys.yaml")
    (website,) = file.read()
    assert website.scopes == {"infer"} and website.allowance.requests_per_minute == 60
    told: asyncio.Queue[Sequence[Key]] = asyncio.Queue()
    following = asyncio.create_task(file.watch(told.put_nowait, every_s=0.01))
    create("scraper", "--scope", "metrics")
    keys = await asyncio.wait_for(told.get(), 10)
    following.cancel()
    assert [(key.name, set(key.scopes)) for key in keys] == [("website", {"infer"}), ("scraper", {"metrics"})]


@pytest.mark.parametrize("engine", AUTOSCALED)
def test_autoscaler_alone_decides_the_number_of_pods(engine: str) -> None:
    """It goes by the queue; a number in the Deployment would undo it at every upgrade."""
    documents = rendered(f"autoscaling.engine={engine},cache.enabled=false,autoscaling.queueItems=7")
    assert "replicas" not in documents["Deployment"]["spec"]
    if engine == "hpa":
        (metric,) = documents["HorizontalPodAutoscaler"]["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == "pipeserve_queue_items"
        assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "7"}
    else:
        (trigger,) = documents["ScaledObject"]["spec"]["triggers"]
        assert trigger["metadata"]["threshold"] == "7"
        assert trigger["metadata"]["query"] == 'sum(pipeserve_queue_items{namespace="models",pod=~"pipeserve-.+"})'


def test_scaled_to_zero_it_wakes_by_demand_and_sleeps_when_nothing_is_answered() -> None:
    """Three reasons for a pod: something waits, something is being answered, somebody asks the gateway."""
    query = "sum(rate(gateway_requests_total[2m]))"
    settings = (
        f"autoscaling.engine=keda,autoscaling.minReplicas=0,cache.enabled=false,autoscaling.keda.wakeQuery={query}"
    )
    spec = rendered(settings)["ScaledObject"]["spec"]
    assert spec["minReplicaCount"] == 0
    queries = [trigger["metadata"]["query"] for trigger in spec["triggers"]]
    assert "pipeserve_queue_items" in queries[0] and "pipeserve_in_flight_items" in queries[1]
    assert queries[2] == f"({query}) > bool 0"
    assert {trigger["metricType"] for trigger in spec["triggers"]} == {"AverageValue"}


def test_network_is_closed_but_for_what_is_needed() -> None:
    """Clients of the namespace, DNS and the Hub; offline no Hub."""
    policy = rendered()["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}], "from": [{"podSelector": {}}]}]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 443]
    offline = rendered("hub.offline=true")
    assert [port["port"] for rule in offline["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]] == [53, 53]
    assert environment_of(offline)["HF_HUB_OFFLINE"] == "1"


def test_alerts_are_those_that_were_tested() -> None:
    """The chart's PrometheusRule is deploy/prometheus/rules.yml."""
    assert rendered("alerts.enabled=true")["PrometheusRule"]["spec"] == read(DEPLOY / "prometheus" / "rules.yml")


def test_chart_is_of_this_version() -> None:
    """Its image is the one that this version builds."""
    assert read(CHART / "Chart.yaml")["appVersion"] == __version__
