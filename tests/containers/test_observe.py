"""What `--profile observe` is for: Prometheus reads every process, and the dashboard has figures.

Runs with ``--stack containers`` on a stack that somebody has started, with its Prometheus
(`docker compose --profile observe up --detach`), and on which the demo was played within the hour, so that
there is something to show. It asks in Prometheus's container, as nothing publishes that. What is asked of
Grafana, as a person asks who may only look, is skipped where it does not run.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/latchkey.json").read_text())
PANELS: dict[str, dict[str, Any]] = {
    panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"
}
QUESTIONS = sorted({target["expr"] for panel in PANELS.values() for target in panel["targets"]})
SCRAPED_SECONDS = 90.0
"""Rates need two looks at each process, one every 15 s."""
HEALTHY_SECONDS = 90.0


def container(pytestconfig: pytest.Config, service: str) -> str:
    """The id of the container that runs a service of this checkout."""
    if pytestconfig.getoption("--stack") != "containers":
        pytest.skip("asked for by --stack containers only")
    labels = ("project.working_dir=" + str(ROOT), "service=" + service)
    filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
    found = subprocess.run(["docker", "ps", "--quiet", *filters], capture_output=True, text=True, check=True)
    if not found.stdout.strip():
        pytest.skip(f"no {service} of docker-compose.yml runs here: --profile observe up --detach")
    return found.stdout.strip()


@pytest.fixture(scope="module")
def prometheus(pytestconfig: pytest.Config) -> str:
    """The id of the container."""
    return container(pytestconfig, "prometheus")


@pytest.fixture
async def grafana(pytestconfig: pytest.Config) -> AsyncGenerator[httpx.AsyncClient]:
    """Who looks at Grafana, once its container says that it is well."""
    name = container(pytestconfig, "grafana")
    deadline = time.monotonic() + HEALTHY_SECONDS
    while inspect(name, "{{.State.Health.Status}}") != "healthy":
        assert time.monotonic() < deadline, "Grafana does not get healthy"
        await asyncio.sleep(1)
    port = inspect(name, '{{(index (index .NetworkSettings.Ports "3000/tcp") 0).HostPort}}')
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client


def inspect(name: str, what: str) -> str:
    """What Docker says of a container."""
    command = ["docker", "inspect", "--format", what, name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def answer(prometheus: str, question: str) -> list[Any]:
    """The samples that Prometheus answers with."""
    ask = ("promtool", "query", "instant", "--format=json", "http://127.0.0.1:9090", question)
    done = subprocess.run(["docker", "exec", prometheus, *ask], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{question}: {done.stderr}"
    samples: list[Any] = json.loads(done.stdout)
    return samples


async def until_answered(prometheus: str, question: str) -> list[Any]:
    """The samples, when there are any."""
    deadline = time.monotonic() + SCRAPED_SECONDS
    while not (samples := answer(prometheus, question)):
        assert time.monotonic() < deadline, f"nothing to show for {question}"
        await asyncio.sleep(1)
    return samples


async def test_every_process_is_read(prometheus: str) -> None:
    await until_answered(prometheus, 'count(up{job="latchkey"} == 1) == 14')


@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_dashboard_has_figures(prometheus: str, question: str) -> None:
    await until_answered(prometheus, question.replace("$__rate_interval", "1m"))


async def test_grafana_reaches_prometheus(grafana: httpx.AsyncClient) -> None:
    said = await grafana.get("/api/datasources/uid/prometheus/health")
    assert (said.status_code, said.json()["status"]) == (200, "OK"), said.text


@pytest.mark.parametrize("address", ["/api/dashboards/uid/latchkey", "/api/dashboards/home"])
async def test_grafana_opens_on_the_dashboard(grafana: httpx.AsyncClient, address: str) -> None:
    shown = (await grafana.get(address)).raise_for_status().json()["dashboard"]
    assert shown["title"] == DASHBOARD["title"]
    assert [panel["title"] for panel in shown["panels"]] == [panel["title"] for panel in DASHBOARD["panels"]]


@pytest.mark.parametrize("title", PANELS)
async def test_grafana_has_figures_for_every_line_of_a_panel(grafana: httpx.AsyncClient, title: str) -> None:
    asked = [{**target, "intervalMs": 15_000, "maxDataPoints": 240} for target in PANELS[title]["targets"]]
    deadline = time.monotonic() + SCRAPED_SECONDS
    while True:
        query = {"from": "now-1h", "to": "now", "queries": asked}
        said = await grafana.post("/api/ds/query", json=query)
        assert said.status_code == 200, said.text
        results = said.json()["results"]
        assert not [result["error"] for result in results.values() if result.get("error")]
        if all(any(has_figures(frame) for frame in results[one["refId"]]["frames"]) for one in asked):
            return
        assert time.monotonic() < deadline, f"{title} has nothing to show: {said.text}"
        await asyncio.sleep(1)


def has_figures(frame: dict[str, Any]) -> bool:
    """Whether there are values beside their times."""
    return any(value is not None for column in frame["data"]["values"][1:] for value in column)


async def test_nobody_may_sign_in_to_grafana_or_change_anything(grafana: httpx.AsyncClient) -> None:
    first = {"user": "admin", "password": "admin"}  # what Grafana has at first
    assert (await grafana.post("/login", json=first)).status_code >= 400
    known = await grafana.get("/api/user", auth=("admin", "admin"))
    assert known.status_code >= 400, known.text
    changed = {"dashboard": {**DASHBOARD, "uid": "another", "title": "Another"}, "overwrite": True}
    assert (await grafana.post("/api/dashboards/db", json=changed)).status_code in {401, 403}
    assert (await grafana.delete("/api/datasources/uid/prometheus")).status_code in {401, 403}
