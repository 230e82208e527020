"""`ops swap`, as it is typed."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from latchkey_ops import scripts
from latchkey_ops.__main__ import app
from latchkey_ops.audit import Audit


def test_its_options_may_stand_before_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    async def ask(*arguments: str, **_: object) -> tuple[int, Mapping[str, Any]]:
        asked.append(arguments)
        return 0, {"comparison": None, "former": 1, "live": 9, "waited": 0.0, "number": 9}

    @contextlib.asynccontextmanager
    async def recorded(_: Audit, what: str, arguments: Mapping[str, object]) -> AsyncGenerator[None]:
        assert (what, arguments) == ("swap", {"number": 9, "options": ["--force", "--most", "3"]})
        yield

    monkeypatch.setattr(scripts, "ask", ask)
    monkeypatch.setattr(Audit, "recorded", recorded)
    monkeypatch.setenv("LATCHKEY_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("LATCHKEY_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    answer = CliRunner().invoke(app, ["swap", "--force", "--most", "3", "9"])
    assert answer.exit_code == 0, answer.output
    assert "Generation 9 is live. Generation 1 is kept" in answer.output
    assert asked == [("swap", "9", "--force", "--most", "3")]
