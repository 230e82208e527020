"""What `--profile observe` is for: Prometheus reads every process, and the dashboard has figures.

Runs with ``--stack containers`` on a stack that somebody has started, with its Prometheus
(`docker compose --profile observe up --detach`), and asks in its container, as nothing publishes Prometheus.
Grafana need not run.
"""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/latchkey.json").read_text())
QUESTIONS = sorted(
    {target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])},
)
SCRAPED_SECONDS = 90.0
"""Rates need two looks at each process, one every 15 s."""


@pytest.fixture(scope="module")
def prometheus(pytestconfig: pytest.Config) -> str:
    """The id of the container."""
    if pytestconfig.getoption("--stack") != "containers":
        pytest.skip("asked for by --stack containers only")
    labels = ("project.working_dir=" + str(ROOT), "service=prometheus")
    filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
    found = subprocess.run(["docker", "ps", "--quiet", *filters], capture_output=True, text=True, check=True)
    if not found.stdout.strip():
        pytest.skip("no Prometheus of docker-compose.yml runs here: --profile observe up --detach")
    return found.stdout.strip()


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
