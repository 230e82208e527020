"""Settings: what is missing or unsafe is named at once, secrets are never shown."""

from pathlib import Path

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


def test_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "latchkey_postgres_dsn").write_text("postgresql://u:secret@h/d\n")
    (tmp_path / "latchkey_kafka_bootstrap").write_text("another:9092")
    monkeypatch.setenv("LATCHKEY_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    monkeypatch.setenv("LATCHKEY_SECRETS_DIR", str(tmp_path))
    settings = load(Settings)
    assert settings.postgres_dsn.get_secret_value() == "postgresql://u:secret@h/d"
    assert settings.kafka_bootstrap == "127.0.0.1:9092", "the environment goes first"


def test_a_directory_of_secrets_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("LATCHKEY_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as stop:
        load(Settings)
    assert stop.value.code == 2
    assert "LATCHKEY_SECRETS_DIR" in capsys.readouterr().err
