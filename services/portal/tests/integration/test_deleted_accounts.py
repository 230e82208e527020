"""An account that its registry has deleted: what was kept of it here goes, and nobody comes in as it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from devstack.issuer import IssuerServer
from portal.access_keys import AccessKeys, SecretBox
from portal.aliases import Aliases
from portal.app import build
from portal.sessions import Sessions
from portal.settings import Settings
from servicekit import deleted, pg
from servicekit.deleted import AccountDeletedError

SignIn = Callable[..., Awaitable[httpx.Response]]
SECONDS = 10.0
AN_HOUR = timedelta(hours=1)
KEEPING = "session", "access_key", "device_alias"


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer."""
    async with asyncio.timeout(SECONDS):
        while not (answer := await holds()):  # noqa: ASYNC110 - it is another task's
            await asyncio.sleep(0.02)
    return answer


class Registry:
    """Deletes accounts, and has them again, as share-command tells of it."""

    def __init__(self, told: list[dict[str, Any]], table: Any) -> None:
        self._told, self._table = told, table
        self._number = 0

    async def say(self, account_id: str, *, there_again: bool = False) -> None:
        """Tell, and wait until the portal has heard it."""
        self.begin(account_id, there_again=there_again)

        async def heard() -> bool:
            return await self._table.fetchval("select number from deletions_heard") >= self._number

        await until(heard)

    def begin(self, account_id: str, *, there_again: bool = False) -> None:
        """Tell."""
        self._number += 1
        self._told[:] = [item for item in self._told if item["account_id"] != account_id]
        self._told.append({"number": self._number, "account_id": account_id, "there_again": there_again})

    async def reset(self) -> None:
        self._told.clear()
        await self._table.execute("update deletions_heard set number = 0; delete from deleted_account")


@pytest.fixture
async def registry(peers: Any, table: Any) -> AsyncGenerator[Registry]:
    registry = Registry(peers.deleted, table)
    yield registry
    await registry.reset()


@pytest.fixture
async def pool(settings: Settings) -> AsyncGenerator[pg.Pool]:
    async with await pg.open_pool(settings.postgres_dsn.get_secret_value(), application="test") as pool:
        yield pool


async def kept(table: Any, account_id: str) -> dict[str, int]:
    return {
        name: await table.fetchval(f"select count(*) from {name} where account_id = $1", account_id)
        for name in KEEPING
    }


async def test_what_was_kept_goes_and_other_peoples_stays(
    portal: FastAPI, registry: Registry, table: Any, pool: pg.Pool
) -> None:
    del portal  # it is running
    for account in ("zoe", "yan"):
        await Sessions(pool, AN_HOUR).create(account)
        await AccessKeys(pool, SecretBox("a setting")).create(account)
        await Aliases(pool).set(account, "cam-1", "mine")
    await registry.say("zoe")
    assert set((await kept(table, "zoe")).values()) == {0}
    assert set((await kept(table, "yan")).values()) == {1}
    for keeping in (
        Sessions(pool, AN_HOUR).create("zoe"),
        AccessKeys(pool, SecretBox("a setting")).create("zoe"),
        Aliases(pool).set("zoe", "cam-1", "mine"),
    ):
        with pytest.raises(AccountDeletedError):
            await keeping
    await registry.say("zoe", there_again=True)
    await Aliases(pool).set("zoe", "cam-1", "mine")
    await registry.say("yan", there_again=True)
    assert set((await kept(table, "yan")).values()) == {0}, "gone and there again before it was heard"


async def test_one_that_cannot_be_stored_does_not_end_the_hearing_of_others(
    portal: FastAPI, registry: Registry, peers: Any, table: Any, pool: pg.Pool
) -> None:
    del portal
    await Sessions(pool, AN_HOUR).create("zoe")
    registry.begin("no\x00account")
    before = peers.deletions_asked

    async def goes_on() -> bool:
        return peers.deletions_asked >= before + 2

    await until(goes_on)
    peers.deleted.clear()
    await registry.say("zoe")
    assert set((await kept(table, "zoe")).values()) == {0}


async def test_nothing_is_kept_that_comes_beside_the_deletion(
    portal: FastAPI, registry: Registry, table: Any, pool: pg.Pool
) -> None:
    del portal
    keys, aliases = AccessKeys(pool, SecretBox("a setting")), Aliases(pool)
    for number in range(5):
        account = f"racer-{number}"
        made = 0

        async def keeps_on(account: str = account) -> int:
            made = 0
            while True:
                try:
                    await aliases.set(account, f"cam-{made}", "mine")
                    await keys.create(account) if made < 2 else None
                except AccountDeletedError:
                    return made
                made += 1

        keeping = asyncio.create_task(keeps_on())
        while made == 0:
            made = (await kept(table, account))["device_alias"]
        registry.begin(account)
        async with asyncio.timeout(SECONDS):
            await keeping
        assert set((await kept(table, account)).values()) == {0}


async def test_the_sign_in_ends_and_begins_no_more(
    client: httpx.AsyncClient, sign_in: SignIn, registry: Registry
) -> None:
    await sign_in("dan")
    assert (await client.get("/account")).status_code == 200
    await registry.say("dan")
    assert (await client.get("/account")).status_code == 303
    refused = await sign_in("dan")
    assert (refused.status_code, "This account was deleted" in refused.text) == (403, True)
    await registry.say("dan", there_again=True)
    assert (await sign_in("dan")).status_code == 303


async def test_its_bearer_tokens_are_refused_in_every_process_as_soon_as_one_has_heard(
    client: httpx.AsyncClient, settings: Settings, issuer: IssuerServer, registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(deleted, "REMEMBERED_SECONDS", 1_000.0)
    bearer = {"Authorization": f"Bearer {issuer.token('zoe')}"}
    body = {"query": "{ login { id } }"}
    async with (
        build(settings) as beside,
        httpx.AsyncClient(transport=httpx.ASGITransport(beside), base_url=client.base_url) as other,
    ):
        for browser in (client, other):
            assert (await browser.post("/graphql/v1", json=body, headers=bearer)).status_code == 200
        await registry.say("zoe")
        for browser in (client, other):

            async def refused(browser: httpx.AsyncClient = browser) -> httpx.Response | None:
                answer = await browser.post("/graphql/v1", json=body, headers=bearer)
                return answer if answer.status_code == 401 else None

            answer = await until(refused)
            assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_while_deletions_cannot_be_heard_all_others_go_on(
    client: httpx.AsyncClient, sign_in: SignIn, registry: Registry, peers: Any
) -> None:
    """They can still take back what they share; what was missed is heard once it can be."""
    await sign_in("dan")
    peers.deaf = True
    registry.begin("dan")
    assert (await client.get("/account")).status_code == 200
    peers.deaf = False

    async def ended() -> bool:
        return (await client.get("/account")).status_code == 303

    await until(ended)
