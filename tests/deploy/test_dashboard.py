"""The dashboard is what its generator writes, and what Grafana knows."""

from __future__ import annotations

import json

from scripts import generate_dashboard
from tests.deploy.tools import DEPLOY, REPOSITORY, read, unknown_to_their_owners

PROVISIONING = DEPLOY / "grafana" / "provisioning"


def test_dashboard_is_up_to_date() -> None:
    """Regenerate it with `python -m scripts.generate_dashboard`."""
    assert generate_dashboard.TARGET.read_text() == generate_dashboard.page()


def test_grafana_knows_every_field() -> None:
    """Grafana's own model, generated from its schema, loses nothing of it; a typo it would."""
    dashboard = generate_dashboard.dashboard()
    assert unknown_to_their_owners(dashboard) == ""
    dashboard["panels"][1]["fieldConfig"]["defaults"]["unitt"] = "s"
    assert unknown_to_their_owners(dashboard) == "dashboard.panels[1].fieldConfig.defaults.unitt\n"


def test_panels_have_ids_and_places_of_their_own() -> None:
    """Two panels at one place hide each other."""
    panels = json.loads(generate_dashboard.TARGET.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < generate_dashboard.COLUMNS for x, _ in cells), panel["title"]
        taken |= cells


def test_provisioning_finds_the_dashboard_where_compose_mounts_it() -> None:
    """Grafana's provider, the compose file and the folder agree; so do Grafana's source and the name of Prometheus."""
    compose = read(REPOSITORY / "docker-compose.yml")
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    (provider,) = read(PROVISIONING / "dashboards" / "pipeserve.yml")["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{generate_dashboard.TARGET.name}"
    (source,) = read(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
