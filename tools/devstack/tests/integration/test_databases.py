"""Servers of tests: databases are the same on each back end, and several may be made at once."""

import secrets
import shutil
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from devstack import backends, postgres
from devstack.process import StackError
from devstack.pytest_plugin import Database

pytestmark = pytest.mark.slow


@contextmanager
def databases(cluster: postgres.Cluster, count: int = 1) -> Generator[list[str]]:
    """Some databases that were made at once; dropped afterwards."""
    names = [f"made_{secrets.token_hex(6)}" for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        try:
            list(pool.map(cluster.create, names))
            yield names
        finally:
            list(pool.map(cluster.drop, names))


async def test_text_is_the_same_on_each_back_end(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn("notifier"))
    assert await connection.fetchval("show server_encoding") == "UTF8"
    assert await connection.fetchval("select lower('ÄÖ')") == "äö"
    assert await connection.fetchval(
        "select array_agg(word order by word) from unnest($1::text[]) word", ["b", "ä", "B", "a"]
    ) == ["B", "a", "b", "ä"]
    await connection.close()


async def test_several_may_be_made_at_once(postgres_cluster: postgres.Cluster) -> None:
    with databases(postgres_cluster, 8) as names:
        for name in names:
            connection = await asyncpg.connect(postgres_cluster.dsn(name, "notifier"))
            await connection.close()


async def test_a_checkout_may_lie_in_a_path_with_spaces(
    postgres_cluster: postgres.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "my 'own' project"
    there.mkdir()
    monkeypatch.setattr(postgres, "ROLES_SQL", Path(shutil.copy(postgres.ROLES_SQL, there)))
    with databases(postgres_cluster) as [name]:
        connection = await asyncpg.connect(postgres_cluster.dsn(name, "notifier"))
        await connection.close()


def test_a_container_that_cannot_start_says_why_at_once(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pytestconfig.getoption("--stack") != "containers":
        pytest.skip("about containers: --stack containers")

    def wrong(*, durable: bool) -> list[str]:
        return ["-c", f"no_such_setting={durable}"]

    monkeypatch.setattr(postgres, "options", wrong)
    began = time.monotonic()
    with pytest.raises(StackError, match="no_such_setting"):
        next(backends.Containers().database(tmp_path))
    assert time.monotonic() - began < 60
