"""Settings that would be unsafe are refused."""

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from devstack.keys import new_internal_key
from portal.settings import Settings

PRIVATE, PUBLIC = new_internal_key()
GOOD = {
    "POSTGRES_DSN": "postgresql://portal@127.0.0.1/latchkey",
    "INTERNAL_KEY": PRIVATE,
    "PUBLIC_URL": "https://portal.example.test/",
    "OIDC_ISSUER": "https://id.example.test",
    "OIDC_AUDIENCE": "latchkey",
    "OIDC_CLIENT_ID": "latchkey-portal",
    "OIDC_CLIENT_SECRET": "secret",
    "ACCESS_KEY_SECRET": "a secret of at least 32 characters",
    "SHARE_COMMAND_URL": "http://share-command:8000",
    "READ_API_URL": "http://reader:8000",
    "GATEWAY_URL": "http://gateway:8000",
    "NOTIFIER_URL": "http://notifier:8000",
}


def read(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Settings:
    """The settings from an environment that differs from a good one."""
    for name, value in {**GOOD, **changes}.items():
        monkeypatch.setenv(f"LATCHKEY_{name}", value)
    return Settings()  # pyright: ignore[reportCallIssue] - filled from the environment


def test_good_ones_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, OIDC_ALGORITHMS='["ES256"]')
    assert settings.public_url == "https://portal.example.test"
    assert settings.secure
    assert settings.oidc_algorithms == ("ES256",)
    with pytest.raises(ValidationError):
        settings.public_url = "x"  # pyright: ignore[reportAttributeAccessIssue] - that is what is tested


def test_plain_http_is_for_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not read(monkeypatch, PUBLIC_URL="http://127.0.0.1:8080").secure
    assert not read(monkeypatch, PUBLIC_URL="http://localhost:8080").secure


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "http://portal.example.test"),
        ("PUBLIC_URL", "https://portal.example.test/below"),
        ("PUBLIC_URL", "portal.example.test"),
        ("PUBLIC_URL", "https://portal.example.test/?x=1"),
        ("OIDC_ISSUER", "http://id.example.test"),
        ("OIDC_ALGORITHMS", '["HS256"]'),
        ("OIDC_ALGORITHMS", '["none"]'),
        ("OIDC_ALGORITHMS", "[]"),
        ("OIDC_CLIENT_ID", "latchkey"),
        ("OIDC_CLIENT_SECRET", ""),
        ("ACCESS_KEY_SECRET", "thirty-one characters, not more"),
        ("INTERNAL_KEY", "{}"),
        ("INTERNAL_KEY", "no json"),
        ("INTERNAL_KEY", PUBLIC),
        ("INTERNAL_KEY", PUBLIC[9:-2]),
        ("GATEWAY_URL", "ftp://gateway"),
        ("OTHER_GATEWAY_URLS", '["gateway-2:8000"]'),
        ("ACCESS_URLS", '["http://gateway.example.test:8443"]'),
        ("ACCESS_URLS", '["https://gateway.example.test/v1"]'),
        ("SESSION_HOURS", "0"),
    ],
)
def test_unsafe_ones_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(monkeypatch, **{name: value})
    assert [str(item["loc"][0]).upper() for item in refused.value.errors()] == [name]


def test_hosts_that_may_be_signed_are_the_portals_own_and_the_one_old_clients_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read(monkeypatch).signed_hosts == ("portal.example.test", "api.remote.it")
    local = read(monkeypatch, PUBLIC_URL="http://127.0.0.1:8480")
    assert local.signed_hosts == ("127.0.0.1:8480", "127.0.0.1", "api.remote.it")
    assert read(monkeypatch, SIGNED_HOSTS='["a.example.test:8443"]').signed_hosts == ("a.example.test:8443",)


@pytest.mark.parametrize("hosts", ['["https://a"]', '["A.example"]', '["a b"]', '["a/b"]', '[""]', "a"])
def test_hosts_that_cannot_be_signed_are_refused(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    with pytest.raises((ValidationError, SettingsError)):
        read(monkeypatch, SIGNED_HOSTS=hosts)


@pytest.mark.parametrize("name", ["REGISTRY_URL", "REGISTRY_TOKEN"])
def test_a_registry_has_an_address_and_a_token(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    both = {"REGISTRY_URL": "http://registry:8000", "REGISTRY_TOKEN": "a token"}
    assert read(monkeypatch, **both).registry_url == "http://registry:8000"
    monkeypatch.delenv(f"LATCHKEY_{name}")
    del both[name]
    with pytest.raises(ValidationError, match="belong together"):
        read(monkeypatch, **both)
