"""Settings that are refused, error codes that are documented, statements that are used."""

import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import share_command
from servicekit import pg
from share_command import errors
from share_command.__main__ import main

KEY = {"kty": "EC", "crv": "P-256", "kid": "k", "x": "x", "y": "y"}
GOOD = {
    "POSTGRES_DSN": "postgresql://share_command:hunter2@127.0.0.1/x",
    "KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "INTERNAL_KEYS": json.dumps({"keys": [KEY]}),
    "LINK_SECRET": "secret" * 6,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    for name, value in GOOD.items():
        monkeypatch.setenv(f"LATCHKEY_{name}", value)
    monkeypatch.setattr("sys.argv", ["share-command", "check-config"])
    yield


def test_check_config_prints_what_is_in_force_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    assert "LATCHKEY_KAFKA_BOOTSTRAP=127.0.0.1:1" in printed
    assert "hunter2" not in printed
    assert "secretsecret" not in printed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LINK_SECRET", "short"),
        ("KAFKA_BOOTSTRAP", ""),
        ("INTERNAL_KEYS", "not json"),
        ("INTERNAL_KEYS", json.dumps({"keys": []})),
        ("INTERNAL_KEYS", json.dumps({"keys": [KEY | {"d": "private"}]})),
        ("TOPIC_PREFIX", "a b"),
    ],
)
def test_unusable_settings_are_refused_at_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"LATCHKEY_{name}", value)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert f"LATCHKEY_{name}: " in capsys.readouterr().err


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[4] / "docs" / "errors.md").read_text()
    for kind in errors.ALL:
        assert f"| `{kind.code}` | {kind.status} | share-command |" in page


def _leaves(kind: type[Any]) -> set[type[Any]]:
    return {leaf for child in kind.__subclasses__() for leaf in _leaves(child)} or {kind}


def test_every_error_is_listed() -> None:
    assert _leaves(errors.ShareCommandError) == set(errors.ALL)


def used(statement: str) -> re.Pattern[str]:
    """Named to a connection, or to the gate, not merely in the gate's order."""
    return re.compile(rf"""(\[|fetch\(\s*|: )"{statement}"[\],}}]""")


@pytest.mark.parametrize("file", ["queries.sql", "book.sql"])
def test_every_statement_is_used(file: str) -> None:
    code = "".join(path.read_text() for path in Path(share_command.__path__[0]).rglob("*.py"))
    unused = [name for name in pg.load_queries("share_command", file) if not used(name).search(code)]
    assert unused == []


def test_no_two_statements_have_one_name() -> None:
    assert not pg.load_queries("share_command").keys() & pg.load_queries("share_command", "book.sql").keys()


def test_every_outcome_is_stored_without_an_address() -> None:
    """Refusals whose message may repeat an address are known as such, so that it is not stored."""
    assert {kind.code for kind in _leaves(errors.InvalidAddress)} == {"INVALID_EMAIL", "INVALID_PHONE"}
