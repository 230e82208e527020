"""The map of the system: every process of the stack, where it listens, what it is told, what it waits for.

Each process gets its own settings and secrets, and no other's.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from contracts.topics import TOPICS
from devstack import certificates, kafka, postgres
from devstack.process import Process
from devstack.state import Secrets, StateDirectory
from devstack.status import Status
from devstack.supervisor import Layer, Unit
from servicekit.kafka import Admin

DATABASE = "latchkey"
CLIENT_ID = "latchkey-portal"
AUDIENCE = "latchkey"
PORTAL = "portal"

PREFERRED_PORTS = {
    PORTAL: 8480,
    "mailbox": 8481,
    "issuer": 8482,
    "registry": 8483,
    "targets": 8484,
    "share-command": 8485,
    "share-command-relay": 8486,
    "permission-projector": 8487,
    "permission-reader": 8488,
    "notifier": 8489,
    "access-gateway": 8490,
    "smtp": 8491,
    "postgres": 8492,
    "kafka": 8493,
    "kafka-controller": 8494,
    "access": 8495,
    "access-tls": 8496,
    "agent": 8497,
    "rtsp": 8498,
    "rtsps": 8499,
}
"""Kept from run to run; when one is taken, another is used and shown."""

WITHOUT_HTTP = frozenset(
    {"smtp", "postgres", "kafka", "kafka-controller", "access", "access-tls", "agent", "rtsp", "rtsps"}
)
"""Their addresses are no URLs."""

_NOTHING: Mapping[str, str] = {}
_GIVEN = ("PUSH_HOSTS",)
"""What the notifier is told of the launcher's own environment: a test has a push service of its own."""

_BIN = Path(sys.executable).parent


def operator_settings(status: Status, secrets: Secrets) -> dict[str, str]:
    """What ``latchkey-ops`` is told of a stack that runs."""
    cluster = postgres.Cluster(int(status.addresses["postgres"].rpartition(":")[2]), secrets.postgres)
    return {
        "LATCHKEY_KAFKA_BOOTSTRAP": status.addresses["kafka"],
        "LATCHKEY_POSTGRES_DSN": cluster.dsn(DATABASE, "permission_projector"),
        "LATCHKEY_SHARE_COMMAND_DSN": cluster.dsn(DATABASE, "share_command"),
        "LATCHKEY_NOTIFIER_DSN": cluster.dsn(DATABASE, "notifier"),
    }


