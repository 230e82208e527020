"""Settings: what is missing or unsafe is named at once, secrets are never shown."""

import pytest

from servicekit.settings import KafkaSettings, PostgresSettings, ServiceSettings, describe, load


class Settings(ServiceSettings, PostgresSettings, KafkaSettings):
    """Those of a service with a database and topics."""


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LATCHKEY_HTTP_PORT", "99999")
    with pytest.raises(SystemExit) as stop:
        load(Settings)
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    for name in ("LATCHKEY_HTTP_PORT", "LATCHKEY_POSTGRES_DSN", "LATCHKEY_KAFKA_BOOTSTRAP"):
        assert name in shown


def test_what_is_in_force_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATCHKEY_POSTGRES_DSN", "postgresql://u:secret@h/d")
    monkeypatch.setenv("LATCHKEY_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    shown = describe(load(Settings))
    assert "LATCHKEY_KAFKA_BOOTSTRAP=127.0.0.1:9092" in shown
    assert "secret" not in shown
