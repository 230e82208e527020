"""Unsafe or inconsistent settings are refused when the process starts."""

import json
import os
import subprocess
import sys

import pytest
from pydantic import SecretStr, ValidationError

from access_gateway.settings import Settings

PUBLIC = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": "AA", "y": "AA"}]})
PRIVATE = json.dumps(
    {"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": "AA", "y": "AA", "d": "sesame"}]}
)


PEOPLE: dict[str, object] = {"oidc_issuer": "https://issuer.example", "oidc_audience": "latchkey"}
TLS: dict[str, object] = {"tls_cert_file": "cert.pem", "tls_key_file": "key.pem"}


def settings(**changes: object) -> Settings:
    values: dict[str, object] = {
        "postgres_dsn": SecretStr("postgresql://u:p@127.0.0.1:1/d"),
        "kafka_bootstrap": "127.0.0.1:1",
        "internal_keys": PUBLIC,
        "gateway_id": "gw-1",
        **changes,
    }
    return Settings.model_validate(values)


def test_nothing_may_be_dialled_unless_told_so() -> None:
    assert settings().networks == ()


@pytest.mark.parametrize("text", ["127.0.0.0/8,10.0.0.0/8", '["127.0.0.0/8", "10.0.0.0/8"]'])
def test_networks_are_read_with_commas_or_as_json(text: str) -> None:
    assert [str(each) for each in settings(target_networks=text).networks] == ["127.0.0.0/8", "10.0.0.0/8"]


def test_clients_are_told_the_public_host() -> None:
    assert settings().public_host == "127.0.0.1"
    assert settings(relay_host="0.0.0.0", relay_public_host="gw.example.com").public_host == "gw.example.com"


@pytest.mark.parametrize(
    "changes",
    [
        {"internal_keys": "nonsense"},
        {"internal_keys": '{"keys": []}'},
        {"internal_keys": PRIVATE},
        {"relay_host": "0.0.0.0"},
        {"relay_host": "not an address"},
        {"relay_ports": "200-100"},
        {"relay_ports": "0-100"},
        {"relay_ports": "60000-70000"},
        {"relay_ports": "many"},
        {"target_networks": "10.0.0.1/8"},
        {"max_staleness_seconds": 0},
        {"gateway_id": "no spaces"},
        {"access_tls_port": 8443, **PEOPLE},
        {"agent_port": 8443},
        {"tls_cert_file": "cert.pem"},
        {"tls_key_file": "key.pem"},
        {"access_port": 8080},
        {"access_port": 8080, "oidc_issuer": "https://issuer.example"},
        {"access_port": 8080, "oidc_issuer": "http://issuer.example", "oidc_audience": "latchkey"},
        {"access_port": 8080, "access_host": "0.0.0.0", **PEOPLE},
        {"rtsp_port": 8554, "access_host": "0.0.0.0", **PEOPLE},
        {"access_port": 8080, "rtsp_port": 8080, **PEOPLE},
        {"oidc_algorithms": ["HS256"]},
        {"oidc_algorithms": []},
        {"access_host": "localhost"},
    ],
)
def test_unsafe_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**changes)


def test_no_door_is_open_unless_told_so() -> None:
    told = settings()
    ports = (told.access_port, told.access_tls_port, told.rtsp_port, told.rtsps_port, told.agent_port)
    assert ports == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_port": 8080, **PEOPLE},
        {"rtsp_port": 8554, **PEOPLE},
        {"rtsp_port": 8554, "access_host": "0.0.0.0", "rtsp_unencrypted": True, **PEOPLE},
        {"access_tls_port": 8443, "access_host": "0.0.0.0", **TLS, **PEOPLE},
        {"agent_port": 8443, "access_host": "::", **TLS},
    ],
)
def test_doors_open_with_all_that_they_need(changes: dict[str, object]) -> None:
    assert settings(**changes)


def check_config(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "access_gateway", "check-config"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_check_config_hides_secrets_and_says_what_is_wrong() -> None:
    good = {
        "LATCHKEY_POSTGRES_DSN": "postgresql://gw:sesame@127.0.0.1:1/d",
        "LATCHKEY_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "LATCHKEY_INTERNAL_KEYS": PUBLIC,
        "LATCHKEY_GATEWAY_ID": "gw-1",
    }
    fine = check_config(**good)
    assert fine.returncode == 0
    assert "LATCHKEY_MAX_STALENESS_SECONDS=15.0" in fine.stdout
    assert "sesame" not in fine.stdout
    bad = check_config(**{**good, "LATCHKEY_INTERNAL_KEYS": PRIVATE})
    assert bad.returncode == 2
    assert "LATCHKEY_INTERNAL_KEYS" in bad.stderr
    assert "sesame" not in bad.stderr