def units(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """All processes of the embedded stack."""
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    urls = {name: f"http://{address}" for name, address in addresses.items()}
    cluster = postgres.Cluster(ports["postgres"], secrets.postgres)

    def log(name: str) -> Path:
        return state.logs / f"{name}.log"

    def demo(name: str, *needs: str, options: Mapping[str, object], env: Mapping[str, str]) -> Unit:
        """A server that stands for something of the customer's: mail, sign-in, devices."""
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return Unit(
            Process(
                name=name,
                argv=[sys.executable, "-m", "devstack", name, *arguments],
                env={"LATCHKEY_STACK": secrets.stack_id, **env},
                log=log(name),
                grace=1.0,
            ),
            layer=Layer.DEMO,
            needs=needs,
            port=ports[name],
        )

    def service(
        name: str,
        script: str,
        verb: str,
        *needs: str,
        env: Mapping[str, str] = _NOTHING,
        on_kafka: bool = True,
        prepare: Callable[[], object] | None = None,
    ) -> Unit:
        """One verb of a service's console script."""
        settings = {
            "STACK": secrets.stack_id,
            "HTTP_HOST": "127.0.0.1",
            "LOG_FORMAT": "json",
            "POSTGRES_DSN": cluster.dsn(DATABASE, script.replace("-", "_")),
            **({"KAFKA_BOOTSTRAP": addresses["kafka"]} if on_kafka else {}),
            **({"HTTP_PORT": str(ports[name])} if verb != "migrate" else {}),
            **env,
        }
        return Unit(
            Process(
                name=name,
                argv=[str(_BIN / script), verb],
                env={f"LATCHKEY_{key}": value for key, value in settings.items()},
                log=log(name),
                grace=4.0,
            ),
            needs=needs,
            task=verb == "migrate",
            port=ports.get(name),
            prepare=prepare,
        )

    trusted = {"INTERNAL_KEYS": secrets.internal_keys}
    notifier = {
        **trusted,
        "PUSH_KEY": secrets.push_key,
        **{name: os.environ[f"LATCHKEY_{name}"] for name in _GIVEN if f"LATCHKEY_{name}" in os.environ},
        "DIGEST_SECONDS": "0",  # whoever tries it out wants to see each mail
        "PUSH_CONTACT": "mailto:no-reply@latchkey.example",
        "PUBLIC_URL": urls[PORTAL],
        "LINK_SECRET": secrets.link_secret,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(ports["smtp"]),
        "SMTP_TLS": "none",
        "MAIL_FROM": "Latchkey <no-reply@latchkey.example>",
    }
    sign_in = {
        "OIDC_ISSUER": urls["issuer"],
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_ALGORITHMS": json.dumps(["RS256", "ES256"]),
    }
    tls = certificates.files(state.tls)
    gateway = {
        **trusted,
        **sign_in,
        "GATEWAY_ID": "gateway-1",
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PUBLIC_HOST": "127.0.0.1",
        "TARGET_NETWORKS": json.dumps(["127.0.0.0/8"]),  # the demo targets
        "TLS_CERT_FILE": str(tls.certificate),
        "TLS_KEY_FILE": str(tls.key),
        "ACCESS_PORT": str(ports["access"]),
        "ACCESS_TLS_PORT": str(ports["access-tls"]),
        "RTSP_PORT": str(ports["rtsp"]),
        "RTSPS_PORT": str(ports["rtsps"]),
        "AGENT_PORT": str(ports["agent"]),
        "WEB_ORIGINS": json.dumps([urls[PORTAL]]),
    }
    portal = {
        "INTERNAL_KEY": secrets.internal_key,
        **sign_in,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_CLIENT_SECRET": secrets.oidc_client_secret,
        "PUBLIC_URL": urls[PORTAL],
        "ACCESS_KEY_SECRET": secrets.access_key_secret,
        "SHARE_COMMAND_URL": urls["share-command"],
        "READ_API_URL": urls["permission-reader"],
        "GATEWAY_URL": urls["access-gateway"],
        "ACCESS_URLS": json.dumps([urls["access"]]),
        "REGISTRY_URL": urls["registry"],
        "REGISTRY_TOKEN": secrets.registry_token,
        "NOTIFIER_URL": urls["notifier"],
        "REQUESTS_PER_MINUTE": "100000",  # a benchmark asks as one person
    }
    return [
        Unit(
            postgres.process(state.pgdata, port=ports["postgres"], log=log("postgres")),
            layer=Layer.SERVER,
            port=ports["postgres"],
            prepare=lambda: postgres.prepare(state.pgdata, secrets.postgres[postgres.SUPERUSER]),
            ready=cluster.is_ready,
            finish=lambda: asyncio.to_thread(cluster.create, DATABASE),
            on_death="stop",
        ),
        Unit(
            kafka.process(state.kafka, log("kafka"), {"LATCHKEY_STACK": secrets.stack_id}),
            layer=Layer.SERVER,
            port=ports["kafka"],
            prepare=lambda: kafka.prepare(
                state.kafka, port=ports["kafka"], controller_port=ports["kafka-controller"]
            ),
            ready=lambda: kafka.is_ready(addresses["kafka"]),
            finish=lambda: Admin(addresses["kafka"]).provision(TOPICS),
            on_death="stop",
        ),
        demo(
            "mailbox",
            options={
                "directory": state.path / "mailbox",
                "smtp-port": ports["smtp"],
                "http-port": ports["mailbox"],
            },
            env={},
        ),
        demo(
            "issuer",
            options={
                "directory": state.path / "issuer",
                "port": ports["issuer"],
                "portal-url": urls[PORTAL],
                "client-id": CLIENT_ID,
                "audience": AUDIENCE,
            },
            env={"LATCHKEY_OIDC_CLIENT_SECRET": secrets.oidc_client_secret},
        ),
        demo(
            "targets",
            options={"directory": state.path / "targets", "port": ports["targets"]},
            env={},
        ),
        demo(
            "registry",
            "kafka",
            "targets",
            options={"directory": state.path / "registry", "port": ports["registry"]},
            env={
                "LATCHKEY_KAFKA_BOOTSTRAP": addresses["kafka"],
                "LATCHKEY_TARGETS_URL": urls["targets"],
                "LATCHKEY_REGISTRY_TOKEN": secrets.registry_token,
            },
        ),
        service("migrate-share-command", "share-command", "migrate", "postgres", on_kafka=False),
        service("migrate-projector", "permission-projector", "migrate", "postgres", on_kafka=False),
        service("migrate-notifier", "notifier", "migrate", "postgres", env=notifier),
        service("migrate-gateway", "access-gateway", "migrate", "postgres", env=gateway),
        service("migrate-portal", "portal", "migrate", "postgres", env=portal, on_kafka=False),
        service(
            "share-command",
            "share-command",
            "serve",
            "kafka",
            "migrate-share-command",
            env={
                **trusted,
                "LINK_SECRET": secrets.link_secret,
                "COMMANDS_PER_MINUTE": "10000",  # a benchmark sends all of its commands as one person
            },
        ),
        service("share-command-relay", "share-command", "relay", "kafka", "migrate-share-command"),
        service("permission-projector", "permission-projector", "project", "kafka", "migrate-projector"),
        service(
            "permission-reader",
            "permission-projector",
            "serve",
            "migrate-projector",
            env=trusted,
            on_kafka=False,
        ),
        service("notifier", "notifier", "serve", "kafka", "migrate-notifier", "mailbox", env=notifier),
        service(
            "access-gateway",
            "access-gateway",
            "serve",
            "kafka",
            "migrate-projector",
            "migrate-gateway",
            "issuer",
            env=gateway,
            prepare=lambda: certificates.make(state.tls),
        ),
        service(PORTAL, "portal", "serve", "migrate-portal", "issuer", env=portal, on_kafka=False),
    ]
